"""Training: the readable loop, its checkpoints, its precision."""
