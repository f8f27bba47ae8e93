"""Layouts of files in which models are published: one module registers one `Checkpoint`.

It says which files are its own (`claims`), and reads them as a `Foreign`, a model in this package's letters.
"""
