"""Backbones that a person adds: a file in ONNX or a network of timm, checked and measured before it is published."""
