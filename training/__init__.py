"""What makes models: pictures, backbone, head, evaluation and promotion. Only training itself imports torch."""
