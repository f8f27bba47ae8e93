"""Denoising: what x0 may have been, given y = x0 + sigma·noise and a field, and what sigma was.

`level` has the posterior's mean, standard deviation and draws at a known sigma, `evidence` estimates sigma, and `cuts` treats
what clipping and masks have taken from y.
"""

from scorefield.denoising.cuts import Chains, Seen, completed, cuts_of
from scorefield.denoising.evidence import SigmaEstimate, estimate_sigma
from scorefield.denoising.level import Jacobian, denoised_at, jacobian_diagonal, posterior_draws

__all__ = [
    "Chains",
    "Jacobian",
    "Seen",
    "SigmaEstimate",
    "completed",
    "cuts_of",
    "denoised_at",
    "estimate_sigma",
    "jacobian_diagonal",
    "posterior_draws",
]
