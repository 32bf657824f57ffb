"""The thesis' experiment (chapter 6) on any catalogue: what embeddings are worth where few pictures are labelled."""
