"""Samplers: how a sample walks down a ladder. `simulate` in `base` is the only loop; a sampler is one step."""

from scorefield.samplers.adaptive import Adaptive
from scorefield.samplers.base import Moment, Rung, Sampler, sample, simulate
from scorefield.samplers.compose import PredictorCorrector
from scorefield.samplers.langevin import Annealed, Consistent, Langevin
from scorefield.samplers.metropolis import AnnealedMala, Mala, curl
from scorefield.samplers.multistep import DEIS, Adams, DPMSolver, UniPC
from scorefield.samplers.ode import Euler, Heun
from scorefield.samplers.sde import DDIM, Ancestral, EulerMaruyama, ReverseDiffusion
from scorefield.samplers.stochastic import StochasticAdams

__all__ = [
    "DDIM",
    "DEIS",
    "Adams",
    "Adaptive",
    "Ancestral",
    "Annealed",
    "AnnealedMala",
    "Consistent",
    "DPMSolver",
    "Euler",
    "EulerMaruyama",
    "Heun",
    "Langevin",
    "Mala",
    "Moment",
    "PredictorCorrector",
    "ReverseDiffusion",
    "Rung",
    "Sampler",
    "StochasticAdams",
    "UniPC",
    "curl",
    "sample",
    "simulate",
]
