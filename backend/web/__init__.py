"""HTTP: the server, Label Studio's routes, the look-alike page and metrics."""
