"""A run is one nested value: JSON and back changes nothing, one setting changes one leaf, and every slip gets a sentence."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import each_case

import scorefield
from scorefield import VP, ScorefieldError, Tabulated
from scorefield.config import RunConfig, data_config, from_dict, override, to_dict
from scorefield.data import DataConfig
from scorefield.noise_label import noise_label_of, unvisited
from scorefield.recipes import DataStats
from scorefield.registry import every, find, in_words

FACTS = {
    "small images": DataStats("digits", "image", (1, 8, 8), 1200, torch.zeros(1, 8, 8), 0.61, 9.1234, -0.04, 10),
    "colour images": DataStats("photos", "image", (3, 33, 40), 50_000, torch.zeros(3, 33, 40), 0.5, 60.0, 1.6, 0),
    "vectors": DataStats("two-moons", "vector", (2,), 18_000, torch.zeros(2), 1.0, 4.25, 0.0, 0),
}
RUNS: dict[str, RunConfig] = {
    f"{recipe} on {facts}": find("recipe", recipe)(FACTS[facts]).config for recipe in every("recipe") for facts in FACTS
}
AUTO = RUNS["auto on small images"]


def _leaves(value: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return every setting that holds no others, by dotted key."""
    if isinstance(value, dict):
        return {key: leaf for name, inner in value.items() for key, leaf in _leaves(inner, (*path, name)).items()}
    return {".".join(path): value}


def _refusal(settings: list[str], config: RunConfig = AUTO) -> str:
    with pytest.raises(ScorefieldError) as refusal:
        override(config, settings)
    text = str(refusal.value)
    assert "\n" not in text and "ArgsKwargs" not in text and "pydantic" not in text and len(text) < 400
    return text


# To JSON and back


@each_case(name=list(RUNS))
def test_a_run_comes_back_from_plain_values_and_from_json_as_it_was(name: str) -> None:
    run = RUNS[name]
    assert from_dict(to_dict(run)) == run
    text = json.dumps(to_dict(run), allow_nan=False)
    assert json.loads(text) == to_dict(run)  # nothing in it that JSON would change: no tuples, no classes
    assert from_dict(json.loads(text)) == run
    assert json.dumps(to_dict(from_dict(json.loads(text)))) == text


COMPONENTS = [
    (kind, name) for kind in ("process", "parametrisation", "network", "objective", "sampler") for name in every(kind)
]


@each_case(one=COMPONENTS)
def test_every_registered_component_survives_the_round_trip(one: tuple[str, str]) -> None:
    kind, name = one
    component = Tabulated.linear(20) if name == "tabulated" else find(kind, name)()
    run = dataclasses.replace(AUTO, **{kind: component})
    again = from_dict(json.loads(json.dumps(to_dict(run), allow_nan=False)))
    assert again == run
    assert type(getattr(again, kind)) is find(kind, name)
    assert to_dict(run)[kind]["name"] == name


@each_case(kind__name=[(kind, name) for kind in ("noise_distribution", "weighting") for name in every(kind)])
def test_a_component_within_a_component_survives_the_round_trip_too(kind: str, name: str) -> None:
    run = dataclasses.replace(AUTO, objective=dataclasses.replace(AUTO.objective, **{kind: find(kind, name)()}))
    assert from_dict(json.loads(json.dumps(to_dict(run)))) == run
    assert to_dict(run)["objective"][kind]["name"] == name


def test_plain_values_are_what_a_person_would_write() -> None:
    written = to_dict(AUTO)
    assert written["process"] == {"name": "ve", "sigma_min": 0.02, "sigma_max": 9.1234}
    assert written["network"]["channels"] == [32, 64]
    assert written["sampler"] == {"name": "abm", "past": 3, "corrector": True}
    assert written["training"]["batch"] == 64
    assert written["source"] == "digits"


def test_a_setting_that_json_leaves_out_takes_its_default() -> None:
    """A run that was written before a setting existed still opens."""
    values = to_dict(AUTO)
    del values["training"]["precision"], values["sampler"]["past"], values["seed"]
    assert from_dict(values) == AUTO


# Overriding


