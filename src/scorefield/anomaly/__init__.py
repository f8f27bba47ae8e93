"""Anomaly: what does not belong. `detector.py` finds it by a field, which `blend.py` makes better; `rows.py` reads tables."""
