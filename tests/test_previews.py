"""What a training leaves to look at never stops it, and shows what is there."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefield import ScorefieldError, app, files, pictures
from scorefield.app import train
from scorefield.levels import geometric
from scorefield.progress import silent
from scorefield.randomness import SampleRng, stream_of, subsample
from scorefield.runs import open_run
from scorefield.training import folder, previews
from scorefield.training.reports import TrainingState


@pytest.fixture(scope="module", autouse=True)
def whole_curves(short_curves: Callable[[pytest.MonkeyPatch], None]) -> Iterator[None]:
    """The curve at the end of every training here is the one that a person gets."""
    with pytest.MonkeyPatch.context() as patch:
        short_curves(patch)
        yield


SMALL = ("data.examples=200", "training.batch=16", "network.width=8", "training.pictures=2")


def table(folder: Path, name: str, values: list[Any]) -> Path:
    """A table of a column of normal numbers and another of these values, repeated."""
    numbers = SampleRng(range(60)).normal().tolist()
    path = folder / f"{name}.csv"
    path.write_text("a,b\n" + "".join(f"{number},{values[i % len(values)]}\n" for i, number in enumerate(numbers)))
    return path


@pytest.mark.parametrize("values", [[9 * 10**15 + i for i in range(5)], [-1.8e307]], ids=["9e15", "negative"])
def test_a_table_of_extreme_numbers_is_trained_and_drawn(values: list[float], tmp_path: Path) -> None:
    report = train(table(tmp_path, "odd", values), out=tmp_path / "run", steps=2, settings=SMALL[1:])
    assert report.ended == "done"
    assert not [sentence for sentence in report.messages if "passed over" in sentence]
    assert len(report.written) == 4 and all(path.exists() for path in report.written)


def bars(values: list[float], bins: int) -> tuple[list[tuple[float, float]], float, float, str]:
    """The (middle, height) of every bar that has one, the origin, the unit and the note of a histogram."""
    _, axes = pictures.new_figure(1, 1)
    found = pictures._histogram(axes, values, bins)
    return [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches if bar.get_height()], *found


@pytest.mark.parametrize("value", [0.0, 5.0, -7e8, 1e19, -1.7e308, 5e-324])
def test_a_constant_is_one_bar_that_holds_everything_where_the_constant_is(value: float) -> None:
    drawn, origin, unit, _ = bars([value] * 7, 31)  # an odd number of bins: the constant lies in the middle of one
    ((middle, height),) = drawn
    assert height == 7
    assert math.isclose((origin + middle) * unit, value, rel_tol=1e-15, abs_tol=1e-9)


def test_numbers_a_few_roundings_apart_are_kept_apart_and_counted_exactly() -> None:
    start = 9.0e15
    drawn, origin, unit, note = bars([start + i % 5 for i in range(50)], 30)
    assert [height for _, height in drawn] == [10] * 5
    assert (origin, unit, note) == (start, 1.0, ", counted from 9000000000000000.0")
    assert all(abs(middle - i) <= 4 / 30 for i, (middle, _) in enumerate(drawn))  # within a bin


def test_numbers_at_both_ends_of_the_floats_have_a_unit_and_infinite_ones_are_counted() -> None:
    drawn, _, unit, note = bars([1e308, -1e308, math.inf, math.nan], 2)
    assert [(round(middle, 6), height) for middle, height in drawn] == [(-0.5, 1), (0.5, 1)]
    assert unit == 1e308 and note == " in 1e+308, 2 not finite"


def test_nothing_to_plot_is_a_sentence_and_a_formula_in_a_name_is_no_formula() -> None:
    with pytest.raises(ScorefieldError, match="nothing to plot"):
        pictures.lines(torch.zeros(0, 1, 5))
    with pytest.raises(ScorefieldError, match="nothing to plot"):
        pictures.histograms({})
    pictures.histograms({r"$\bad$": [r"$\worse$", "b"]})
    pictures.loss_by_level([0.1, 1.0], {"a": [0.5, 1.0]}, r"$\bad$")


class Faults:
    """Something that fails at every call, each time with the next of these errors, and counts."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.calls = errors, 0

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.calls += 1
        raise self.errors[min(self.calls, len(self.errors)) - 1]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run without pictures."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    train("two-moons", out=folder, steps=4, settings=(*SMALL, "training.pictures=0"))
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("error", [ValueError("too many bins"), MemoryError(), OSError(28, "No space left")])
def test_whatever_a_picture_raises_is_named_once_and_the_weights_are_those_of_a_run_without_pictures(
    error: Exception, plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Faults(error)
    monkeypatch.setattr(pictures, "png", fault)
    report = train("two-moons", out=tmp_path / "run", steps=4, settings=(*SMALL, "training.pictures=2"))
    assert fault.calls == 3  # at two times, and the plot at the end
    said = [sentence for sentence in report.messages if "passed over" in sentence]
    assert [sentence.partition(" (")[0] for sentence in said] == [
        "no picture of samples",
        "no plot of the error by noise level",
    ]
    assert all(type(error).__name__ in sentence and str(error) in sentence for sentence in said)
    assert [path.name for path in report.written] == ["levels.json"]
    assert plain == (report.folder / "model.safetensors").read_bytes()
    assert open_run(report.folder).manifest["progress"]["finished"]


def test_a_table_that_cannot_be_measured_or_a_folder_that_cannot_be_written_is_passed_over_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def block(_fraction: float, _text: str, event: Any) -> None:
        if isinstance(event, app.Plan):
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "previews").write_text("a file where the folder should be")
            (tmp_path / "run" / "manifest.json").write_text("{}")

    monkeypatch.setattr(folder, "losses_by_level", Faults(MemoryError("too large")))
    report = train("two-moons", out=tmp_path / "run", steps=2, settings=(*SMALL, "data.examples=300"), progress=block)
    said = [sentence for sentence in report.messages if "passed over" in sentence]
    assert [sentence.partition(" (")[0] for sentence in said] == [
        "no picture of samples",
        "no table of the error by noise level",
    ]
    assert report.ended == "done" and report.written == ()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_inside_a_picture_is_no_fault_of_the_picture(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "png", Faults(error))
    with pytest.raises(type(error)):
        train("two-moons", out=tmp_path / "run", steps=2, settings=SMALL)


