"""Samplers: how a sample walks down a ladder. `simulate` in `base` is the only loop; a sampler is one step."""

from scorefield.samplers.base import Moment, Rung, Sampler, sample, simulate
from scorefield.samplers.langevin import Annealed, Consistent, Langevin
from scorefield.samplers.ode import Euler, Heun

__all__ = ["Annealed", "Consistent", "Euler", "Heun", "Langevin", "Moment", "Rung", "Sampler", "sample", "simulate"]
