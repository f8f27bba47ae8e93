"""Guidance: what bends a field. Guidance that changes the score wraps the field, so that every sampler works with it."""

from scorefield.guidance.temperature import Tempered

__all__ = ["Tempered"]
