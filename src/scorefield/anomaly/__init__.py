"""Anomaly: rows that do not belong: `detector.py` finds them by a field, `rows.py` in a table by a run."""
