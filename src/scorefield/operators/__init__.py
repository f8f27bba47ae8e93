"""Operators: what was done to a clean sample before it was measured; see `base`."""

from scorefield.operators.base import Operator, dense, log_likelihood
from scorefield.operators.blur import Blur
from scorefield.operators.compose import Compose
from scorefield.operators.downsample import Downsample
from scorefield.operators.gray import Gray
from scorefield.operators.identity import Identity
from scorefield.operators.mask import Mask
from scorefield.operators.matrix import Matrix
from scorefield.operators.parse import parse
from scorefield.operators.units import InUnits, in_model_space

__all__ = [
    "Blur",
    "Compose",
    "Downsample",
    "Gray",
    "Identity",
    "InUnits",
    "Mask",
    "Matrix",
    "Operator",
    "dense",
    "in_model_space",
    "log_likelihood",
    "parse",
]
