"""Names: every component can be found by its own, near misses get help, and nothing enters twice."""

import dataclasses
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import each_case
from pydantic import ValidationError

from scorefield import ScorefieldError, registry
from scorefield.data import DataConfig
from scorefield.errors import unknown
from scorefield.samplers import Sampler

KINDS = sorted(registry.HOMES)
DECLARED = {"order", "dwells", "remembers", "evaluations_per_step", "ladder", "levels"}  # that a sampler declares
ALL = {f"{kind} {name}": (kind, name) for kind in KINDS for name in registry.every(kind)}


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A copy of every table: what a test registers is gone when it ends."""
    before = {kind: registry.names(kind) for kind in KINDS}
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_tables", {kind: dict(table) for kind, table in registry._tables.items()})
        yield
    assert {kind: registry.names(kind) for kind in KINDS} == before


@each_case(kind=KINDS)
def test_every_kind_has_components_and_lists_their_names_sorted(kind: str) -> None:
    names = registry.names(kind)
    assert names == sorted(names) == list(registry.every(kind))
    assert names
    assert all(name == name.lower() and " " not in name for name in names)  # they are typed on a command line


@each_case(kind=KINDS)
def test_the_name_of_what_is_found_is_the_name_that_was_asked_for(kind: str) -> None:
    for name in registry.names(kind):
        thing = registry.find(kind, name)
        assert registry.name_of(kind, thing) == name
        if inspect.isclass(thing):
            assert registry.name_of(kind, object.__new__(thing)) == name  # an instance, whatever its settings


@each_case(kind=KINDS)
def test_no_component_has_two_names(kind: str) -> None:
    things = list(registry.every(kind).values())
    assert len({id(thing) for thing in things}) == len(things)


@each_case(component=ALL)
def test_a_near_miss_of_any_name_is_answered_with_that_name(component: tuple[str, str]) -> None:
    kind, name = component
    for typo in (name + name[-1], name.upper()):
        with pytest.raises(ScorefieldError) as refusal:
            registry.find(kind, typo)
        text = str(refusal.value)
        assert text.startswith(f"unknown {registry.in_words(kind)} {typo!r}: did you mean ")
        assert repr(name) in text.split("Known:")[0]
        assert all(known in text.split("Known:")[1] for known in registry.names(kind))
        assert "\n" not in text


def test_a_name_like_no_other_gets_the_list_and_no_guess() -> None:
    with pytest.raises(ScorefieldError) as refusal:
        registry.find("metric", "zzzzzzzz")
    assert str(refusal.value).startswith("unknown metric 'zzzzzzzz'. Known: ")
    assert str(unknown("pet", "x", [])) == "unknown pet 'x'. Known: none."


def test_an_unknown_kind_is_refused_with_a_guess() -> None:
    with pytest.raises(ScorefieldError, match="unknown kind of component 'samplers': did you mean 'sampler'"):
        registry.every("samplers")


def test_a_thing_that_was_never_registered_has_no_name() -> None:
    with pytest.raises(ScorefieldError, match="unknown process 'dict'"):
        registry.name_of("process", {})


@pytest.mark.usefixtures("scratch")
def test_a_taken_name_is_refused_and_keeps_its_owner() -> None:
    owner = registry.find("sampler", "heun")
    with pytest.raises(TypeError, match="the sampler name 'heun' is taken"):

        @registry.register("sampler", "heun")
        class Usurper:
            pass

    assert registry.find("sampler", "heun") is owner
    assert registry.register("sampler", "heun")(owner) is owner  # the same class may enter again: a module read twice


@pytest.mark.usefixtures("scratch")
def test_names_of_different_kinds_do_not_meet() -> None:
    @registry.register("metric", "heun")
    class Other:
        pass

    assert registry.find("metric", "heun") is Other
    assert registry.find("sampler", "heun") is not Other
    assert registry.name_of("metric", Other()) == "heun"


@pytest.mark.usefixtures("scratch")
def test_a_registered_thing_is_returned_unchanged() -> None:
    def ladder() -> int:
        """A ladder."""
        return 7

    assert registry.register("ladder", "seven")(ladder) is ladder
    assert registry.find("ladder", "seven")() == 7


@pytest.mark.usefixtures("scratch")
def test_a_new_file_in_a_package_is_found_without_editing_any_other(tmp_path: Path, monkeypatch) -> None:
    nets = importlib.import_module("scorefield.nets")
    (tmp_path / "wobble.py").write_text(
        'from scorefield.registry import register\n\n@register("network", "wobble")\nclass Wobble:\n    """Wobbles."""\n'
    )
    with monkeypatch.context() as patch:
        patch.setattr(nets, "__path__", [*nets.__path__, str(tmp_path)])
        importlib.invalidate_caches()
        try:
            assert registry.find("network", "wobble").__doc__ == "Wobbles."
        finally:
            sys.modules.pop("scorefield.nets.wobble", None)
            vars(nets).pop("wobble", None)


# What every registered component declares


@each_case(component=ALL)
def test_every_component_says_in_its_first_line_what_it_is(component: tuple[str, str]) -> None:
    kind, name = component
    thing = registry.find(kind, name)
    first = (thing.__doc__ or "").strip().split("\n")[0]
    assert first, "no docstring"
    assert not first.startswith(f"{thing.__name__}("), "the docstring is the one that dataclass makes up"
    assert 15 <= len(first) <= 150


@each_case(name=registry.names("sampler"))
def test_every_sampler_declares_its_order_its_cost_and_a_ladder_that_exists(name: str) -> None:
    sampler = registry.find("sampler", name)()
    assert sampler.order is None or sampler.order >= 1
    assert sampler.evaluations_per_step is None or sampler.evaluations_per_step >= 1  # None: not the same for every step
    assert sampler.ladder in registry.names("ladder")
    assert sampler.levels >= 1
    assert isinstance(sampler.dwells, bool) and isinstance(sampler.remembers, bool)
    assert sampler.dwells == (sampler.order is None)  # what stays on its level makes no error that falls with the step
    assert not DECLARED & {f.name for f in dataclasses.fields(sampler)}


@pytest.mark.parametrize("missing", sorted(DECLARED))
def test_a_sampler_that_leaves_a_property_out_cannot_be_made(missing: str) -> None:
    declared = {"order": 1, "dwells": False, "remembers": False, "evaluations_per_step": 1, "ladder": "karras", "levels": 5}
    assert set(declared) == DECLARED
    whole = type("Whole", (Sampler,), {**declared, "step": lambda self, field, x, step, state, noise: (x, state, None)})
    assert whole().levels == 5
    with pytest.raises(TypeError, match=f"Can't instantiate abstract class Silent .*{missing}"):
        type("Silent", (Sampler,), {name: value for name, value in vars(whole).items() if name != missing})()


@pytest.mark.parametrize("name", registry.names("metric"))
def test_every_metric_declares_which_way_is_better(name: str) -> None:
    assert registry.find("metric", name).better in ("lower", "higher")


@pytest.mark.parametrize("kind", ["process", "parametrisation", "density", "network", "objective", "weighting", "sampler"])
def test_every_component_of_a_run_is_a_frozen_dataclass_and_so_its_own_configuration(kind: str) -> None:
    for name, component in registry.every(kind).items():
        assert dataclasses.is_dataclass(component), name
        assert component.__dataclass_params__.frozen, name


def test_a_component_refuses_a_setting_that_it_does_not_have() -> None:
    """In Python as in JSON: one that is misspelt, or of another version, must not be passed over in silence."""
    kinds = ("process", "parametrisation", "noise_distribution", "network", "objective", "weighting", "sampler")
    components = {name: kind for of in kinds for name, kind in registry.every(of).items()}
    assert len(components) > 40
    for name, kind in components.items():
        with pytest.raises(ValidationError, match=r"nonsense\n.*Unexpected keyword argument"):
            kind(nonsense=1)
        assert kind.__pydantic_config__["extra"] == "forbid", name
    with pytest.raises(ValidationError, match=r"sise\n.*Unexpected keyword argument"):
        DataConfig(sise=3)
