"""An append-only store of NumPy arrays of one shape: memory-mapped, with checksums, safe to share."""
