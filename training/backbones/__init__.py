"""Backbones: architectures, start weights, export and publication."""