def _another(key: str, value: Any) -> Any:
    """Return a legal value other than the one that is there."""
    known = {"source": "photos", "recipe": "mine", "precision": "float32", "noise_label": "t", "betas": [0.8, 0.95]}
    known |= {
        "fit": "pad",
        "kind": "image",
        "ladder": "karras",
        "past": 2,
        "ema": [0.1, 0.9],
        "method": "adamw" if value == "muon" else "muon",
    }
    known |= {"channels": [16, 48, 64], "size": 16, "levels": 12, "steps": 7, "eps": 1e-4, "held_out": 0.25, "tau": 0.1}
    known |= {"axes": "yxc", "shape": [3, 4], "key": "x", "range": [0.0, 2.5], "missing": [-9999.0]}
    last = key.rpartition(".")[2]
    if last in known:
        return known[last]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 0.75 or 0.25


LEAVES = [
    (name, key)
    for name in ("auto on small images", "ncsn on small images", "ncsnv2 on vectors")
    for key in _leaves(to_dict(RUNS[name]))
    if not key.endswith("name") and (name, key) != ("auto on small images", "network.levels")  # nothing there without a label
]


def test_the_leaves_under_test_are_all_of_a_run() -> None:
    assert len(LEAVES) > 80


@each_case(leaf=LEAVES)
def test_a_setting_changes_exactly_one_leaf_and_leaves_the_original_as_it_was(leaf: tuple[str, str]) -> None:
    name, key = leaf
    run, values = RUNS[name], to_dict(RUNS[name])
    was, before = _leaves(values), json.dumps(values)
    value = _another(key, was[key])
    text = value if isinstance(value, str) else json.dumps(value)
    got = _leaves(to_dict(override(run, [f"{key}={text}"])))
    assert {k: v for k, v in got.items() if v != was.get(k)} == {key: value}
    assert got.keys() == was.keys()
    assert json.dumps(to_dict(run)) == before


def test_a_later_setting_wins_and_several_settings_change_several_leaves() -> None:
    got = override(AUTO, ["training.batch=32", "seed=5", "training.batch=64"])
    assert (got.training.batch, got.seed) == (64, 5)
    assert override(AUTO, []) == AUTO


def test_a_list_is_written_with_commas_or_as_json() -> None:
    for text in ("16,32", "[16,32]", "[16, 32]", "16, 32"):
        assert override(AUTO, [f"network.channels={text}"]).network.channels == (16, 32)
    assert override(AUTO, ["network.channels=[24]"]).network.channels == (24,)
    assert override(AUTO, ["optimiser.betas=0.8,0.95"]).optimiser.betas == (0.8, 0.95)


def test_nothing_is_written_as_none_and_truth_as_true() -> None:
    for text in ("none", "None", "null"):
        assert override(AUTO, [f"training.seconds={text}", "training.steps=9"]).training.seconds is None
    for text, value in (("true", True), ("false", False), ("True", True)):
        assert override(AUTO, [f"objective.every_level={text}"]).objective.every_level is value


def test_numbers_may_be_written_with_an_exponent() -> None:
    assert override(AUTO, ["optimiser.lr=3e-4"]).optimiser.lr == 3e-4
    assert override(AUTO, ["training.steps=2e3"]).training.steps == 2000


@pytest.mark.parametrize(
    "setting", ["training.batch = 64", " training.batch=64 ", "sampler = heun", "training.precision= float32"]
)
def test_spaces_around_the_equals_sign_change_nothing(setting: str) -> None:
    assert override(AUTO, [setting]) == override(AUTO, ["".join(setting.split())])


def test_a_text_with_a_comma_or_an_equals_sign_stays_a_text() -> None:
    assert override(AUTO, ["source=photos, 2024=new"]).source == "photos, 2024=new"


@each_case(one=[(kind, name) for kind, name in COMPONENTS if name != "tabulated"])
def test_the_name_of_a_component_swaps_it_for_that_component_with_its_defaults(one: tuple[str, str]) -> None:
    kind, name = one
    got = override(AUTO, [f"{kind}={name}"])
    assert getattr(got, kind) == find(kind, name)()
    assert dataclasses.replace(got, **{kind: getattr(AUTO, kind)}) == AUTO  # and nothing else moved


def test_a_component_within_a_component_is_swapped_by_name() -> None:
    got = override(AUTO, ["objective.noise_distribution=uniform", "objective.weighting=sigma2"])
    assert got.objective.noise_distribution == find("noise_distribution", "uniform")()
    assert got.objective.weighting == find("weighting", "sigma2")()
    assert got.objective.every_level == AUTO.objective.every_level


def test_a_component_can_be_swapped_and_then_set() -> None:
    got = override(AUTO, ["sampler=langevin", "sampler.steps=10", "network=mlp", "network.width=64"])
    assert got.sampler == find("sampler", "langevin")(steps=10)
    assert got.network == find("network", "mlp")(width=64)
    assert override(AUTO, ["process=vp"]).process == VP()


