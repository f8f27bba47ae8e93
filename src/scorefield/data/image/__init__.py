"""Image files: found, decoded without losing a bit, remembered."""
