"""Linear discriminant analysis on a tree: `closed_form` fits it, `held_out` predicts and calibrates by folds."""
