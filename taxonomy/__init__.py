"""What labels mean: pure functions without input or output.

Labels:

    paths               a taxonomy path and its prefixes
    tree                the tree of choices of one control
    names               names as people read them: spellings that look the same, and similar ones
    label_config        Label Studio's labelling config, read and written
    annotations         Label Studio's annotations, read from its JSON

Agreement of annotators:

    agreement           from annotations to accepted labels, or the reason why an image has none; Krippendorff's
                        alpha and pairwise agreement per level

Predictions:

    path_probabilities  from logits to probabilities of paths
    calibration         temperature scaling, Wilson's lower bound, thresholds per level
    suggestion          the path that is suggested to the annotator
    tree_metrics        accuracy, macro-F1 and hierarchical precision and recall

Errors:

    errors              the exceptions of all packages
"""
