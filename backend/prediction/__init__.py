"""Answers for images: suggestions, look-alikes, embeddings and evaluation, bound to projects and settings."""
