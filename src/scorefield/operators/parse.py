"""The text form: "blur:2,downsample:4" is a blur, then a downsampling of what it leaves."""

from __future__ import annotations

from scorefield.errors import ScorefieldError
from scorefield.operators.base import Operator
from scorefield.operators.compose import compose
from scorefield.registry import find


def parse(text: str, *, seed: int = 0) -> Operator:
    """Return the operator that a text describes: NAME or NAME:ARG, several with commas, the first acts first.

    Args:
        text: for example "mask:hole.png", "blur:1,downsample:2", "gray".
        seed: of what is random in an operator itself, as a random projection.

    Returns:
        The operator.

    Raises:
        ScorefieldError: an unknown name, with the nearest known one, or a wrong argument.

    >>> parse("blur:1,downsample:2")
    Blur(1, reflect) then Downsample(2, area)
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ScorefieldError(
            f"got {text!r} for an operator, expected NAME or NAME:ARG between commas: for example blur:1,downsample:2"
        )
    made = []
    for part in parts:
        name, _, argument = part.partition(":")
        operator: Operator = find("operator", name).of_text(argument, seed=seed)
        made.append(operator)
    return compose(*made)