def test_a_component_can_be_given_whole_as_json() -> None:
    got = override(AUTO, ['sampler={"name": "langevin", "steps": 10}'])
    assert got.sampler == find("sampler", "langevin")(steps=10)


# Refusals


@each_case(key=sorted(_leaves(to_dict(AUTO))))
def test_a_slip_at_any_depth_of_any_key_is_answered_with_the_key_that_was_meant(key: str) -> None:
    parts = key.split(".")
    for depth, part in enumerate(parts):
        wrong = part + part[-1]
        text = _refusal([".".join([*parts[:depth], wrong, *parts[depth + 1 :]]) + "=1"])
        where = parts[depth - 1] if depth else "the run"
        assert text.startswith(f"unknown setting of {where} {wrong!r}: did you mean ")
        assert repr(part) in text.split("Known:")[0]


def test_a_slip_in_json_is_answered_with_the_key_that_was_meant() -> None:
    for path, wrong, right in [
        ((), "sampelr", "sampler"),
        (("training",), "bach", "batch"),
        (("objective", "noise_distribution"), "st", "std"),
    ]:
        values = json.loads(json.dumps(to_dict(AUTO)))
        node = values
        for part in path:
            node = node[part]
        node[wrong] = 1
        with pytest.raises(ScorefieldError, match=f"unknown setting of .*'{wrong}': did you mean .*'{right}'"):
            from_dict(values)


@pytest.mark.parametrize(
    "kind", ["process", "parametrisation", "network", "objective", "sampler", "objective.noise_distribution"]
)
def test_an_unknown_component_is_answered_with_the_known_ones(kind: str) -> None:
    last = kind.rpartition(".")[2]
    name = next(iter(every(last)))
    text = _refusal([f"{kind}={name}x"])
    assert text.startswith(f"unknown {in_words(last)} '{name}x': did you mean ") and repr(name) in text


OUT_OF_RANGE = [
    "training.batch=0",
    "training.steps=-1",
    "training.seconds=0",
    "training.ema=1",
    "training.pictures=-1",
    "optimiser.lr=0",
    "optimiser.decay=1.5",
    "optimiser.warmup=-1",
    "network.dropout=1",
    "network.patch=0",
    "levels=0",
    "seed=-1",
    "data.size=0",
    "data.held_out=1",
    "process.sigma_min=0",
    "sampler.past=0",
    "sampler.past=4",
    "objective.noise_distribution.std=0",
    "parametrisation.data_std=-1",
    "network.channels=[]",
]
WRONG_TYPE = [
    "training.batch=many",
    "training.batch=1.5",
    "training.batch=1,2",
    "training.batch=none",
    "training.precision=float8",
    "optimiser.betas=0.9",
    "optimiser.betas=0.9,0.99,0.999",
    "network.channels=16",
    "network.attention=perhaps",
    "parametrisation.noise_label=loud",
    "objective.every_level=7",
    "training=5",
    "training=none",
    "data=5",
    "sampler=5",
    "sampler=none",
    "sampler=1,2",
    "process=true",
    "objective.noise_distribution=3",
    "network=5",
    "network=none",
    "network=1,2",
    "source=5",
]


@each_case(setting=[*OUT_OF_RANGE, *WRONG_TYPE])
def test_a_value_out_of_range_or_of_the_wrong_type_is_refused_naming_its_key(setting: str) -> None:
    key, _, value = setting.partition("=")
    text = _refusal([setting])
    assert f"'{key}'" in text  # the key as it must be typed
    if "," not in value and value != "[]":  # a list is shown as Python shows it
        assert value in text or value.capitalize() in text  # none is None, true is True


@pytest.mark.parametrize(
    ("setting", "key"), [("optimiser.betas=0.9,2", "optimiser.betas"), ("network.channels=16,2", "network.channels")]
)
def test_a_bad_entry_of_a_list_is_refused_naming_the_list(setting: str, key: str) -> None:
    assert key in _refusal([setting])


INFINITE = ["NaN", "Infinity", "-Infinity"]


@each_case(key=[key for key, value in _leaves(to_dict(AUTO)).items() if isinstance(value, float)], value=INFINITE)
def test_no_setting_is_infinite_or_nan_since_json_has_no_such_number(key: str, value: str) -> None:
    assert key.split(".")[0] in _refusal([f"{key}={value}"])


