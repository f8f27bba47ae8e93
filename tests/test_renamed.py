"""Names of before 0.7: each still does what it did, and says once what it is called now."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import each_case

import scorefield
from scorefield import VE, Gaussian, SampleRng, ScorefieldError, app, geometric, registry, renamed
from scorefield.cli import main
from scorefield.config import from_dict, override, to_dict
from scorefield.drawing import SampleSpec, choose_sampler
from scorefield.levels import Levels
from scorefield.objectives.denoising import Denoising
from scorefield.progress import silent
from scorefield.recipes import DataStats
from scorefield.runs import open_run
from scorefield.samplers import ABM, sample, simulate
from scorefield.tuning.candidates import candidates_of


@pytest.fixture(autouse=True)
def first_time() -> Iterator[None]:
    """Nothing was warned of before, and every other warning is an error."""
    renamed._warn.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    renamed._warn.cache_clear()


def says(old: str, new: str) -> Any:
    return pytest.warns(FutureWarning, match=f"^{old} is called {new} now; the old name works until scorefield 0.8$")


@each_case(kind__old=list(renamed.COMPONENTS))
def test_an_old_name_of_a_component_finds_the_new_one_and_warns_once(kind: str, old: str) -> None:
    new = renamed.COMPONENTS[kind, old]
    assert new in registry.names(kind) and old not in registry.names(kind)
    with says(f"the {kind.replace('_', ' ')} '{old}'", f"'{new}'"):
        assert registry.find(kind, old) is registry.find(kind, new)
    registry.find(kind, old)  # a second warning would be an error here


def test_a_name_that_never_was_is_refused_with_names_of_now() -> None:
    with pytest.raises(ScorefieldError, match="unknown sampler 'adam': did you mean 'abm'") as refused:
        registry.find("sampler", "adam")
    assert "adams" not in str(refused.value)


@each_case(
    module__old=[
        (module, old)
        for module in ("", ".process", ".levels", ".randomness", ".config", ".data", ".recipes", ".samplers", ".samplers.base")
        for old, new in renamed.CLASSES.items()
        if hasattr(importlib.import_module(f"scorefield{module}"), new)
    ]
)
def test_an_old_name_of_a_class_is_the_new_class(module: str, old: str) -> None:
    home, new = importlib.import_module(f"scorefield{module}"), renamed.CLASSES[old]
    with says(f"scorefield{module}.{old}", f"scorefield{module}.{new}"):
        assert getattr(home, old) is getattr(home, new)
    assert getattr(home, old) is getattr(home, new)


def test_a_component_is_made_with_the_old_names_of_its_settings_too() -> None:
    for (kind, old), new in renamed.KEYS.items():
        for cls in registry.every(kind).values() if kind else ():
            if new in cls.__dataclass_fields__:
                value = getattr(cls(), new)
                renamed._warn.cache_clear()
                with says(f"the setting '{old}'", f"'{new}'"):
                    assert cls(**{old: value}) == cls(**{new: value}) == cls()
    renamed._warn.cache_clear()
    with says("the setting 'density'", "'noise_distribution'"):
        assert Denoising(density=Levels(7)).noise_distribution == Levels(7)
    with pytest.raises(Exception, match="densty"):
        Denoising(densty=Levels(7))


def test_a_name_that_no_module_had_is_an_attribute_error() -> None:
    for home in (scorefield, scorefield.samplers, scorefield.process):
        with pytest.raises(AttributeError, match="has no attribute 'Rungs'"):
            _ = home.Rungs


@each_case(old=list(renamed.MODULES))
def test_an_old_module_gives_what_is_in_the_new_one(old: str) -> None:
    name, new = f"scorefield.{old}", importlib.import_module(f"scorefield.{renamed.MODULES[old]}")
    sys.modules.pop(name, None)
    with says(name, new.__name__):
        found = importlib.import_module(name)
    public = [one for one in vars(new) if not one.startswith("_")]
    assert public and all(getattr(found, one) is getattr(new, one) for one in public)
    sys.modules.pop(name, None)


def test_an_old_module_gives_what_moved_on_and_what_was_renamed_in_it() -> None:
    for (module, old), (home, new) in renamed.MOVED.items():
        renamed._warn.cache_clear()
        with says(f"{module}.{old}", f"{home}.{new}"):
            assert renamed.attributes(module)(old) is getattr(importlib.import_module(home), new)
    sys.modules.pop("scorefield.app.common", None)
    with pytest.warns(FutureWarning, match="works until scorefield 0.8"):
        from scorefield.app.common import pick_device  # type: ignore[import-not-found]
    assert pick_device("cpu") == torch.device("cpu")


def test_old_keywords_are_taken_and_the_numbers_are_the_same() -> None:
    field = Gaussian([0.0], [[1.0]], VE())
    with says("the argument 'noise' of sample", "'rng'"):
        old = sample(field, ABM(), geometric(field.process, 4), noise=SampleRng(range(3)))
    assert torch.equal(old, sample(field, ABM(), geometric(field.process, 4), rng=SampleRng(range(3))))
    with says("the argument 'noise' of simulate", "'rng'"):
        *_, last = simulate(field, ABM(), geometric(field.process, 4), noise=SampleRng(range(3)))
    assert torch.equal(old, last.x)


def test_a_warning_points_at_the_line_that_uses_the_old_name() -> None:
    for use in (
        lambda: scorefield.Noise,
        lambda: registry.find("sampler", "adams"),
        lambda: override(registry.find("recipe", "edm")(STATS).config, ["rungs=geometric"]),
        lambda: Denoising(density=Levels(3)),
        lambda: sample(Gaussian([0.0], [[1.0]], VE()), noise=SampleRng([0])),
    ):
        renamed._warn.cache_clear()
        with pytest.warns(FutureWarning) as warned:
            use()
        assert [each.filename for each in warned] == [__file__]


def test_a_verb_takes_its_old_keyword() -> None:
    with says("the argument 'watch' of likelihood", "'progress'"), pytest.raises(ScorefieldError, match="which is no folder"):
        app.likelihood("no-run", watch=lambda fraction, text: None)


def test_the_command_takes_its_old_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with says("--rungs", "--levels"):
        assert renamed.flags(["likelihood", "run", "--rungs", "7"]) == ["likelihood", "run", "--levels", "7"]
    renamed._warn.cache_clear()
    assert renamed.flags(["sample", "--rungs=7"]) == ["sample", "--rungs=7"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.raises(SystemExit) as ended:
            main(["likelihood", "no-run", "--rungs=7"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "--rungs is called --levels now" in said and "no folder" in said


STATS = DataStats(
    source="digits", kind="image", shape=(1, 8, 8), examples=1198, classes=10, std=0.7, mean=0.0, distance=20.0, detail=-1.0
)


def test_the_settings_of_an_older_run_become_those_of_now_without_a_word() -> None:
    for name, make in registry.every("recipe").items():
        config = make(STATS).config
        older = to_dict(config)
        older["rungs"] = older.pop("ladder")
        older["parametrisation"]["label"] = older["parametrisation"].pop("noise_label")
        if "noise_distribution" in older["objective"]:
            older["objective"]["density"] = older["objective"].pop("noise_distribution")
        back = {(kind, new): old for (kind, old), new in renamed.COMPONENTS.items()}
        older["rungs"] = back.get(("ladder", older["rungs"]), older["rungs"])
        for kind in ("sampler", "process"):
            older[kind]["name"] = back.get((kind, older[kind]["name"]), older[kind]["name"])
        assert older != to_dict(config), name
        assert from_dict(older) == config, name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("objective.density=uniform", "objective.noise_distribution=uniform"),
        ("objective.density.std=0.5", "objective.noise_distribution.std=0.5"),
        ("parametrisation.label=sigma", "parametrisation.noise_label=sigma"),
        ("rungs=geometric", "ladder=geometric"),
        ("rungs=cauchy", "ladder=log-cauchy"),
        ("sampler=adams", "sampler=abm"),
    ],
)
def test_an_old_setting_changes_what_the_new_one_changes(old: str, new: str) -> None:
    config = registry.find("recipe", "edm")(STATS).config
    with pytest.warns(FutureWarning, match="the old name works until scorefield 0.8"):
        changed = override(config, [old])
    assert changed == override(config, [new]) != config


def test_every_old_name_leads_to_one_that_exists_and_none_is_in_use() -> None:
    for module in renamed.MODULES.values():
        importlib.import_module(f"scorefield.{module}")
    here = Path(scorefield.__file__).parent
    assert not [old for old in renamed.MODULES if (here / f"{old.replace('.', '/')}.py").exists()]
    assert all(new in scorefield.samplers.__all__ for new in ("ABM", "StochasticABM", "Snapshot", "Step"))


def test_reports_and_files_of_results_answer_to_their_old_keys() -> None:
    from scorefield.evaluation.baseline import BaselineResult

    result = BaselineResult("folder", "images", 20, {}, {"energy": -3.0}, None)
    with pytest.warns(FutureWarning, match=r"BaselineResult\.apart is called BaselineResult\.better_by"):
        assert result.apart == {"energy": -3.0}  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'rival'"):
        _ = result.rival  # type: ignore[attr-defined]
    old = {"rival": {"name": "x", "apart": {"own": 1.0}}, "figures": {"own": 2.0}}
    assert renamed.results(old) == {"baseline": {"name": "x", "better_by": {"own": 1.0}}, "figures": {"own": 2.0}}
    rows = [{"sampler": "adams", "ladder": "cauchy", "own": True, "beaten": None}]
    assert renamed.results({"ways": rows, "behind": []}) == {
        "measurements": [{"sampler": "abm", "ladder": "log-cauchy", "recipe": True, "beaten_by": None}],
        "dropped": [],
    }


def test_old_names_draw_and_tune_as_the_new_ones_do_with_the_runs_own_settings(tmp_path: Path) -> None:
    """A run's own sampler keeps its settings when it is named, by its old name as by its new one."""
    small = ("network.width=8", "network.depth=1", "training.pictures=0", "data.examples=300", "sampler.corrector=false")
    run = app.train("mixture", out=tmp_path / "run", steps=2, settings=small).folder
    assert open_run(run).config.sampler != ABM()
    new = choose_sampler(open_run(run), SampleSpec("abm", 5, "log-cauchy"))
    with pytest.warns(FutureWarning, match="the old name works until scorefield 0.8"):
        old = choose_sampler(open_run(run), SampleSpec("adams", 5, "cauchy"))
    assert old[0] == new[0] == open_run(run).config.sampler and torch.equal(old[1], new[1])
    renamed._warn.cache_clear()
    left_out: dict[str, str] = {}
    with pytest.warns(FutureWarning, match="'adams' is called 'abm'"):
        named = candidates_of(open_run(run), ["adams"], [5], torch.device("cpu"), left_out, silent)
    assert {candidate.name for candidate in named} == {"abm"} and not left_out
