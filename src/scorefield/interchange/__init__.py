"""Interchange: models of elsewhere become runs here (`checkpoints/`, `foreign.py`), and runs go elsewhere (`to_*.py`)."""
