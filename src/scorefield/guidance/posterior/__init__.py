"""Posterior sampling: `posterior_sample`, its default and the alternatives; see `base`."""

from scorefield.guidance.posterior.base import Measured, Method, Posterior, posterior_sample

__all__ = ["Measured", "Method", "Posterior", "posterior_sample"]
