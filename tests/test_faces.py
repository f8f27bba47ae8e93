"""The faces: Python and the command give the same bytes; a wrong word gets one sentence and exit code 2; nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import command, contents
from PIL import Image

from scorefield import ScorefieldError, app, outputs, registry
from scorefield.drawing import Drawing, SampleSpec, choose_sampler
from scorefield.durations import seconds_of
from scorefield.runs import load_field, open_run
from scorefield.specs import ComputeSpec
from scorefield.training.begin import folder_name

SMALL = (
    *("network.channels=8,16", "network.blocks=1", "training.batch=16"),
    *("training.precision=float32", "training.pictures=2", "training.ema=0.999"),
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits that has learned next to nothing, which is enough for everything but quality."""
    folder = tmp_path_factory.mktemp("faces") / "digits"
    app.train("digits", out=folder, steps=8, settings=SMALL)
    return folder


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "moons"
    app.train(
        "two-moons", out=folder, steps=8, settings=("data.examples=200", "training.precision=float32", "training.pictures=0")
    )
    return folder


# --- the same bytes ----------------------------------------------------------------------------------------------------


def test_the_flags_of_sample_are_the_fields_of_its_specs(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("sample", "--help") == 0
    text = capsys.readouterr().out
    flags = set(re.findall(r"--[a-z-]+", text))
    fields = {f"--{field.name}".replace("_", "-") for spec in (SampleSpec, ComputeSpec) for field in dataclasses.fields(spec)}
    assert fields <= flags
    assert " ".join(outputs.help_text().split()[:4]) in text


@pytest.mark.parametrize("name", ["grid.png", "samples.npz"])
def test_python_and_the_command_give_the_same_bytes_and_so_does_repeating_them(name: str, digits: Path, tmp_path: Path) -> None:
    app.sample(digits, n=9, out=tmp_path / f"python-{name}", seed=3)
    assert command("sample", digits, "-n", 9, "--out", tmp_path / f"command-{name}", "--seed", 3) == 0
    assert command("sample", digits, "-n", 9, "--out", tmp_path / f"again-{name}", "--seed", 3) == 0
    one, other, third = ((tmp_path / f"{who}-{name}").read_bytes() for who in ("python", "command", "again"))
    assert one == other == third
    app.sample(digits, n=9, out=tmp_path / f"other-{name}", seed=4)
    assert (tmp_path / f"other-{name}").read_bytes() != one


def test_a_sample_does_not_depend_on_its_batch(digits: Path) -> None:
    run = open_run(digits)
    sampler, ladder = choose_sampler(run, SampleSpec("annealed", 40))
    together, alone = Drawing(run, sampler, ladder).draw(6, batch=6), Drawing(run, sampler, ladder).draw(6, batch=1)
    # Identical noise; float32 convolutions of other batch sizes add in another order, and 40 steps pass that on.
    assert float((together - alone).abs().max()) < 1e-5
    assert float((Drawing(run, sampler, ladder).draw(4) - together[:4]).abs().max()) < 1e-5


def test_the_same_training_twice_leaves_the_same_weights_and_pictures(digits: Path, tmp_path: Path) -> None:
    app.train("digits", out=tmp_path / "digits", steps=8, settings=SMALL)
    one, other = contents(digits), contents(tmp_path / "digits")
    assert one.keys() >= other.keys() - {"samples-seed0.png"}
    for name in ("model.safetensors", "config.json", "levels.json", "loss_by_level.png"):
        assert one[name] == other[name], name


def test_every_sampler_draws_finite_samples_from_a_run(digits: Path) -> None:
    run = open_run(digits)
    for name in registry.names("sampler"):
        sampler, ladder = choose_sampler(run, SampleSpec(name, 20))
        assert bool(Drawing(run, sampler, ladder).draw(2).isfinite().all()), name


def test_steps_asks_for_about_that_many_steps_of_every_sampler(digits: Path) -> None:
    run = open_run(digits)
    for name in registry.names("sampler"):
        sampler, ladder = choose_sampler(run, SampleSpec(name, 40))
        assert len(ladder) * sampler.steps_per_level == 40, name


# --- what is written ---------------------------------------------------------------------------------------------------


def test_the_folder_describes_itself_and_opens_without_its_data(digits: Path) -> None:
    run = open_run(digits)
    assert run.config.source == "digits"
    assert run.shape == (1, 8, 8)
    assert run.manifest["data"]["examples"] == 1198
    assert run.manifest["data"]["held_out"] == 599
    assert re.fullmatch("[0-9a-f]{64}", run.manifest["data"]["fingerprint"])
    progress = run.manifest["progress"]
    assert (progress["step"], progress["images"], progress["finished"]) == (8, 8 * 16, True)
    assert progress["seconds"] > 0
    assert any("sigma_max = 9.63" in reason for reason in run.manifest["why"])
    lines = [json.loads(line) for line in (digits / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 8
    assert all(line["loss"] is None or line["loss"] > 0 for line in lines)


def test_training_draws_raw_and_average_side_by_side(digits: Path) -> None:
    previews = sorted((digits / "previews").glob("*.png"))
    assert [path.name for path in previews] == ["step-00000004-raw-and-average.png", "step-00000008-raw-and-average.png"]
    with Image.open(previews[0]) as picture:
        half = (picture.width - 16) // 2
        left, right = picture.crop((0, 0, half, picture.height)), picture.crop((half + 16, 0, picture.width, picture.height))
        assert left.tobytes() != right.tobytes()


def test_a_folder_holds_one_picture_a_sample_and_an_array_the_same_in_the_units_of_the_data(
    digits: Path, tmp_path: Path
) -> None:
    app.sample(digits, n=5, out=tmp_path / "folder")
    app.sample(digits, n=5, out=tmp_path / "array.npz")
    with np.load(tmp_path / "array.npz") as file:
        images = file["images"]
    for index in range(5):
        with Image.open(tmp_path / "folder" / f"{index:05d}.png") as picture:
            pixels = np.asarray(picture).astype(float) * 16 / 255  # these images have the greys 0 to 16
            assert (np.abs(pixels - images[index]) <= 0.5 + 8 / 255).all()  # each is rounded to its own steps


def test_samples_of_vectors_come_back_in_the_units_of_the_data(moons: Path, tmp_path: Path) -> None:
    app.sample(moons, n=6, out=tmp_path / "x.npz", sampler="heun", steps=5)
    run = open_run(moons)
    sampler, ladder = choose_sampler(run, SampleSpec("heun", 5))
    x = Drawing(run, sampler, ladder).draw(6)
    with np.load(tmp_path / "x.npz") as file:
        expected = x.numpy() * np.array(run.normaliser.scale) + np.array(run.normaliser.shift)
        assert np.array_equal(file["x"], expected.astype(np.float32))


def test_the_animation_ends_with_the_samples(digits: Path, tmp_path: Path) -> None:
    report = app.sample(digits, n=4, out=tmp_path / "few.png", gif=True)
    assert [path.name for path in report.written] == ["few.png", "few.gif"]
    with Image.open(tmp_path / "few.gif") as film, Image.open(tmp_path / "few.png") as still:
        assert 20 <= film.n_frames <= 70
        film.seek(film.n_frames - 1)
        last = np.asarray(film.convert("L").resize(still.size, Image.Resampling.NEAREST), dtype=float)
        # 64 greys in the film; both are enlarged without smoothing, so only the grey gaps between images can lie apart.
        far = np.abs(last - np.asarray(still.convert("L"), dtype=float)) > 3
        assert far.mean() < 0.1


def test_resume_goes_on_and_a_finished_run_stays_as_it_is(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    app.train("digits", out=folder, steps=5, settings=SMALL)
    before = contents(folder)
    report = app.train("digits", out=folder, steps=5, resume=True)
    assert report.ended == "before"
    assert contents(folder) == before
    report = app.train("digits", out=folder, steps=8, resume=True)
    assert (report.step, report.ended) == (8, "done")


# --- the wrong thing ---------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with some broken inputs beside it."""
    inputs = tmp_path / "inputs"
    (inputs / "empty").mkdir(parents=True)
    (inputs / "broken").mkdir()
    (inputs / "broken" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    values = np.zeros((20, 3), dtype=np.float32)
    values[3, 1] = np.inf
    np.save(inputs / "infinite.npy", values)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


WRONG = [
    (("train", "digist"), "unknown|did you mean 'digits'"),
    (("train", "../inputs/nowhere/"), "expected"),
    (("train", "../inputs/empty"), "expected"),
    (("train", "../inputs/broken"), "cut.png"),
    (("train", "../inputs/infinite.npy"), "1 infinite or too large values"),
    (("train", "digits", "--recipe", "ncnsv2"), "did you mean 'ncsnv2'"),
    (("train", "digits", "--set", "network.chanels=8"), "did you mean 'channels'"),
    (("train", "digits", "--set", "training.batch=0"), "training.batch"),
    (("train", "digits", "--set", "process.sigma_min=100"), "sigma_min < sigma_max"),
    (("train", "digits", "--set", "sampler=huen"), "did you mean 'heun'"),
    (("train", "digits", "--set", "steps"), "expected dotted.key=value"),
    (("train", "digits", "--time", "3 parsecs"), "expected a duration"),
    (("train", "digits", "--steps", "0"), "training.steps"),
    (("train", "digits", "--seed", "-1"), "seed"),
    (("train", "digits", "--set", "process=noiseless"), "without noise for denoising.*choose an objective that needs none"),
    (
        ("train", "digits", "--set", "process=noiseless", "--set", "objective=implicit"),
        "8-bit data .* unbounded below.*add noise",
    ),
    (("train", "digits", "--set", "objective=sliced"), "dropout .*: set network.dropout=0"),
    (("train", "digits", "--set", "objective=sliced", "--set", "objective.projection=unit"), "choose the projection sphere"),
    (("train", "digits", "--set", "objective=bound"), "choose process=ddpm-chain, or set steps"),
    (("train", "digits", "--set", "objective=simple"), "choose process=ddpm-chain, or set steps"),
    (("train", "digits", "--set", "objective=contrastive"), "has no energy.*: set parametrisation=energy"),
    (("train", "digits", "--set", "parametrisation=energy", "--set", "network=residual"), "relu.*expected a smooth network"),
    (("sample", "runs/none"), "expected a run's folder"),
    (("inspect", ".."), "expected the folder of a run"),
    (("evaluate", "runs/none"), "expected a run's folder"),
    (("list", "samplers"), "did you mean 'sampler'"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_wrong_word_gets_one_sentence_exit_code_2_and_nothing_written(
    words: tuple[str, ...], says: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*words) == 2
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("scorefield: ")
    assert re.search(says, lines[0]), lines[0]
    assert "Traceback" not in said.err
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("words", [("--recipe",), ("--tiem", "3m"), ("--device", "tpu"), ("--steps", "many")])
def test_a_wrong_option_exits_with_2_and_writes_nothing(words: tuple[str, ...], place: Path) -> None:
    assert command("train", "digits", *words) == 2
    assert list(place.iterdir()) == []


def test_nothing_is_overwritten_unasked(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(digits)
    assert command("train", "digits", "--out", digits) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert contents(digits) == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    assert command("train", "digits", "--out", tmp_path / "notes") == 2
    for name in ("grid.png", "array.npz", "folder"):
        assert command("sample", digits, "-n", 1, "--out", tmp_path / name) == 0
        kept = contents(tmp_path)
        assert command("sample", digits, "-n", 2, "--out", tmp_path / name) == 2
        assert "add --force" in capsys.readouterr().err
        assert contents(tmp_path) == kept
        assert command("sample", digits, "-n", 2, "--out", tmp_path / name, "--force") == 0
        assert contents(tmp_path) != kept


def test_a_run_whose_data_changed_is_not_continued(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    np.save(tmp_path / "x.npy", rows)
    app.train(str(tmp_path / "x.npy"), out=tmp_path / "run", steps=2, settings=("training.precision=float32",))
    np.save(tmp_path / "x.npy", rows + 1)
    with pytest.raises(ScorefieldError, match="differ from those the run"):
        app.train(str(tmp_path / "x.npy"), out=tmp_path / "run", steps=4, resume=True)


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json", "config.json"])
def test_a_damaged_run_is_refused(name: str, digits: Path, tmp_path: Path) -> None:
    for path in ("model.safetensors", "manifest.json", "config.json"):
        (tmp_path / path).write_bytes((digits / path).read_bytes())
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ScorefieldError, match="expected"):
        load_field(tmp_path)


def test_a_run_of_an_unknown_format_is_refused_with_advice(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((digits / "config.json").read_bytes())
    manifest = json.loads((digits / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(ScorefieldError, match=r"format 99.*open it with the scorefield version"):
        open_run(tmp_path)


def test_durations_are_read_as_people_write_them() -> None:
    assert [seconds_of(text) for text in ("90", "90s", "3m", "1.5h", "1h30m", "2m30s")] == [90, 90, 180, 5400, 5400, 150]
    for text in ("", "0", "soon", "3 m", "-5s", "1d", "1h30"):
        with pytest.raises(ScorefieldError, match="expected"):
            seconds_of(text)


def test_the_default_folder_is_called_after_the_source_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos.v2" / "inside").mkdir(parents=True)
    (tmp_path / "table.of.numbers.npy").write_bytes(b"")
    monkeypatch.chdir(tmp_path / "photos.v2" / "inside")
    names = [
        folder_name(source) for source in ("digits", "..", "../", ".", "../../photos.v2/", "../../table.of.numbers.npy", "/")
    ]
    assert names == ["digits", "photos.v2", "photos.v2", "inside", "photos.v2", "table.of.numbers", "run"]


def test_parts_that_do_not_fit_are_refused_before_anything_is_written(place: Path) -> None:
    assert command("train", "digits", "--recipe", "ncsn", "--set", "network.levels=5") == 2
    assert command("train", "digits", "--set", "process=noiseless") == 2
    assert command("train", "digits", "--set", "network=mlp", "--set", "source=mixture") == 2
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("objective=bound", "objective.steps=10", "objective.decoder=pixels"), "no 8-bit pixels"),
        (("objective=persistent", "parametrisation=energy", "objective.chains=511"), "to at least training.batch"),
        (("process=noiseless", "objective=sliced", "parametrisation=edm"), "choose another parametrisation"),
    ],
)
def test_an_objective_that_cannot_learn_from_the_data_is_refused_before_anything_is_written(
    settings: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    """The data are 512 points a step in the plane, which are no pixels."""
    with pytest.raises(ScorefieldError, match=says):
        app.train("two-moons", out=tmp_path / "run", steps=2, settings=settings)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_noise_is_trained_resumed_and_sampled_at_its_one_level(tmp_path: Path) -> None:
    """It learns the score itself; there is no curve by level, and samplers that need many levels are refused."""
    run, budget = tmp_path / "run", {"steps": 4, "out": tmp_path / "run"}
    app.train("two-moons", settings=("process=noiseless", "objective=sliced", "data.examples=400"), **budget)
    assert not (run / "levels.json").exists()
    assert app.train("two-moons", resume=True, **budget).ended == "before"
    report = app.sample(run, n=3, out=tmp_path / "few.npz")
    assert (report.levels, bool(np.isfinite(np.load(tmp_path / "few.npz")["x"]).all())) == (1, True)
    with pytest.raises(ScorefieldError, match=r"on a process with a single time, t = 0, expected 1: .* langevin"):
        app.sample(run, n=3, sampler="annealed", out=tmp_path / "more.npz")


def test_somebody_elses_weights_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"a month of somebody's work")
    assert command("train", "digits", "--out", tmp_path, "--steps", 1) == 2
    assert contents(tmp_path) == {"model.safetensors": b"a month of somebody's work"}


@pytest.mark.parametrize("lost", ["model.safetensors", "levels.json", "manifest.json"])
def test_a_run_killed_at_its_very_end_is_mended_by_resuming(lost: str, digits: Path, tmp_path: Path) -> None:
    """The weights are written before the manifest, and the curve after both: each may be the one that is missing or old."""
    folder = tmp_path / "digits"
    shutil.copytree(digits, folder)
    if lost == "manifest.json":
        manifest = json.loads((folder / lost).read_text())
        manifest["progress"]["finished"] = False
        manifest["model_sha256"] = "0" * 64
        (folder / lost).write_text(json.dumps(manifest))
    else:
        (folder / lost).unlink()
    report = app.train("digits", out=folder, steps=8, resume=True)
    assert (report.step, report.ended) == (8, "done")
    assert (folder / "model.safetensors").read_bytes() == (digits / "model.safetensors").read_bytes()
    assert app.train("digits", out=folder, steps=8, resume=True).ended == "before"


def test_a_run_that_was_asked_to_stop_goes_on_to_the_same_weights(digits: Path, tmp_path: Path) -> None:
    asked = iter([False, False, False, True])
    report = app.train("digits", out=tmp_path / "digits", steps=8, settings=SMALL, stop=lambda: next(asked))
    assert (report.step, report.ended) == (3, "stopped")
    assert open_run(tmp_path / "digits").manifest["progress"]["step"] == 3
    app.train("digits", out=tmp_path / "digits", steps=8, resume=True)
    assert (tmp_path / "digits" / "model.safetensors").read_bytes() == (digits / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ("--seed", "1"),
        ("--recipe", "ncsn"),
        ("--set", "network.blocks=2"),
        ("--set", "training.batch=32"),
        ("--set", "training.ema=0"),
        ("--set", "process.sigma_max=5"),
        ("--set", "objective=sliced"),
        ("--set", "objective.weighting=learned"),
    ],
)
def test_a_run_goes_on_only_as_what_it_is(words: tuple[str, ...], digits: Path) -> None:
    before = contents(digits)
    assert command("train", "digits", "--out", digits, "--resume", "--steps", 9, *words) == 2
    assert contents(digits) == before


def test_a_folder_of_images_that_holds_its_own_run_stays_the_same_data(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    for index, pixels in enumerate(values):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    small = ("network=residual", "network.width=8", "network.blocks=1", "training.precision=float32")
    app.train(tmp_path, out=tmp_path / "run", steps=2, settings=small)
    app.sample(tmp_path / "run", n=2, steps=10)
    report = app.train(tmp_path, out=tmp_path / "run", steps=3, resume=True)
    assert (report.step, report.ended) == (3, "done")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-n", "0"), "at least 1"),
        (("--batch", "0"), "at least 1"),
        (("--steps", "0"), "at least 1"),
        (("--sampler", "anealed"), "did you mean 'annealed'"),
        (("--out", "grid.jpg"), "ending in .png, .npz"),
        (("--out", "no/such/folder/grid.png"), "make it first"),
        (("--out", "taken", "--force"), "where there is a file"),
        (("--out", "taken.png", "--force"), "where there is a folder"),
    ],
    ids=str,
)
def test_what_cannot_be_sampled_is_refused_before_the_work(
    words: tuple[str, ...], says: str, digits: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "taken").write_text("a file")
    (place / "taken.png").mkdir()
    assert command("sample", digits, *words) == 2
    assert says in capsys.readouterr().err
    assert sorted(path.name for path in place.iterdir()) == ["taken", "taken.png"]


# --- help and lists ----------------------------------------------------------------------------------------------------


def test_help_imports_nothing_slow() -> None:
    code = "import sys\nfrom scorefield.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'numpy', 'sklearn', 'matplotlib', 'PIL', 'pydantic') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip().splitlines()[-1] == "[]"
    assert "scorefield train digits" in said


def test_list_names_every_registered_component_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("list") == 0
    said = capsys.readouterr().out
    for kind in registry.HOMES:
        for name in registry.names(kind):
            assert re.search(rf"^  {re.escape(name)} +\S", said, re.M), (kind, name)


def test_inspect_says_why(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("inspect", digits, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["config"]["process"]["sigma_max"] == pytest.approx(9.63, abs=0.01)
    assert values["sigmas"] == sorted(values["sigmas"], reverse=True)
    assert command("inspect", digits) == 0
    assert "largest distance between two examples" in re.sub(r"[│\s]+", " ", capsys.readouterr().out)
