"""Pre-training of a backbone on unlabelled images with MoCo v2."""
