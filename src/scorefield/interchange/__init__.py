"""Interchange: models of elsewhere become runs here, and runs go elsewhere. One layout of files, one module.

A module that reads registers a `Checkpoint`: it says which files are its own (`claims`), and reads them as a `Foreign`, a model
in this package's letters. `foreign.py` compares its weights with its architecture and writes the run.
"""
