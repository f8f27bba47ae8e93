"""Guidance: what changes a field or a sampler.

Guidance that changes the score wraps the field, and guidance that changes the state wraps the sampler, so that each of one kind
works with all of the other.
"""

from scorefield.guidance.posterior import Measured, Posterior, posterior_sample
from scorefield.guidance.replacement import Filled, Replacement, fill_in
from scorefield.guidance.temperature import Tempered
from scorefield.guidance.tiles import Tiled

__all__ = ["Filled", "Measured", "Posterior", "Replacement", "Tempered", "Tiled", "fill_in", "posterior_sample"]
