"""Operators: what was done to a clean sample before it was measured; see `base`."""

from scorefield.operators.absolute import Absolute
from scorefield.operators.base import Operator, dense, log_likelihood
from scorefield.operators.blur import Blur
from scorefield.operators.clip import Clip
from scorefield.operators.compose import Compose
from scorefield.operators.crop import Crop
from scorefield.operators.downsample import Downsample
from scorefield.operators.fourier import Fourier
from scorefield.operators.gray import Gray
from scorefield.operators.identity import Identity
from scorefield.operators.jpeg import JPEG
from scorefield.operators.mask import Mask
from scorefield.operators.matrix import Matrix
from scorefield.operators.parse import parse
from scorefield.operators.project import Project
from scorefield.operators.quantise import Quantise
from scorefield.operators.subsample import Subsample
from scorefield.operators.units import InUnits, in_model_space

__all__ = [
    "JPEG",
    "Absolute",
    "Blur",
    "Clip",
    "Compose",
    "Crop",
    "Downsample",
    "Fourier",
    "Gray",
    "Identity",
    "InUnits",
    "Mask",
    "Matrix",
    "Operator",
    "Project",
    "Quantise",
    "Subsample",
    "dense",
    "in_model_space",
    "log_likelihood",
    "parse",
]
