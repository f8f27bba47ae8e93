"""Posterior sampling: `posterior_sample`, its default and the alternatives; see `base`."""

from scorefield.guidance.posterior.base import Measured, Method, Posterior, posterior_sample
from scorefield.guidance.posterior.diffpir import Diffpir
from scorefield.guidance.posterior.dps import Dps
from scorefield.guidance.posterior.mmps import Mmps
from scorefield.guidance.posterior.pigdm import Pigdm
from scorefield.guidance.posterior.repaint import Repaint
from scorefield.guidance.posterior.split_gibbs import SplitGibbs
from scorefield.guidance.posterior.stein import answer_discrepancy, stein_discrepancy
from scorefield.guidance.posterior.tmpd import Tmpd
from scorefield.guidance.posterior.twisted import Twisted

__all__ = [
    "Diffpir",
    "Dps",
    "Measured",
    "Method",
    "Mmps",
    "Pigdm",
    "Posterior",
    "Repaint",
    "SplitGibbs",
    "Tmpd",
    "Twisted",
    "answer_discrepancy",
    "posterior_sample",
    "stein_discrepancy",
]
