"""Comparison of embeddings: the experiment of the thesis (chapter 6) on any catalogue with few labelled images."""
