"""The tests' own instrument: a wrong shape is refused wherever a function or a dataclass of the package names one."""

import ast
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import each_case
from shape_checks import KINDS, Loader, ShapeError, kind_of

import scorefield

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass
from typing import Any

def halve(x: Sample, t: PerSample | float, *, result: Any = None) -> Sample:
    return x / 2 if result is None else result

def both(x: Sample, result: Any) -> tuple[Sample, Any, PerSample | None]:
    return result

@dataclass(frozen=True)
class Pair:
    x: Sample
    t: PerSample | None = None
"""
X, T = torch.ones(3, 2, 2), torch.ones(3)


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of a module that is imported as those of the package are."""
    (tmp_path / "checked.py").write_text(SOURCE)
    loader = Loader("checked", str(tmp_path / "checked.py"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("checked", loader))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "checked", module)
    loader.exec_module(module)
    return vars(module)


def test_what_fits_passes_as_it_is(checked: dict[str, Any]) -> None:
    assert torch.equal(checked["halve"](X, T), X / 2)
    assert torch.equal(checked["halve"](x=X, t=0.5), X / 2)
    assert checked["both"](X, (X, "anything", None))[1] == "anything"
    assert checked["Pair"](X).t is None and checked["Pair"](X, t=T).t is T


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no tensor": lambda space: space["halve"](1.0, T),
    "whole numbers": lambda space: space["halve"](X.long(), T),
    "no batch": lambda space: space["halve"](torch.ones(()), T),
    "one number for all": lambda space: space["halve"](X, torch.ones(())),
    "another batch": lambda space: space["halve"](X, T[:2]),
    "two axes per sample": lambda space: space["halve"](X, T[:, None]),
    "by name": lambda space: space["halve"](X, t=T[:2]),
    "None where none is allowed": lambda space: space["halve"](None, T),
    "a result of another shape": lambda space: space["halve"](X, T, result=X[:, 0]),
    "a result of another batch": lambda space: space["halve"](X, T, result=X[:2]),
    "fewer results": lambda space: space["both"](X, (X, None)),
    "one of the results": lambda space: space["both"](X, (X, None, T[:2])),
    "a field": lambda space: space["Pair"](X, T[:2]),
}


@each_case(call=WRONG)
def test_what_does_not_fit_is_refused(checked: dict[str, Any], call: Any) -> None:
    with pytest.raises(ShapeError):
        call(checked)


def test_every_shape_that_the_package_names_is_understood() -> None:
    """An annotation of another form would be passed over in silence: only what is called or walked later may be."""
    for path in Path(scorefield.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            annotations = []
            if isinstance(node, ast.FunctionDef):
                arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
                annotations = [argument.annotation for argument in arguments if argument is not None] + [node.returns]
            elif isinstance(node, ast.AnnAssign):
                annotations = [node.annotation]
            for annotation in filter(None, annotations):
                text = ast.unparse(annotation)
                if not text.startswith(("Callable", "Iterator")):
                    parts = getattr(getattr(annotation, "slice", None), "elts", None) if text.startswith("tuple[") else None
                    for part in parts or [annotation]:
                        named = any(isinstance(name, ast.Name) and name.id in KINDS for name in ast.walk(part))
                        assert not named or kind_of(part), f"{path.name}: {text}"
