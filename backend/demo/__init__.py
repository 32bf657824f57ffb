"""The demo: a real Label Studio on loopback, a small catalogue, and simulated annotators who label a part of it."""
