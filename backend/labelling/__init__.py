"""From annotations to accepted labels: imports, sync with Label Studio, and the decision on each image."""
