"""Processes: how data are noised. `base` has what every process is, `continuous` and `chains` the registered ones."""

from scorefield import renamed
from scorefield.process.base import Positive, Process
from scorefield.process.chains import DDPMChain, Tabulated
from scorefield.process.continuous import VE, VP, Cosine, LinearVE, Noiseless, RectifiedFlow, SubVP

__all__ = [
    "VE",
    "VP",
    "Cosine",
    "DDPMChain",
    "LinearVE",
    "Noiseless",
    "Positive",
    "Process",
    "RectifiedFlow",
    "SubVP",
    "Tabulated",
]

__getattr__ = renamed.attributes(__name__)
