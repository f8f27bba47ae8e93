"""Arguments of the verbs: one of a wrong type, name or number is refused in one sentence before anything is done."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from scorefield import ScorefieldError, app
from scorefield.app.arguments import checked

VERBS = ("evaluate", "forget_tuning", "inspect", "likelihood", "plan", "sample", "train", "tune", "verify")
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("train", {"source": None}, "got NoneType for 'data', expected something with a length and examples by number: give"),
    ("train", {"source": 123}, "got int for 'data'"),
    ("train", {"source": {"x": [1.0]}}, "got 1 rows in 'table', expected at least 8"),
    ("train", {"source": b"x.npy"}, "got bytes for 'data', expected examples"),
    ("train", {"source": iter([1])}, "got list_iterator for 'data'"),
    ("train", {"steps": "many"}, "got steps='many' for train, expected a whole number or None"),
    ("train", {"steps": 1.5}, "got steps=1.5"),
    ("train", {"steps": True}, "got steps=True"),
    ("train", {"seed": "1"}, "got seed='1'"),
    ("train", {"seed": -1, "steps": 1}, "got -1 for seed"),
    ("train", {"settings": "a=b"}, "got settings='a=b' for train, expected a list of texts"),
    ("train", {"settings": [1]}, r"got settings=\[1\]"),
    ("train", {"out": 3}, "got out=3 for train, expected a path or None"),
    ("train", {"progress": 3}, "got progress=3 for train, expected something to call"),
    ("train", {"resume": "yes"}, "got resume='yes' for train, expected True or False"),
    ("train", {"step": 3}, "unknown argument of train 'step': did you mean 'steps'"),
    ("plan", {"source": None}, "got NoneType for 'data'"),
    ("plan", {"fit": "cut"}, "got fit='cut' for plan, expected 'crop' or 'pad' or 'stretch' or None"),
    ("plan", {"size": (8, 8, 8)}, r"got size=\(8, 8, 8\)"),
    ("sample", {"n": "many"}, "got n='many' for sample, expected a whole number"),
    ("sample", {"n": torch.ones(2)}, "got n="),
    ("sample", {"temperature": "hot"}, "got temperature='hot' for sample, expected a number"),
    ("sample", {"seconds": 10**400}, "unknown argument of sample 'seconds'"),
    ("sample", {"label": 3.5}, "got label=3.5 for sample, expected a text, a whole number or None"),
    ("evaluate", {"n": 50.5}, "got n=50.5"),
    ("evaluate", {"features": 3}, "got features=3 for evaluate, expected a path, a Module or None"),
    ("tune", {"samplers": "abm"}, "got samplers='abm' for tune, expected a list of texts or None"),
    ("tune", {"evaluations": ("a",)}, r"got evaluations=\('a',\) for tune, expected a list of whole numbers"),
    ("tune", {"seconds": 10**400}, "got seconds="),
    ("likelihood", {"tolerance": "x"}, "got tolerance='x' for likelihood, expected a number or None"),
    ("verify", {"quick": 3}, "got quick=3 for verify, expected True or False"),
    *((verb, {"run": wrong}, f"got run={wrong} for {verb}, expected a path") for verb in VERBS[:4] for wrong in (None, 123)),
]


@pytest.mark.parametrize(("verb", "named", "says"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_argument_is_refused_in_one_sentence_and_nothing_is_written(
    verb: str, named: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = {"train": {"source": "two-moons"}, "plan": {"source": "two-moons"}, "verify": {}}.get(verb, {"run": "none"})
    with pytest.raises(ScorefieldError, match=says) as caught:
        getattr(app, verb)(**{**first, **named})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_every_verb_is_checked_and_keeps_its_signature() -> None:
    functions = {name for name in app.__all__ if inspect.isfunction(getattr(app, name))}
    assert functions - {name for name in functions if name.endswith("_table")} == set(VERBS)
    for verb in VERBS:
        with pytest.raises(ScorefieldError, match=f"unknown argument of {verb} 'wacth'"):
            getattr(app, verb)(wacth=1)
    assert inspect.signature(app.train) == inspect.signature(sys.modules["scorefield.app.train"].train)
    assert app.train.__doc__ == sys.modules["scorefield.app.train"].train.__doc__


def test_a_missing_or_a_superfluous_argument_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ScorefieldError, match=r"missing a required argument: 'run', expected sample\(run, \.\.\.\)"):
        app.sample()  # type: ignore[call-arg]
    with pytest.raises(ScorefieldError, match="too many positional arguments"):
        app.inspect("a", "b")  # type: ignore[call-arg]


def test_numbers_of_numpy_and_torch_and_any_list_are_as_good_as_pythons() -> None:
    @checked
    def show(
        n: int,
        times: float = 1.0,
        names: tuple[str, ...] = (),
        size: int | tuple[int, int] | None = None,
        way: Literal["up", "down"] = "up",
        where: str | Path = "",
        bold: bool = False,
    ) -> tuple[Any, ...]:
        return n, times, names, size, way, where, bold

    got = show(np.int64(3), np.float32(0.5), ["a"], (np.int8(2), torch.tensor(4)), "down", Path("x"), np.True_)
    assert got == (3, 0.5, ("a",), (2, 4), "down", Path("x"), True)
    assert [type(part) for part in got[:2]] == [int, float]
    assert show(1, 2)[1] == 2.0
