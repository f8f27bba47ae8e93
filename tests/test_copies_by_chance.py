"""Rows of rounded measurements are equal by chance, also where columns depend on each other; true copies are named as such."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scorefield.data import DataConfig, open_data
from scorefield.data.doctor import Findings, examine

N = 10_000
R = np.random.default_rng(1)
X, NOISE = R.normal(size=N), R.normal(size=(6, N))
KELVIN = 290 + 5 * X


def found(columns: dict[str, np.ndarray], copies: int = 0) -> Findings:
    """What the doctor says of a table whose last rows repeat the first ones."""
    rows = {name: np.concatenate([values[: N - copies], values[:copies]]) for name, values in columns.items()}
    return examine(open_data(rows, DataConfig()))


ROUNDED: dict[str, dict[str, np.ndarray]] = {
    "two columns of two decimals": {"a": X.round(2), "b": NOISE[0].round(2)},
    "one column in three units": {
        "kelvin": KELVIN.round(2),
        "celsius": (KELVIN - 273.15).round(2),
        "fahrenheit": ((KELVIN - 273.15) * 1.8 + 32).round(2),
    },
    "one column measured three times": {name: (X + 1e-3 * NOISE[i]).round(3) for i, name in enumerate("abc")},
    "six columns of three dimensions": {name: (R.normal(size=3) @ np.stack([X, *NOISE[:2]])).round(1) for name in "abcdef"},
}


@pytest.mark.parametrize("name", ROUNDED)
def test_equal_rows_of_rounded_columns_are_no_leaks(name: str) -> None:
    findings = found(ROUNDED[name])
    assert (findings.leaks, findings.copies) == (0, 0)
    assert [said for said in findings.warnings if "repeat by chance" in said and "so these are no leaks" in said]


def test_equal_rows_of_rounded_vectors_are_no_leaks() -> None:
    rows = np.stack([(scale * X + 1e-3 * noise).round(3) for scale, noise in zip((1, 1, 2, -1), NOISE, strict=False)], axis=1)
    assert len(np.unique(rows, axis=0)) < N - 50
    findings = examine(open_data(rows, DataConfig()))
    assert (findings.leaks, findings.copies) == (0, 0)


@pytest.mark.parametrize(
    "value",
    [
        lambda i: NOISE[i],
        lambda i: NOISE[i].round(2),
        lambda i: (X + 0.5 * NOISE[i]).round(3),
        lambda i: (np.floor(50 * X) % 100 + 0.05 * NOISE[i]).round(2),
    ],
    ids=["continuous", "rounded", "dependent", "clusters"],
)
def test_thirty_copied_rows_of_six_columns_are_thirty_copies(value: Callable[[int], np.ndarray]) -> None:
    findings = found({name: value(i) for i, name in enumerate("abcdef")}, copies=30)
    assert findings.copies + findings.leaks == 30
    assert findings.leaks > 0


def test_copies_are_leaks_where_chance_explains_a_few_of_them_only() -> None:
    some = np.random.default_rng(2).normal(size=(1000, 2)).round(2)
    assert 0 < len(some) - len(np.unique(some, axis=0)) < 10  # some rows meet without any copy
    alone = examine(open_data({"a": some[:, 0], "b": some[:, 1]}, DataConfig()))
    assert (alone.leaks, alone.copies) == (0, 0)
    rows = np.concatenate([some, some[:300]])
    findings = examine(open_data({"a": rows[:, 0], "b": rows[:, 1]}, DataConfig()))
    assert findings.leaks + findings.copies >= 300
