"""The commands that train: heads, backbones, pre-training and studies."""
