"""Advice: what a person should know of restored files, and what to do about it, where the numbers say that something is wrong.

A residual (`residuals.py`) that is off by more than chance has one of three causes. A method without weights is biased, and its
draws may lie beyond the noise, or copy it. Noise was stated or estimated too small or too large. Another operator measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from scorefield import registry
from scorefield.restoration import Restored
from scorefield.specs import RestoreSpec

FEW = 2  # particles that count, below which samples come from one
FAR, NEAR = 1.5, 0.8  # times the expected residual


def advice(answers: Sequence[Restored], spec: RestoreSpec) -> tuple[str, ...]:
    """Return a sentence for everything that is strange about answers.

    Args:
        answers: of one run.
        spec: how they were asked for.
    """
    notes = []
    for one in answers:
        particles = one.posterior.particles * len(one.samples)
        if len(one.samples) > 1 and float(one.posterior.effective.mean()) * particles < FEW:
            notes.append(
                f"{one.name}: hardly more than one of {particles} particles explains what was measured, so its samples are "
                "more alike than they should be: ask for more --samples, or state a larger --noise"
            )
        if one.noise > 0:
            fit, far, near = one.fit, one.fit.is_above(FAR), one.fit.is_below(NEAR)
            if far or near:
                notes.append(
                    f"{one.name}: the samples lie {fit.residual:.2g} times the noise from what was measured, where about "
                    f"{fit.expected:.2g} is expected: {_far(one, spec) if far else _near(one, spec)}"
                )
    return tuple(notes)


def _is_biased(one: Restored) -> bool:
    return not registry.find("posterior", one.posterior.method).keeps_weights


def _far(one: Restored, spec: RestoreSpec) -> str:
    if _is_biased(one):
        return f"{one.posterior.method} is biased, and may do that with the right operator and noise: use --method auto"
    if spec.simulate:
        return (
            "operator and noise are right, as they were simulated, so the run knows such data too little: train it longer, or "
            "on data like these"
        )
    if one.task.estimated:
        return "its noise is larger than was estimated, or another operator measured it: state --noise, or correct --operator"
    if spec.noise is None:
        return (
            "its noise is larger than that of rounding, which is taken where none is said, or another operator measured it: "
            "state --noise, or correct --operator"
        )
    return "its noise is larger than was said, or another operator measured it: correct --noise or --operator"


def _near(one: Restored, spec: RestoreSpec) -> str:
    if _is_biased(one):
        return f"{one.posterior.method} is biased, and its draws copy the noise: use --method auto"
    if one.task.estimated:
        return "the noise was probably estimated too large: state --noise"
    if spec.simulate:
        return "the samples copy the noise, though it was simulated and is as it was said: train the run longer"
    return "its noise is smaller than was said: state a smaller --noise"
