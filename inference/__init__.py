"""From images to embeddings, probabilities and nearest neighbours: what a request needs. No torch, no HTTP."""
