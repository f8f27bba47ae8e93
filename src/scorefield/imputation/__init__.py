"""Imputation: the holes of a table filled: `draws.py` finds what may stand in them, `output.py` writes it."""
