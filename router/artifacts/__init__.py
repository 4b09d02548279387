"""An artifact: a trained router as numbers in a folder. May import classifiers, mapping and the leaves."""
