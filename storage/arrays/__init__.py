"""Append-only stores of NumPy arrays of one shape: memory-mapped, checked by checksums, safe to share."""
