"""Objectives: `objective(field, x0, cond, rng=...) -> one loss per example`. They use fields, never networks."""

from scorefield.objectives.base import Objective, Terms
from scorefield.objectives.contrastive import Contrastive, Persistent
from scorefield.objectives.denoising import Denoising
from scorefield.objectives.diffusion import Simple, VariationalBound
from scorefield.objectives.fisher import ExplicitFisher
from scorefield.objectives.implicit import Implicit
from scorefield.objectives.sliced import FiniteDifference, Sliced

__all__ = [
    "Contrastive",
    "Denoising",
    "ExplicitFisher",
    "FiniteDifference",
    "Implicit",
    "Objective",
    "Persistent",
    "Simple",
    "Sliced",
    "Terms",
    "VariationalBound",
]
