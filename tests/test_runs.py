"""Runs: they keep hold of their data, open whole while they are trained, and tell which results are of other weights."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import command, contents
from PIL import Image

from scorefield import DDPMChain, ScorefieldError, app, files, registry, runs
from scorefield.drawing import SampleSpec, choose_sampler
from scorefield.evaluation import parts
from scorefield.noise_label import noise_label_of
from scorefield.runs import Run, load_field, open_run, save_model
from scorefield.tuning import measure

TINY = ("network.width=16", "network.depth=2", "training.precision=float32", "training.pictures=0", "training.batch=32")
FEW: dict[str, Any] = {"n": 64, "evaluations": (2,), "samplers": ("heun",)}
X = np.random.default_rng(0).normal(size=(250, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data in it, and runs trained on them: by a relative path, and given in Python."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        np.save("x.npy", X)
        np.save("y.npy", X + 1)
        app.train("x.npy", out="typed", steps=2, settings=TINY)
        app.train(X, out="given", steps=2, settings=TINY)
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that may be changed, the working folder; its runs know the place of their data there."""
    folder = Path(shutil.copytree(made, tmp_path / "here"))
    manifest = json.loads((folder / "typed" / "manifest.json").read_text())
    assert manifest["data"]["path"] == str(made / "x.npy")
    manifest["data"]["path"] = str(folder / "x.npy")
    (folder / "typed" / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `evaluate` measures and shows has tests of its own."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise ScorefieldError("not here")

    for name in ("measure_likelihood", "diagnosis_of", "memorisation_of"):
        monkeypatch.setattr(parts, name, refuse)
    monkeypatch.setattr(sys.modules["scorefield.app.evaluate"], "pictures_of", lambda *_: {})
    monkeypatch.setattr("scorefield.evaluation.reference.FLOORS", 1)
    metrics = registry.every("metric")
    some = {name: metrics[name] for name in ("frechet", "energy")}
    monkeypatch.setattr(registry, "every", lambda kind, every=registry.every: some if kind == "metric" else every(kind))


def likelihood(run: Path, **named: Any) -> app.LikelihoodReport:
    return app.likelihood(run, n=3, levels=4, tolerance=1e-3, **named)


def examples(run: Path, **named: Any) -> list[Any]:
    """The training examples that an opened run has, as a list of lists."""
    found: list[Any] = open_run(run, **named).data.train[:].tolist()
    return found


# --- the data ----------------------------------------------------------------------------------------------------------


def test_a_run_on_data_given_in_python_is_measured_as_one_on_their_file_is_once_they_are_given_again(place: Path) -> None:
    """The two runs have the same seed and the same rows, so the same weights, and the same figures to the last digit."""
    typed, given = place / "typed", place / "given"
    expected = examples(typed)
    for data in (X, torch.from_numpy(X), list(X), place / "x.npy", "x.npy", open_run(typed).data):
        assert examples(given, data=data) == expected, type(data)
    assert likelihood(given, data=X).flow == likelihood(typed).flow
    one, other = app.evaluate(typed, n=30), app.evaluate(given, n=30, data=X)
    assert (one.figures, one.floor) == (other.figures, other.floor)
    one_way, other_way = app.tune(typed, **FEW), app.tune(given, data=X, **FEW)
    assert [one.figure for one in one_way.measurements] == [one.figure for one in other_way.measurements]


@pytest.mark.parametrize("verb", ["evaluate", "tune", "likelihood"])
def test_data_given_in_python_that_are_not_given_again_are_asked_for(
    verb: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(place / "given")
    assert command(verb, "given") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "they were given in Python, and a run does not keep them" in said
    assert "--data" in said and "data= in Python" in said
    (place / "data").mkdir()  # what a config calls such a source is no place
    assert command(verb, "given") == 2
    assert contents(place / "given") == before


@pytest.mark.parametrize("verb", ["evaluate", "tune", "likelihood"])
def test_the_command_takes_the_place_of_the_data(verb: str, place: Path) -> None:
    few = {"evaluate": ("-n", 20), "tune": ("-n", 64, "--evaluations", 2, "--samplers", "heun"), "likelihood": ("-n", 2)}
    assert command(verb, "given", "--data", "x.npy", *few[verb]) == 0


def test_a_run_on_a_data_frame_takes_the_frame_or_a_file_of_it(place: Path) -> None:
    frame = pd.DataFrame(X.astype(float).round(4), columns=["a", "b"])
    frame.to_csv("frame.csv", index=False)
    app.train(frame, out="frame", steps=2, settings=TINY)
    assert examples(place / "frame", data=frame) == examples(place / "frame", data="frame.csv")


def test_a_relative_path_is_found_from_another_folder(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = examples(place / "typed")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert examples(place / "typed") == expected
    np.save("x.npy", X + 1)  # what happens to have the name as it was typed is not taken for it
    assert examples(place / "typed") == expected


def test_data_that_moved_are_found_by_the_name_that_was_typed_or_by_their_new_place(place: Path, tmp_path: Path) -> None:
    expected, typed = examples(place / "typed"), place / "typed"
    manifest = json.loads((typed / "manifest.json").read_text())
    manifest["data"]["path"] = "/no/longer/x.npy"
    (typed / "manifest.json").write_text(json.dumps(manifest))
    assert examples(typed) == expected  # as typed, from the working folder
    shutil.move("x.npy", tmp_path / "renamed.npy")
    with pytest.raises(ScorefieldError, match=rf"nothing at /no/longer/x\.npy; nothing at {place}/x\.npy.*name their place"):
        examples(typed)
    assert examples(typed, data=tmp_path / "renamed.npy") == expected


@pytest.mark.parametrize("measure", [examples, lambda run, **named: app.evaluate(run, n=30, **named)])
def test_other_data_are_refused_in_one_sentence_wherever_they_come_from(measure: Callable[..., Any], place: Path) -> None:
    before = contents(place / "typed")
    for other in (X + 1, "y.npy", X[:100], X[::-1].copy()):
        with pytest.raises(
            ScorefieldError, match=r"differ from those .*typed was trained on \(x\.npy, 225 and 25 examples"
        ) as refusal:
            measure(place / "typed", data=other)
        assert "\n" not in str(refusal.value)
    shutil.copy("y.npy", "x.npy")
    with pytest.raises(ScorefieldError, match=rf"those at {place}/x\.npy differ from the run"):
        measure(place / "typed")
    assert contents(place / "typed") == before


def test_a_run_of_an_older_version_which_knows_no_place_opens_and_finds_its_data_by_name(place: Path) -> None:
    typed, expected = place / "typed", examples(place / "typed")
    manifest = json.loads((typed / "manifest.json").read_text())
    del manifest["data"]["path"]
    (typed / "manifest.json").write_text(json.dumps(manifest))
    assert examples(typed) == expected
    assert examples(typed, data=X) == expected
    assert app.sample(typed, n=2).samples == 2


def test_a_built_in_source_has_no_place(tmp_path: Path) -> None:
    app.train("two-moons", out=tmp_path / "run", steps=1, settings=("data.examples=50", *TINY))
    run = open_run(tmp_path / "run")
    assert run.manifest["data"]["path"] is None
    assert len(run.data.train) == 45


def cut_short(source: Any, out: str) -> app.TrainReport:
    asked = iter((False, True))
    return app.train(source, out=out, steps=3, settings=TINY, stop=lambda: next(asked))


def test_a_run_cut_short_goes_on_with_the_same_data_however_they_are_named(place: Path) -> None:
    shutil.copy("x.npy", "copy.npy")
    app.train(X, out="whole", steps=3, settings=TINY)
    for i, again in enumerate(("./x.npy", place / "copy.npy")):
        assert cut_short("x.npy", f"run{i}").ended == "stopped"
        report = app.train(again, out=f"run{i}", steps=3, settings=TINY)
        assert (report.step, report.ended) == (3, "done")
        assert Path(f"run{i}/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


def test_a_run_cut_short_does_not_go_on_with_other_data_or_settings(place: Path) -> None:
    cut_short("x.npy", "run")
    before = contents(place / "run")
    for other, named in (("y.npy", {}), (X + 1, {}), ("./x.npy", {"seed": 1}), ("./x.npy", {"settings": ()})):
        with pytest.raises(ScorefieldError, match="holds a run already"):
            app.train(other, out="run", **{"steps": 3, "settings": TINY, **named})
    assert contents(place / "run") == before


def test_a_run_that_goes_on_from_another_place_remembers_that_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.move("x.npy", "moved.npy")
    app.train("moved.npy", out="typed", steps=3, resume=True)
    monkeypatch.chdir("/")
    assert len(open_run(place / "typed").data.train) == 225


def test_a_run_is_compared_with_one_whose_data_are_gone(place: Path) -> None:
    shutil.copytree("given", "other")
    report = app.evaluate(place / "typed", n=30, against=place / "other")
    assert report.baseline is not None
    assert report.baseline.figures == report.figures


# --- results of other weights ------------------------------------------------------------------------------------------


def test_results_of_weights_that_training_has_changed_are_never_shown_as_those_of_the_run(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = place / "typed"
    report = app.evaluate(typed, n=30)
    app.tune(typed, **FEW)
    app.evaluate(typed, n=30, sampler="heun", steps=2)
    likelihood(typed)
    (typed / "mine.json").write_text("{}")
    found = app.inspect(typed)
    assert found.stale == {}
    app.forget_tuning(typed)
    assert app.inspect(typed).quality_stale is None
    assert app.inspect(typed).quality == json.loads((typed / "quality.json").read_text())
    app.train("x.npy", out="typed", steps=3, resume=True)
    found = app.inspect(typed)
    why = "it is of other weights (step 2) than the run has now (step 3)"
    assert found.quality_stale == why
    assert found.stale == dict.fromkeys(("likelihood.json", "quality-heun-2.json", "tuning.json"), why)
    capsys.readouterr()
    assert command("inspect", typed) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"not known: {why}" in shown
    assert str(report.figures["frechet"].value)[:6] not in shown
    assert command("inspect", typed, "--json") == 0
    assert json.loads(capsys.readouterr().out)["quality_stale"] == why
    app.evaluate(typed, n=30)
    assert app.inspect(typed).quality_stale is None


def test_a_quality_of_another_way_of_sampling_than_the_default_is_not_shown_as_the_runs(place: Path) -> None:
    typed = place / "typed"
    app.evaluate(typed, n=30)
    app.tune(typed, **FEW)  # the default is heun in two evaluations now
    assert app.inspect(typed).quality_stale == (
        "it is of samples by ABM(past=3, corrector=True) on 20 levels, not by the run's default now"
    )
    app.evaluate(typed, n=30)
    assert app.inspect(typed).quality_stale is None
    app.forget_tuning(typed)
    assert "not by the run's default now" in (app.inspect(typed).quality_stale or "")


@pytest.mark.parametrize(("content", "why"), [("{", "it is damaged"), ("[]", "it is damaged"), ("{}", "it does not say")])
def test_a_quality_that_does_not_say_of_what_it_is_is_not_shown(content: str, why: str, place: Path) -> None:
    (place / "typed" / "quality.json").write_text(content)
    assert str(app.inspect(place / "typed").quality_stale).startswith(why)
    assert command("inspect", place / "typed") == 0


def test_every_file_of_results_says_of_which_weights_and_data_it_is(place: Path) -> None:
    typed = place / "typed"
    app.evaluate(typed, n=30)
    app.tune(typed, **FEW)
    likelihood(typed)
    app.train("x.npy", out="typed", steps=3, resume=True)  # writes levels.json and its plot
    manifests = {2: open_run(place / "given").manifest, 3: open_run(typed).manifest}  # `given` has the weights of step 2
    for name, step in (("quality", 2), ("tuning", 2), ("likelihood", 2), ("levels", 3)):
        values = json.loads((typed / f"{name}.json").read_text())["made_from"]
        assert values["model_sha256"] == files.digest(
            (typed if step == 3 else place / "given").joinpath("model.safetensors").read_bytes()
        )
        assert (values["step"], values["data"]) == (step, manifests[step]["data"]["fingerprint"]), name
    for name, step in (("loss_by_level.png", 3), ("tuning.png", 2)):
        with Image.open(typed / name) as picture:
            assert json.loads(picture.text["made_from"])["model_sha256"] == manifests[step]["model_sha256"]
    for name in ("quality.md", "quality.html", "tuning.md", "likelihood.md"):
        assert manifests[2]["model_sha256"][:12] in (typed / name).read_text(), name


def test_a_choice_for_weights_that_training_has_left_meanwhile_is_not_called_the_default(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halving = measure.successive_halving

    def slow(*arguments: Any) -> Any:
        app.train("x.npy", out="typed", steps=3, resume=True)
        return halving(*arguments)

    monkeypatch.setattr(measure, "successive_halving", slow)
    report = app.tune(place / "typed", **FEW)
    assert not report.holds
    assert "default is now" not in app.tuning_table(report)
    assert "Training has gone on meanwhile" in report.written[2].read_text()
    assert not app.inspect(place / "typed").tuned_holds


# --- runs that cannot be written ---------------------------------------------------------------------------------------


@pytest.fixture
def sealed(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that cannot be written, as on a read-only disk; root could write it, so the ground is made to refuse."""
    typed, put = place / "typed", files.put

    def refuse(path: Path, content: bytes) -> None:
        if typed in path.resolve().parents:
            raise PermissionError(13, "Permission denied", str(path))
        put(path, content)

    monkeypatch.setattr(files, "put", refuse)
    return typed


def test_a_run_that_cannot_be_written_is_measured_all_the_same_and_stays_as_it_is(
    sealed: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, free = contents(sealed), place / "given"
    report = app.evaluate(sealed, n=30, html=place / "page.html")
    assert report.written == (place / "page.html",)
    expected = app.evaluate(free, n=30, data=X)
    assert (report.figures, report.floor) == (expected.figures, expected.floor)
    assert likelihood(sealed).written == () and likelihood(sealed).flow == likelihood(free, data=X).flow
    for words in (("evaluate", "-n", 30), ("likelihood", "-n", 2)):
        assert command(words[0], "typed", *words[1:]) == 0
        said = capsys.readouterr()
        assert "±" in said.out and "typed cannot be written, so nothing was written there" in said.err
    assert {name for name, old in contents(sealed).items() if before.get(name) != old} == set()


def test_what_tune_would_choose_for_a_run_that_cannot_be_written_is_printed_as_flags_that_draw_so(sealed: Path) -> None:
    report = app.tune(sealed, n=64, evaluations=(3,), samplers=("abm",))
    assert report.written == ()
    words = report.flags.split()
    flags = dict(zip(words[::2], words[1::2], strict=True))
    sampler, times = choose_sampler(
        open_run(sealed), SampleSpec(flags["--sampler"], int(flags["--steps"]), flags.get("--ladder"))
    )
    assert (str(sampler), len(times)) == (str(choose_sampler(open_run(sealed), SampleSpec("abm", 3))[0]), report.chosen.levels)
    assert f"scorefield sample {report.flags} draws by" in app.tuning_table(report)
    assert "default is now" not in app.tuning_table(report)


def test_a_page_where_none_can_be_written_is_refused_before_the_work(sealed: Path, place: Path) -> None:
    for target in (sealed / "page.html", place):
        with pytest.raises(ScorefieldError, match=r"where no file can be written|already"):
            app.evaluate(sealed, n=30, html=target, progress=lambda *_: pytest.fail("it began"))


@pytest.mark.parametrize("verb", ["evaluate", "tune", "likelihood"])
def test_a_disk_that_is_full_in_the_end_does_not_lose_what_was_found(
    verb: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, value: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_json", full)
    few = {"evaluate": ("-n", 20), "tune": ("-n", 64, "--evaluations", 2, "--samplers", "heun"), "likelihood": ("-n", 2)}
    before = contents(place / "typed").keys()
    assert command(verb, "typed", *few[verb]) == 2
    said = capsys.readouterr()
    assert "±" in said.out and "No space left on device" in said.err.splitlines()[-1]
    with pytest.raises(app.NotWritten) as caught:
        {
            "evaluate": lambda: app.evaluate("typed", n=20),
            "tune": lambda: app.tune("typed", **FEW),
            "likelihood": lambda: likelihood(Path("typed")),
        }[verb]()
    assert caught.value.report.written == ()
    assert not {name for name in contents(place / "typed").keys() - before if not name.startswith("evaluation")}


# --- runs that are being trained ---------------------------------------------------------------------------------------


def _write_on(folder: Path, stop: Any) -> None:
    """Write other weights, which all have the value of their step, as often as can be."""
    run, step = open_run(folder), 0
    model, manifest = run.field, run.manifest
    while not stop.is_set():
        step += 1
        for parameter in model.parameters():
            parameter.fill_(float(step))
        manifest["progress"] = {**manifest["progress"], "step": step}
        with files.together():
            save_model(folder, model, manifest)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="a system without forks")
def test_a_run_opens_whole_every_time_while_another_process_writes_it(place: Path) -> None:
    """Each of 200 fields has the weights of the very step that its manifest names."""
    context = multiprocessing.get_context("fork")
    stop, folder = context.Event(), place / "typed"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    writer = context.Process(target=_write_on, args=(folder, stop))
    writer.start()
    try:
        seen = set()
        while len(seen) < 2:
            seen.add(open_run(folder).manifest["progress"]["step"])
        for _ in range(200):
            run = open_run(folder)
            step = run.manifest["progress"]["step"]
            assert {float(value) for p in run.field.parameters() for value in (p.min(), p.max())} == {float(step)}
            seen.add(step)
        assert len(seen) > 20  # it was written all the time
    finally:
        stop.set()
        writer.join(20)
        torch.set_num_threads(before)
    assert writer.exitcode == 0


@pytest.mark.parametrize("snapshot", ["weights", "manifest"])
def test_a_run_that_changes_while_it_is_read_is_read_again(snapshot: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the manifest and the weights, and between the weights and the manifest that belongs to them."""
    folder, changed = place / "typed", list[int]()
    old = open_run(folder)
    model, manifest = old.field, json.loads(json.dumps(old.manifest))
    for parameter in model.parameters():
        parameter.fill_(7.0)
    read_json = files.read_json

    def change(path: Path) -> Any:
        found = read_json(path)
        if path.name == "manifest.json" and not changed:
            changed.append(1)
            kept = path.read_bytes()
            manifest["progress"]["step"] = 7
            save_model(folder, model, manifest)
            if snapshot == "weights":  # the new manifest comes a little later than the new weights
                new = path.read_bytes()
                path.write_bytes(kept)
                monkeypatch.setattr(runs.time, "sleep", lambda pause: path.write_bytes(new))
        return found

    monkeypatch.setattr(files, "read_json", change)
    run = open_run(folder)
    assert (run.manifest["progress"]["step"], float(next(run.field.parameters()).max())) == (7, 7.0)


def test_a_run_that_was_opened_stays_the_one_it_was(place: Path) -> None:
    run = open_run(place / "typed")
    app.train("x.npy", out="typed", steps=3, resume=True)
    assert files.digest((place / "given" / "model.safetensors").read_bytes()) == run.made_from["model_sha256"]
    weights = [dict(field.state_dict()) for field in (run.field, load_field(place / "given"))]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


# --- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda manifest: manifest.pop("data"), "damaged .*manifest.json"),
        (lambda manifest: manifest["data"].pop("shape"), "manifest.json without shape"),
        (lambda manifest: manifest["data"].pop("fingerprint"), "manifest.json without fingerprint"),
        (lambda manifest: manifest.pop("progress"), "manifest.json without progress"),
    ],
)
def test_a_manifest_that_lacks_something_is_refused_in_one_sentence(
    change: Callable[[dict[str, Any]], Any], says: str, place: Path
) -> None:
    path = place / "typed" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ScorefieldError, match=says) as refusal:
        app.inspect(place / "typed")
    assert "\n" not in str(refusal.value)


def test_settings_that_do_not_open_name_their_file(place: Path) -> None:
    path = place / "typed" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": "many"}))
    with pytest.raises(ScorefieldError, match=r"config\.json that does not open \(got 'many' for seed") as refusal:
        open_run(place / "typed")
    assert "\n" not in str(refusal.value)


def test_a_run_tells_why_values_are_not_its_own(place: Path) -> None:
    run: Run = open_run(place / "typed")
    made = run.made_from
    assert run.stale({"made_from": made}) is None
    assert run.stale({"made_from": made | {"scorefield": "0.0"}}) is None  # a later version opens what an earlier one made
    assert run.stale({"made_from": made | {"data": "0"}}) == "it is of other data than the run's"
    other = replace(run, manifest=run.manifest | {"progress": {"step": 9}, "model_sha256": "0"})
    assert other.stale({"made_from": made}) == "it is of other weights (step 2) than the run has now (step 9)"


def test_a_run_that_was_trained_on_raw_times_opens_and_says_that_it_knows_no_others(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As runs of the recipe ddpm of 0.4 were: their weights are for raw times, and still get them."""
    config = json.loads((place / "typed" / "config.json").read_text())
    chain = {"name": "tabulated", "betas": DDPMChain(20, 0.01, 0.3).betas.tolist()}
    config |= {"process": chain, "parametrisation": {"name": "noise", "label": "t"}, "sampler": {"name": "ancestral"}}
    (place / "typed" / "config.json").write_text(json.dumps(config | {"levels": 20, "ladder": "uniform"}))
    with pytest.warns(UserWarning, match="knows only those of its training: sample with its recipe's own sampler"):
        field = load_field(place / "typed")
    t = torch.tensor([7.0])
    assert noise_label_of(field.parametrisation.noise_label, field.process, t).tolist() == [7.0]
    assert command("sample", "typed", "-n", "2", "--out", "x.npz") == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warned) == 1 and warned[0].startswith("scorefield: warning: the network of typed was conditioned on raw times")


@pytest.mark.parametrize("verb", ["sample", "evaluate", "tune", "likelihood"])
def test_a_run_of_no_steps_is_refused_by_every_verb_that_uses_its_field_before_the_work(verb: str, place: Path) -> None:
    manifest = json.loads((place / "typed" / "manifest.json").read_text())
    manifest["progress"]["step"] = 0
    (place / "typed" / "manifest.json").write_text(json.dumps(manifest))
    before = contents(place)
    with pytest.raises(ScorefieldError, match="a run of 0 steps, which has learned nothing yet, expected a trained one"):
        getattr(app, verb)("typed")
    assert contents(place) == before
