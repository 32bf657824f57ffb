"""Where things are kept: image documents, image bytes, the webhook journal, embeddings and models."""
