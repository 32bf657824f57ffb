"""Training of models: splits, backbones, pre-training, heads, and the study that compares embeddings."""
