"""What answers a request: images to embeddings to probabilities, and nearest neighbours. Imports no torch."""
