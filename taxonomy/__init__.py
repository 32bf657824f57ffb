"""What labels mean: paths, trees, annotations, agreement, suggestions and metrics. Pure functions, no I/O."""
