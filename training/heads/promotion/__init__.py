"""Whether a new version is served: `champion` compares it with the one that is served, `decision` decides."""
