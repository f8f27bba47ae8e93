"""Delimited text: the layout of a file, the meaning of its cells, and how they are written again."""