def test_settings_that_contradict_each_other_are_refused_naming_their_component() -> None:
    text = _refusal(["process.sigma_min=20"])
    assert "sigma_min = 20" in text and "sigma_max = 9.1234" in text and "'process'" in text


NCSN = RUNS["ncsn on small images"]  # a network with a table of ten noise levels


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (["network.levels=9"], "which goes from 0 to 9, expected whole numbers from 0 to 8: set network.levels=10"),
        (["parametrisation.noise_label=20"], "for the noise label 20, which goes from 0 to 19, .*: set network.levels=20"),
        (["parametrisation.noise_label=log-sigma"], "'log-sigma', which goes from -3.91 to 0.693, expected whole numbers"),
        (["parametrisation=edm"], "set network.levels=none, or parametrisation.noise_label=10"),
        (["process=ddpm-chain", "parametrisation.noise_label=t"], "'t', which goes from 1 to 1e[+]03, expected"),
        (["process=rectified-flow", "parametrisation.noise_label=sigma"], "'sigma', which goes from 0.001 to 999, expected"),
    ],
)
def test_a_noise_label_without_a_row_in_the_networks_table_is_refused_when_the_run_is_made(
    settings: list[str], advice: str
) -> None:
    text = _refusal(settings, NCSN)
    assert text.startswith("got network.levels=") and re.search(advice, text)


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["network.levels=20", "parametrisation.noise_label=20"],
        ["network.levels=20"],  # rows that are never asked for do no harm
        ["network.levels=none"],
        ["network.levels=none", "parametrisation.noise_label=log-sigma"],
        ['parametrisation.noise_label="none"'],
        ["process=ddpm-chain", "process.steps=20", "parametrisation.noise_label=t", "network.levels=21"],
        ["network=mlp", "parametrisation.noise_label=7"],
    ],
)
def test_a_run_whose_labels_all_have_a_row_opens_also_as_an_older_version_wrote_it(settings: list[str]) -> None:
    config = override(NCSN, settings)
    older = to_dict(config)
    older["rungs"], older["parametrisation"]["label"] = older.pop("ladder"), older["parametrisation"].pop("noise_label")
    older["objective"]["density"] = older["objective"].pop("noise_distribution")
    assert from_dict(older) == config
    network = config.network.build((1, 8, 8))
    ends = torch.tensor([config.process.t_min, config.process.t_max], dtype=torch.float64)
    label = noise_label_of(config.parametrisation.noise_label, config.process, ends).float()
    assert bool(network(torch.zeros(2, 1, 8, 8), label).isfinite().all())


def test_a_run_that_would_never_stop_is_refused() -> None:
    text = _refusal(["training.steps=none", "training.seconds=none"])
    assert "steps" in text and "seconds" in text


@pytest.mark.parametrize("setting", ["training.batch", "training", "heun", ""])
def test_a_setting_without_an_equals_sign_is_refused_with_an_example(setting: str) -> None:
    text = _refusal([setting])
    assert repr(setting) in text and "expected dotted.key=value: for example training.batch=64" in text


def test_a_key_below_a_plain_value_is_refused_naming_that_value() -> None:
    assert "expected no setting below 'batch'" in _refusal(["training.batch.size=3"])


def test_naming_a_component_without_its_required_settings_says_which_are_missing() -> None:
    text = _refusal(["process=tabulated"])
    assert "betas" in text and "required" in text


@pytest.mark.parametrize("missing", ["source", "process", "network", "sampler", "levels"])
def test_json_without_a_required_setting_is_refused_naming_it(missing: str) -> None:
    values = to_dict(AUTO)
    del values[missing]
    with pytest.raises(ScorefieldError) as refusal:
        from_dict(values)
    text = str(refusal.value)
    assert f"'{missing}'" in text
    assert len(text) < 200  # a sentence, not the whole run


@pytest.mark.parametrize("component", [{"sigma_min": 0.1}, {"name": 5}, {"name": None}, {"name": ["ve"]}, 3, None], ids=repr)
def test_a_component_without_a_proper_name_is_refused_with_a_sentence(component: Any) -> None:
    with pytest.raises(ScorefieldError, match="process"):
        from_dict(to_dict(AUTO) | {"process": component})


# Data settings, needed before there is a run


