"""Operators: what was done to a clean sample before it was measured; see `base`."""

from scorefield.operators.base import Operator, log_likelihood
from scorefield.operators.mask import Mask
from scorefield.operators.matrix import Matrix

__all__ = ["Mask", "Matrix", "Operator", "log_likelihood"]
