"""Arguments of the verbs: one of a wrong type, name or number is refused in one sentence before anything is done."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic
import pydantic.dataclasses
import pytest
import torch
from helpers import each_case

from scorefield import ScorefieldError, app
from scorefield.app.arguments import checked

VERBS = ("evaluate", "forget_tuning", "inspect", "likelihood", "plan", "sample", "train", "tune", "verify")
VERBS += ("convert", "denoise", "distill", "export", "import_", "impute", "interpolate", "odd", "restore")
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
    ("sample", {"spec": app.SampleSpec(temperature="hot")}, "got temperature='hot' for sample, expected a number"),
    ("sample", {"spec": {"steps": 3}}, r"got spec={'steps': 3} for sample, expected a SampleSpec: correct spec"),
    ("sample", {"temprature": 1.0}, "unknown argument of sample 'temprature': did you mean 'temperature'"),
    ("sample", {"device": "tpu"}, "got device='tpu' for sample, expected 'auto' or 'cpu' or 'cuda': correct device"),
    ("sample", {"label": 3.5}, "got label=3.5 for sample, expected a text, a whole number or None"),
    ("evaluate", {"n": 50.5}, "got n=50.5"),
    ("evaluate", {"features": 3}, "got features=3 for evaluate, expected a path, a Module or None"),
    ("tune", {"samplers": "abm"}, "got samplers='abm' for tune, expected a list of texts or None"),
    ("tune", {"evaluations": ("a",)}, r"got evaluations=\('a',\) for tune, expected a list of whole numbers"),
    ("tune", {"seconds": 10**400}, "got seconds="),
    ("likelihood", {"tolerance": "x"}, "got tolerance='x' for likelihood, expected a number or None"),
    ("restore", {"noise": [1]}, r"got noise=\[1\] for restore, expected a text, a number or None: correct noise"),
    ("restore", {"samples": 2.5}, "got samples=2.5 for restore, expected a whole number"),
    ("restore", {"operator": 3}, "got 'none', which is no folder"),
    ("interpolate", {"frames": "many"}, "got frames='many' for interpolate, expected a whole number"),
    ("verify", {"quick": 3}, "got quick=3 for verify, expected True or False"),
    *((verb, {"run": wrong}, f"got run={wrong} for {verb}, expected a path") for verb in VERBS[:4] for wrong in (None, 123)),
]


@each_case(verb__named__says=WRONG)
def test_a_wrong_argument_is_refused_in_one_sentence_and_nothing_is_written(
    verb: str, named: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = {"train": {"source": "two-moons"}, "plan": {"source": "two-moons"}, "verify": {}}.get(verb, {"run": "none"})
    first |= {"restore": {"source": "x", "operator": "gray"}, "interpolate": {"a": 1, "b": 2}}.get(verb, {})
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


def test_a_missing_or_a_superfluous_argument_is_answered_with_those_that_there_are() -> None:
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


# --- specs -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Plain:
    __flat__: ClassVar[bool] = True

    steps: int | None = None
    scale: float = 1.0


@pydantic.dataclasses.dataclass(frozen=True)
class Bounded:
    __flat__: ClassVar[bool] = True

    seed: Annotated[int, pydantic.Field(ge=0)] = 0


@checked
def draw(run: str, plain: Plain = Plain(scale=2.0), bounded: Bounded = Bounded(), *, n: int = 1) -> tuple[Any, ...]:  # noqa: B008
    return run, plain, bounded, n


def test_the_fields_of_a_spec_are_keywords_too() -> None:
    assert draw("a") == ("a", Plain(None, 2.0), Bounded(0), 1)
    assert draw("a", steps=3, seed=4, n=2) == draw("a", Plain(3, 2.0), Bounded(4), n=2)
    assert draw(run="a", scale=np.float32(0.5))[1] == Plain(None, 0.5)
    assert type(draw("a", Plain(scale=3))[1].scale) is float  # a spec that is given is checked, too


def test_a_field_given_beside_a_spec_replaces_the_specs_own() -> None:
    given = Plain(steps=3, scale=5.0)
    assert draw("a", given, steps=7)[1] == Plain(7, 5.0)
    assert draw("a", plain=given, steps=None)[1] == Plain(None, 5.0)
    assert given == Plain(steps=3, scale=5.0)


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"scale": "wide"}, "got scale='wide' for draw, expected a number: correct scale"),
        ({"plain": Plain(steps=1.5)}, "got steps=1.5 for draw, expected a whole number or None: correct steps"),
        ({"plain": Bounded()}, "got plain=Bounded(seed=0) for draw, expected a Plain: correct plain"),
        ({"seed": -1}, "got seed=-1 for draw, input should be greater than or equal to 0: correct seed"),
        (
            {"sede": 1},
            "unknown argument of draw 'sede': did you mean 'seed'? Known: bounded, n, plain, run, scale, seed, steps.",
        ),
    ],
)
def test_a_wrong_field_is_refused_by_its_own_name(named: dict[str, Any], says: str) -> None:
    with pytest.raises(ScorefieldError) as caught:
        draw("a", **named)
    assert str(caught.value) == says


def test_one_keyword_never_means_two_things() -> None:
    @checked
    def twice(plain: Plain = Plain(), *, steps: int = 0) -> None:
        pass

    with pytest.raises(TypeError, match="twice takes 'steps' twice: rename a parameter, or a field of Plain"):
        twice()
