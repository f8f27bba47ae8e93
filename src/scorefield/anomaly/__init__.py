"""Anomaly: what does not belong: found by a field (`detector.py`, `blend.py`) in tables (`rows.py`) and files (`files.py`)."""
