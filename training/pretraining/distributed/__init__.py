"""A pre-training over several devices or machines."""
