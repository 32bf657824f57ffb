"""The pages on which a lead labels many images in one action: their words, and the paths that are typed there."""
