"""What a head learns from: labelled images, their parts, targets, augmented views and embeddings."""
