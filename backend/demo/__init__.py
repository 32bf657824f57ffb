"""The demo: a real Label Studio on loopback, a small catalogue, and people who annotate a part of it."""
