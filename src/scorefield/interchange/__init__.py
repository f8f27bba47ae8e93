"""Interchange: runs to and from the formats of other libraries. One format, one file."""
