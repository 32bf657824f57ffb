"""From annotations to accepted labels: imports, sync with Label Studio, and decisions of agreement."""
