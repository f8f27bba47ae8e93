"""Samplers: how a sample goes down a ladder. `simulate` in `base` is the only loop; a sampler is one step."""

from scorefield import renamed
from scorefield.samplers.adaptive import Adaptive
from scorefield.samplers.base import Sampler, Snapshot, Step, sample, simulate
from scorefield.samplers.compose import PredictorCorrector
from scorefield.samplers.langevin import Annealed, Consistent, Langevin
from scorefield.samplers.metropolis import AnnealedMala, Mala, curl
from scorefield.samplers.multistep import ABM, DEIS, DPMSolver, StochasticABM, UniPC
from scorefield.samplers.ode import Euler, Heun
from scorefield.samplers.sde import DDIM, Ancestral, EulerMaruyama, ReverseDiffusion

__all__ = [
    "ABM",
    "DDIM",
    "DEIS",
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
    "PredictorCorrector",
    "ReverseDiffusion",
    "Sampler",
    "Snapshot",
    "Step",
    "StochasticABM",
    "UniPC",
    "curl",
    "sample",
    "simulate",
]

__getattr__ = renamed.attributes(__name__)
