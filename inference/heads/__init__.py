"""Heads as numpy arrays: `head` is what they have in common, the others are one kind each."""
