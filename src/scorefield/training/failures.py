"""What went wrong in a step: a loss or a gradient that is no finite number, or too little memory."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.config import RunConfig
from scorefield.errors import ScorefieldError
from scorefield.field import ScoreModel
from scorefield.objectives.base import Terms
from scorefield.registry import name_of


def not_finite(model: ScoreModel, terms: list[Terms], x0: Tensor, loss_is_finite: bool) -> tuple[bool, str, str]:
    """Find where a number that is not finite appeared first.

    Args:
        model: with the gradient of the step.
        terms: losses of the step, and their times.
        x0: its examples.
        loss_is_finite: whether the fault is in the gradient alone.

    Returns:
        Whether a bad example is among these, the noise level in words, and the tensor in words.
    """
    loss = torch.cat([term.loss for term in terms])
    bad = (~loss.isfinite()).nonzero().flatten()
    broken = x0.isinf() if model.takes_unknown else ~x0.isfinite()  # NaN is an unknown cell there
    level, where = "all levels", "the data" if bool(broken.any()) else "the loss itself"
    if all(term.t is not None for term in terms):
        t = torch.cat([term.t for term in terms if term.t is not None])[bad[0] if len(bad) else loss.argmax()]
        level = f"sigma = {float(model.process.sigma(t)):.4g}"
    if loss_is_finite:
        named = ((name, value.grad) for name, value in model.named_parameters() if value.grad is not None)
        where = next((f"the gradient of {name}" for name, grad in named if not bool(grad.isfinite().all())), "the gradient")
    return bool(len(bad)), level, where


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error is a lack of memory: PyTorch has a class of its own for it on GPUs, and none on CPUs."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def refuse_uncounted(model: ScoreModel, config: RunConfig, *, holed: bool) -> None:
    """Raise `ScorefieldError` for an objective that counts unknown cells, of a model that is given which are known."""
    if not model.takes_unknown or config.objective.counts_known_cells:
        return
    what = "data with unknown cells (NaN)" if holed else f"training.given={config.training.given:g}"
    name, remedy = name_of("objective", config.objective), "fill the cells" if holed else "training.given=0"
    raise ScorefieldError(
        f"got {what} for the objective {name}, whose loss counts all cells, expected one that counts the known alone: set "
        f"objective=denoising, or {remedy}"
    )


def too_short(step: int, first_steps: int) -> str:
    """Return what to say of a training whose time was over before its first steps were done."""
    return (
        f"the time was over after {step} step{'s' * (step > 1)}, fewer than the {first_steps} with which a training begins: "
        "next to nothing is learned; give it more time"
    )
