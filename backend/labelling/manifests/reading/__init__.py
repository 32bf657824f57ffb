"""Reads a manifest: `columns` of its header, checked `rows`, `files` that they name, and `manifest` as a whole."""