def test_data_settings_are_picked_out_of_all_settings_and_checked() -> None:
    got = data_config(["training.batch=3", "data.size=16", "data.held_out=0.25", "sampler=heun"])
    assert got == DataConfig(size=16, held_out=0.25)
    assert data_config(["training.batch=3"]) == DataConfig()
    with pytest.raises(ScorefieldError, match="unknown setting of data 'siz': did you mean 'size'"):
        data_config(["data.siz=3"])
    with pytest.raises(ScorefieldError, match=r"data\.size"):
        data_config(["data.size=0"])


def test_what_a_message_advises_can_be_done() -> None:
    """Every `kind=name` in the package's texts names a component that is made from its name alone, without further settings."""
    texts = "\n".join(path.read_text() for path in Path(scorefield.__file__).parent.rglob("*.py"))
    kinds, name = "process|parametrisation|objective|network|sampler", "[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
    advised = re.findall(rf"\b({kinds})=({name})(?=[ ,.:;\"'`)])", texts)
    variables = ("self", "one", "own", "drawing", "foreign", "meaning")
    named = {(kind, name) for kind, name in advised if name not in (*variables, kind)}
    assert ("process", "ddpm-chain") in named
    for kind, name in named:
        find(kind, name)()


def test_the_config_of_a_ddpm_run_can_be_read_by_people() -> None:
    config = RUNS["ddpm on vectors"]
    written = json.dumps(to_dict(config), indent=2)
    assert len(written.splitlines()) < 100
    assert from_dict(json.loads(written)) == config
    shorter = override(config, ["process=ddpm-chain", "process.steps=50", "process.kind=cosine", "levels=50"])
    assert (shorter.process.steps, shorter.process.t_max) == (50, 50.0)


def test_a_run_of_an_older_version_with_its_thousand_betas_still_opens() -> None:
    config = RUNS["ddpm on vectors"]
    old = to_dict(config) | {"process": {"name": "tabulated", "betas": config.process.betas.tolist()}}
    opened = from_dict(json.loads(json.dumps(old)))
    t = torch.linspace(1, 1000, 77, dtype=torch.float64)
    assert torch.equal(opened.process.alpha(t), config.process.alpha(t))


@each_case(name=list(RUNS))
def test_no_recipe_leaves_levels_between_those_of_its_training(name: str) -> None:
    config = RUNS[name]
    assert unvisited(config.parametrisation.noise_label, config.process, config.objective.visited(config.process)) == 1
    one_table = ["network.levels=none"] if config.network.levels else []
    few = override(
        config,
        ["objective=denoising", "objective.noise_distribution=levels", "parametrisation.noise_label=log-sigma", *one_table],
    )
    apart = unvisited(few.parametrisation.noise_label, few.process, few.objective.visited(few.process))
    low, high = (-0.5 * few.process.log_snr(torch.tensor([few.process.t_min, few.process.t_max]).double())).exp().tolist()
    assert apart == pytest.approx((high / low) ** (1 / 18), rel=0.02)  # half of a ninth of the range, in logarithms
    assert unvisited(10, few.process, few.objective.visited(few.process)) == 1


@each_case(
    setting__start=[
        ("ladder=foo", "unknown ladder 'foo' for 'ladder'. Known: "),
        ("ladder=kerras", "unknown ladder 'kerras' for 'ladder': did you mean 'karras'"),
        ("batch=64", "unknown setting of the run 'batch': did you mean 'training.batch'?"),
        ("training.lr=1", "unknown setting of training 'lr': did you mean 'optimiser.lr'?"),
        ("optimiser=adamw", "got 'adamw' for 'optimiser', expected settings below it: name one, as optimiser.method"),
        ("network=unet network.channels=64", "got 64 for 'network.channels', expected several values: "),
        ("sampler=5", "got 5 for 'sampler', expected a sampler: name one"),
        ("training.batch=true", "got true for 'training.batch', expected no truth value"),
        ("optimiser.lr=false", "got false for 'optimiser.lr', expected no truth value"),
        ("training.ema=0.4", "got ema 0.4, expected different numbers"),
    ]
)
def test_a_refusal_is_one_sentence_about_one_key_and_never_the_whole_run(setting: str, start: str) -> None:
    text = _refusal(setting.split())
    assert text.startswith(start)
    assert len(text) < 220 and "ArgsKwargs" not in text and "instance of" not in text
    assert text.count("correct") <= 1


def test_whole_numbers_may_be_written_as_floats_and_nothing_else_may() -> None:
    assert override(AUTO, ["training.batch=64.0"]).training.batch == 64
    assert override(AUTO, ["training.batch=1e3"]).training.batch == 1000
    assert "fractional" in _refusal(["training.batch=64.5"])
