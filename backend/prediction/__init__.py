"""Suggestions, look-alikes, embeddings and evaluation for the images of a project, as its settings say."""
