"""The parts of `benchmarks/restore.py`, each with a truth of its own."""