# --- the curve at the end -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    shares: list[float] = []

    def watch(_fraction: float, _text: str, event: Any) -> None:
        if isinstance(event, TrainingState) and event.event == "measuring":
            shares.append(event.fraction)

    folder = tmp_path_factory.mktemp("previews") / "moons"
    train("two-moons", out=folder, steps=2, settings=(*SMALL, "training.pictures=0"), progress=watch)
    return folder, shares


def test_the_curve_reports_its_progress_from_nothing_to_nearly_all_in_even_steps(moons: tuple[Path, list[float]]) -> None:
    _, shares = moons
    model = shares[: 2 * previews.CURVE_LEVELS]  # of three parts, of which the last is one pass over the training set
    assert all(abs(share - i / (1.5 * len(model))) < 1e-12 for i, share in enumerate(model))
    assert shares == sorted(shares) and shares[len(model)] == 2 / 3 and shares[-1] < 1


@pytest.mark.parametrize("part", [64, 150])
def test_the_optimum_of_a_part_is_that_of_the_part_on_its_own_examples_and_says_of_how_many(
    part: int, moons: tuple[Path, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """‖alpha·(E[x0 | x] - x0)/sigma‖²/d by a loop over the part's points, on the examples that the model is measured on."""
    run = open_run(moons[0])
    data, examples = run.data, 30
    monkeypatch.setattr(previews, "CURVE_EXAMPLES", (10, examples))
    monkeypatch.setattr(previews, "OPTIMUM_PRODUCTS", part * examples * (2 + previews.PAIR_PRODUCTS))
    sigmas, curves = previews.losses_by_level(run, data, silent)
    name = f"memorising optimum of {part} training examples"
    assert list(curves) == ["training examples", "held-out examples", name]
    seen, points = data.x0(subsample(len(data.train), examples)).double(), data.x0(subsample(len(data.train), part)).double()
    assert all(bool((points == one).all(dim=1).any()) for one in seen)
    noise = SampleRng(range(examples), stream=stream_of("curve")).normal((2,)).float().double()  # the same at every level
    for sigma, t, found in zip(sigmas, geometric(run.config.process, len(sigmas)), curves[name], strict=True):
        x = seen + float(run.config.process.sigma(t)) * noise
        weights = torch.softmax(-((x[:, None] - points) ** 2).sum(dim=2) / (2 * sigma**2), dim=1)
        expected = float((((weights @ points - seen) / sigma) ** 2).mean())
        assert abs(found - expected) < 1e-4 * max(expected, 1e-2)  # float32 examples; at small sigma both are nearly 0


def test_the_optimum_of_a_table_of_100000_rows_is_that_of_all_of_them_on_fewer_examples_with_the_noise_of_those(
    moons: tuple[Path, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(moons[0])
    n = len(run.data.train)
    monkeypatch.setattr(previews, "OPTIMUM_EXAMPLES", 5)
    whole = previews.losses_by_level(run, run.data, silent)[1]["memorising optimum, on training examples"]
    monkeypatch.setattr(previews, "OPTIMUM_PRODUCTS", 10 * n * (2 + previews.PAIR_PRODUCTS))
    part = previews.losses_by_level(run, run.data, silent)[1]["memorising optimum, on 10 training examples"]
    data, examples = run.data, subsample(n, min(n, previews.CURVE_EXAMPLES[1]))
    points = data.x0(slice(None)).double()
    noise = SampleRng(range(len(examples)), stream=stream_of("curve")).normal((2,)).float().double()
    losses, mine = [], torch.isin(examples, subsample(n, 10))
    assert int(mine.sum()) == 10
    for t in geometric(run.config.process, len(whole)):
        sigma, x0 = float(run.config.process.sigma(t)), points[examples]
        x = x0 + sigma * noise
        weights = torch.softmax(-((x[:, None] - points) ** 2).sum(dim=2) / (2 * sigma**2), dim=1)
        losses.append((((weights @ points - x0) / sigma) ** 2).mean(dim=1))
    for all_, few, expected in zip(whole, part, losses, strict=True):
        assert abs(all_ - float(expected.mean())) < 1e-4 * max(all_, 1e-2)
        assert abs(few - float(expected[mine].mean())) < 1e-4 * max(few, 1e-2)


def test_the_whole_training_set_is_taken_where_it_is_affordable(moons: tuple[Path, list[float]]) -> None:
    values = json.loads((moons[0] / "levels.json").read_text())
    assert list(values) == [
        "sigma",
        "training examples",
        "held-out examples",
        "memorising optimum, on training examples",
        "made_from",
    ]


def test_the_curve_of_a_large_image_set_costs_a_bounded_number_of_products() -> None:
    """54,000 images of 28 x 28: all of them, at fewer than 5·10^10 multiplications in float32, and as few for the model."""
    size, n = 784, 54_000
    few = max(previews.CURVE_EXAMPLES[0], min(previews.CURVE_EXAMPLES[1], previews.CURVE_NUMBERS // size))
    on, within = previews.optimum_sizes(n, few, size)
    assert on * within * size * previews.CURVE_LEVELS <= 5e10 and few >= 32
    assert within == n


def test_files_of_previews_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = previews.Previews()
    monkeypatch.setattr(files, "put", Faults(OSError(28, "No space left on device")))

    def write() -> Path:
        files.write(tmp_path / "picture.png", b"x")
        return tmp_path / "picture.png"

    assert len(shown.take("picture", write)) == 1 and shown.take("picture", write) == () and shown.written == []
    assert list(tmp_path.iterdir()) == []
