"""Posterior sampling: `posterior_sample`, its default and the alternatives; see `base`."""

from scorefield.guidance.posterior.base import Measured, Method, Posterior, posterior_sample
from scorefield.guidance.posterior.twisted import Twisted

__all__ = ["Measured", "Method", "Posterior", "Twisted", "posterior_sample"]
