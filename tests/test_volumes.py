"""Volumes: three-dimensional images as a kind of data, from the exact field to the page of an evaluation.

The truth is a Gaussian volume: white noise smoothed along each of its three axes; covariance, score and density are known.
"""

import functools
import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from helpers import each_case, small_evaluations
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from scorefield import EDM, VE, Gaussian, SampleRng, ScorefieldError, ScoreModel, registry
from scorefield.app import evaluate, plan, sample, train
from scorefield.cli.plan import _data
from scorefield.config import override
from scorefield.data import DataConfig, Dataset, Normaliser
from scorefield.data.base import Examples, Layout, build
from scorefield.data.doctor import examine
from scorefield.data.planes import plane_size, planes, what_is_shown
from scorefield.likelihood import Exact, Hutchinson, log_prob
from scorefield.metrics.features import learn
from scorefield.metrics.lite0 import Lite0Network
from scorefield.nets.unet import UNet
from scorefield.recipes import DataStats, data_stats
from scorefield.runs import build_model, open_run
from scorefield.samplers import simulate
from scorefield.training.loop import Trainer
from scorefield.training.optimisers import Muon, matrices_of
from scorefield.training.pilot import reach

SIZE = (4, 3, 4)
SHAPE = (1, *SIZE)
EPS = torch.finfo(torch.float64).eps


def smoothing(places: int, width: float) -> numpy.ndarray:
    """The matrix that averages along an axis with weights exp(-|i - j|/width), each row of length 1."""
    weights = numpy.exp(-numpy.abs(numpy.subtract.outer(range(places), range(places))) / width)
    return weights / numpy.linalg.norm(weights, axis=1, keepdims=True)


@functools.cache
def covariance(widths: tuple[float, float, float] = (2.0, 1.0, 0.5)) -> numpy.ndarray:
    """Of unit noise smoothed along depth, height and width; every voxel has variance 1."""
    matrix = functools.reduce(numpy.kron, (smoothing(places, width) for places, width in zip(SIZE, widths, strict=True)))
    return matrix @ matrix.T


def truth(process: Any = VE(0.05, 60.0)) -> Gaussian:  # noqa: B008  # it is frozen
    return Gaussian(numpy.full(SHAPE, 0.5), covariance(), process)


# --- the exact field ---------------------------------------------------------------------------------------------------


def test_smoothing_each_axis_correlates_neighbours_along_it_as_the_product_of_three_factors() -> None:
    """Of the field itself: a voxel's covariance with another is the product of those of its three places."""
    matrix = truth().covariance.reshape(*SIZE, *SIZE).numpy()
    one = [smoothing(places, width) for places, width in zip(SIZE, (2.0, 1.0, 0.5), strict=True)]
    parts = [each @ each.T for each in one]
    for here, there in (((0, 0, 0), (1, 0, 0)), ((0, 0, 0), (0, 1, 0)), ((3, 2, 1), (1, 0, 3))):
        expected = math.prod(part[i, j] for part, i, j in zip(parts, here, there, strict=True))
        assert math.isclose(matrix[(*here, *there)], expected, rel_tol=1e-12)
    assert matrix[0, 0, 0, 1, 0, 0] > matrix[0, 0, 0, 0, 1, 0] > matrix[0, 0, 0, 0, 0, 1] > 0


@pytest.mark.parametrize("name", ["heun", "abm", "unipc", "dpm-solver++"])
def test_a_sampler_takes_gaussian_volumes_along_the_flow_in_closed_form(name: str) -> None:
    """Without Monte Carlo: the map from start to end is affine. Along the flow a direction of variance v goes from V + v to
    v + low; the last step multiplies by v/(v + low). Four times the steps leave a sixteenth of the error of second order."""
    field, (low, high) = truth(VE(0.01, 60.0)), (0.01**2, 60.0**2)
    variances, directions = numpy.linalg.eigh(covariance())
    ends = (high + 1) / (high + variances) * (variances + low) * (variances / (variances + low)) ** 2
    expected, errors = directions * ends @ directions.T, []
    for steps in (100, 400):
        sampler, levels = registry.find("sampler", name)().within(steps)
        corners = torch.cat([torch.zeros(1, 48), torch.eye(48)]).double().reshape(-1, *SHAPE)
        ladder = registry.find("ladder", sampler.ladder)(field.process, levels)
        *_, last = simulate(field, sampler, ladder, corners, rng=SampleRng(range(49)))
        origin, rows = last.x[0].flatten().numpy(), (last.x[1:] - last.x[0]).flatten(1).numpy()
        assert numpy.abs(rows.T @ numpy.full(48, 0.5) + origin - 0.5).max() < 1e-12
        errors.append(numpy.abs((high + 1) * rows.T @ rows - expected).max())
    assert errors[1] < 2e-4 and errors[1] < errors[0] / 12


# --- likelihood --------------------------------------------------------------------------------------------------------


def _noisy(field: Gaussian, n: int) -> tuple[Tensor, Tensor]:
    rng, t = SampleRng(range(n)), torch.full((n,), field.process.t_min, dtype=torch.float64)
    return field.process.perturb(field.sample(rng), t, SampleRng(range(n), stream=1).normal(field.shape)), t


def test_the_log_density_of_a_correlated_volume_is_that_in_closed_form() -> None:
    field = truth(VE(0.05, 3000.0))
    x, t = _noisy(field, 3)
    found = log_prob(field, x, rng=SampleRng(range(3)), divergence=Exact(), tolerance=1e-6, within=None)
    assert float((found.value - field.log_prob(x, t)).abs().max()) < 1e-3
    guess = log_prob(field, x, rng=SampleRng(range(3)), divergence=Hutchinson(), tolerance=1e-5, within=None)
    assert bool(((guess.value - field.log_prob(x, t)).abs() < 5 * guess.standard_error + 1e-3).all())
    assert float(guess.standard_error.min()) > 0.01  # one that is not exact says so


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 2, 3, 4)], ids=["an image", "a volume"])
def test_a_fresh_unet_is_the_field_of_white_noise_and_has_its_log_density(shape: tuple[int, ...]) -> None:
    """It answers 0, so EDM's skip path is all of it: the posterior mean of N(0, s²·I)."""
    s, process = 0.7, VE(0.05, 700.0)
    model = ScoreModel(UNet(shape, channels=(8, 8), blocks=1), EDM(data_std=s), process, shape).double().eval()
    model.data_std = s
    white = Gaussian(torch.zeros(shape), s**2 * torch.eye(math.prod(shape)), process)
    x, t = _noisy(white, 3)
    for divergence in (Exact(), Hutchinson()):
        found = log_prob(model, x, rng=SampleRng(range(3)), divergence=divergence, tolerance=1e-6, within=None)
        assert float((found.value - white.log_prob(x, t)).abs().max()) < 1e-3


# --- pictures ----------------------------------------------------------------------------------------------------------


def _of(kind: Any, raw: Tensor, dtype: str = "float32") -> Dataset:
    """A data set of these examples, whose range 0 to 10, or -10 to 10 of complex numbers, is mapped."""
    low = -10.0 if dtype.startswith("complex") else 0.0
    axes = {"image": "yx", "volume": "zyx"}[kind]
    layout = Layout(axes if dtype.startswith("complex") else "c" + axes, dtype, tuple(raw.shape[1:]))
    examples = Examples("x", kind, raw.repeat(8, *[1] * (raw.ndim - 1)), lambda _: Normaliser.between(low, 10.0), layout=layout)
    return build(examples, DataConfig())


def _distinct(*shape: int) -> Tensor:
    """Numbers between 0 and 10, all different."""
    count = math.prod(shape)
    return (10 * torch.arange(count).double() / count).reshape(shape)


@each_case(depth=[1, 2, 3, 4, 5, 8])
@each_case(channels=[1, 3])
def test_a_volume_is_shown_by_the_plane_in_its_middle_grey_or_in_colour(channels: int, depth: int) -> None:
    raw = _distinct(2, channels, depth, 3, 4)
    shown = planes(raw, data := _of("volume", raw))
    assert torch.equal(shown, raw[:, :, depth // 2] / 10)
    assert plane_size(data) == (3, 4)
    assert what_is_shown(data) == (f"the middle plane of {depth}" if depth > 1 else None)


@pytest.mark.parametrize("kind", ["image", "volume"])
@pytest.mark.parametrize("channels", [2, 4, 7])
def test_channels_that_are_no_colours_stand_side_by_side_the_first_four_of_more(channels: int, kind: str) -> None:
    raw = _distinct(2, channels, *(5,) * (kind == "volume"), 3, 4)
    shown, data = planes(raw, _of(kind, raw)), _of(kind, raw)
    flat, across = raw[:, :, 2] if kind == "volume" else raw, min(channels, 4)
    assert shown.shape == (2, 1, *plane_size(data)) == (2, 1, 3, 4 * across)
    for channel in range(across):
        assert torch.equal(shown[:, 0, :, 4 * channel : 4 * channel + 4], flat[:, channel] / 10)
    first = "the first 4 of 7" if channels == 7 else f"{channels}"
    assert str(what_is_shown(data)).endswith(f"{first} channels side by side")


def test_complex_numbers_are_shown_by_their_magnitude_black_at_zero() -> None:
    pairs = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-6.0, 8.0], [0.0, -10.0]]).double().mT.reshape(1, 2, 1, 2, 2)
    data = _of("volume", pairs, "complex64")
    assert torch.allclose(planes(pairs, data), torch.tensor([[[[0.0, 0.5], [1.0, 1.0]]]], dtype=torch.float64), atol=1e-15)
    assert plane_size(data) == (2, 2) and what_is_shown(data) == "the magnitude of complex numbers"


def test_an_unknown_cell_is_as_grey_as_what_surrounds_the_examples() -> None:
    raw = torch.tensor([[[[[math.nan, 10.0]]]]])
    assert planes(raw, _of("volume", torch.ones(1, 1, 1, 1, 2))).tolist() == [[[[128 / 255, 1.0]]]]


# --- the doctor --------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_copies_leaks_and_blanks_among_volumes() -> None:
    raw = 10 * SampleRng(range(40)).uniform((1, 5, 6, 7)).float()
    raw[3], raw[17] = raw[29], 4.0
    raw[31] = raw[30] + 0.01 * SampleRng([7]).normal((1, 5, 6, 7))[0].float()  # hardly another one
    data = build(Examples("x", "volume", raw, lambda _: Normaliser.between(0.0, 10.0)), DataConfig())
    found = examine(data)
    said = [f"{issue.where} {issue.cause}" for issue in found.issues]
    assert (found.copies + found.near_copies + found.leaks, found.looked_at) == (2, 40)
    assert sum("is blank: all its values are equal" in one for one in said) == 1
    assert sum("all but repeats" in one for one in said) == 1 and sum(" repeats " in one for one in said) == 2


# --- from an array to samples, pictures and figures -----------------------------------------------------------------------

TINY = ("network.channels=8,8", "network.blocks=1", "training.batch=8", "data.held_out=0.5", "data.axes=zyx")


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on forty volumes of 4 x 6 x 5 voxels in units of 200 to 300, with what it was trained on beside it."""
    place, rng = tmp_path_factory.mktemp("volumes"), numpy.random.default_rng(0)
    centres = rng.uniform(1, 4, (40, 3, 1, 1, 1))
    array = 200 + 100 * numpy.exp(-((numpy.mgrid[:4, :6, :5] - centres) ** 2).sum(1) / 4)
    numpy.save(place / "blobs.npy", array.astype(numpy.float32))
    train(place / "blobs.npy", steps=4, out=place / "run", settings=(*TINY, "training.pictures=1"))
    return place


def test_a_run_on_volumes_draws_them_in_the_axes_units_and_type_of_the_array(blobs: Path) -> None:
    (place,) = sample(blobs / "run", n=5, steps=4, out=blobs / "five.npy").written
    five, data = numpy.load(place), numpy.load(blobs / "blobs.npy")
    assert (five.shape, five.dtype) == ((5, 4, 6, 5), data.dtype)
    assert data.min() - 300 < five.min() < five.max() < data.max() + 300  # of an untrained network, in units of the data


def test_the_picture_of_samples_is_the_middle_plane_of_each_in_a_grid(blobs: Path) -> None:
    report = sample(blobs / "run", n=4, steps=4, out=blobs / "four.png", gif=True)
    sample(blobs / "run", n=4, steps=4, out=blobs / "four.npz")
    volumes, run = numpy.load(blobs / "four.npz")["x"], open_run(blobs / "run")
    pixels, zoom = numpy.asarray(Image.open(blobs / "four.png").convert("RGB")), 8
    (shift,), (scale,) = run.normaliser.shift, run.normaliser.scale
    for index, volume in enumerate(volumes):
        top, left = 2 + (index // 2) * (6 * zoom + 2), 2 + (index % 2) * (5 * zoom + 2)
        seen = pixels[top : top + 6 * zoom : zoom, left : left + 5 * zoom : zoom, 0]
        grey = 255 * ((volume[2] - (shift - scale)) / (2 * scale)).clip(0, 1)
        assert numpy.abs(seen - grey).max() < 0.51
    assert report.note == "the picture shows the middle plane of 4; an .npz holds everything"
    assert Image.open(blobs / "four.gif").size[0] > 5 * 2


def test_volumes_have_no_picture_file_each(blobs: Path) -> None:
    with pytest.raises(ScorefieldError, match=r"a folder, for samples that have no file each, expected a name ending in \.png"):
        sample(blobs / "run", n=4, out=blobs / "folder")


def test_an_evaluation_of_volumes_measures_every_part_and_its_page_says_which_plane_it_shows(
    blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorefield.evaluation.reference.extractors.learn", functools.partial(learn, steps=20))
    small_evaluations(monkeypatch)
    report = evaluate(blobs / "run", n=40, steps=4, against=blobs / "blobs.npy")
    assert not report.left_out
    assert {"FD-data", "energy, voxels"} <= set(report.labels.values())
    assert report.baseline is not None and report.baseline.figures["energy"].value < report.figures["energy"].value
    assert report.memorisation is not None and "moved one pixel forward" in report.memorisation.disguised
    assert report.likelihood is not None and report.diagnosis is not None
    page = next(path for path in report.written if path.suffix == ".html").read_text()
    assert "The pictures show the middle plane of 4." in page and page.count("data:image/png") == 4


def test_published_networks_are_refused_for_volumes_before_anything_is_measured(blobs: Path) -> None:
    weights = {k: torch.zeros(v.shape) for k, v in Lite0Network().state_dict().items()}
    save_file(weights, blobs / "lite.safetensors")
    with pytest.raises(ScorefieldError, match=r"for volumes of 1x4x6x5, expected data: published networks know images of one"):
        evaluate(blobs / "run", n=40, features=blobs / "lite.safetensors")


def test_the_plan_of_volumes_says_what_they_are(blobs: Path) -> None:
    found = plan(blobs / "blobs.npy", settings=TINY, steps=4, pilot_seconds=0.2)
    assert (found.data.kind, found.data.shape, found.reach) == ("volume", (1, 4, 6, 5), (4, 6, 5))
    said = dict(_data(found))
    assert said["examples"] == "40 volumes of 4 x 6 x 5 voxels, 1 channel: 20 for training, 20 held out (never trained on)"
    assert "] becomes [-1, 1]" in said["values"]
    assert not any("--size" in sentence or "--flip" in sentence for sentence in found.expectations)


# --- recipes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "patch", "batch", "attention"),
    [((8, 12, 10), 1, 64, True), ((16, 32, 32), 2, 16, True), ((64, 64, 64), 2, 4, True), ((160, 192, 160), 4, 4, False)],
    ids=str,
)
def test_the_default_network_of_volumes_folds_and_batches_by_the_number_of_voxels(
    size: tuple[int, ...], patch: int, batch: int, attention: bool
) -> None:
    stats = DataStats("x", "volume", (1, *size), 500, torch.zeros(1), 0.5, 10.0, -0.5, 0)
    for name in registry.names("recipe"):
        config = registry.find("recipe", name)(stats).config
        assert config.training.batch == batch, name
        if name != "ncsn":  # its network has one resolution
            assert (config.network.patch, config.network.attention) == (patch, attention)


@pytest.mark.parametrize("recipe", registry.names("recipe"))
def test_every_recipe_trains_on_volumes(recipe: str) -> None:
    raw = SampleRng(range(24)).uniform((2, 2, 4, 3)).float()
    data = build(Examples("x", "volume", raw, lambda _: Normaliser.between(0.0, 1.0)), DataConfig())
    stats = data_stats(data)
    found = registry.find("recipe", recipe)(stats).config
    small = ("network.width=8",) if recipe == "ncsn" else ("network.channels=8,8",)
    config = override(found, ("training.steps=2", "training.seconds=none", "training.batch=4", *small))
    trainer = Trainer(config, data, build_model(config, data.shape, stats.std, stats.mean), None, torch.device("cpu"))
    before = [weight.clone() for weight in trainer.model.parameters()]
    *_, last = trainer.run()
    after = list(trainer.model.parameters())
    assert last.step == 2 and all(bool(weight.isfinite().all()) for weight in after)
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


# --- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [2], ids=["depth"])
def test_a_network_of_volumes_denoises_better_along_every_axis_than_any_that_sees_one_voxel(axis: int) -> None:
    """Volumes that are constant along one axis and white along the others: n noisy copies of a number of variance v have the
    posterior variance 1/(1/v + n/sigma²), one alone has 1/(1/v + 1/sigma²)."""
    n, sigma, process = 4, 1.0, VE(0.1, 10.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet((1, 4, 4, 4), channels=(8, 8), blocks=1, attention=False)
    model, t = ScoreModel(network, EDM(data_std=1.0), process, (1, 4, 4, 4)), process.time_of_sigma(torch.tensor(sigma))

    def error(seed: int) -> Tensor:
        rng = SampleRng(range(32), stream=seed)
        x0 = rng.normal((1, 4, 4, 4)).narrow(axis, 0, 1).expand(-1, 1, 4, 4, 4).float()
        noisy = x0 + sigma * rng.normal((1, 4, 4, 4)).float()
        return (model(noisy, t.expand(32)).denoised - x0).square().mean()

    optimiser = Muon(network, lr=5e-3)
    for step in range(100):
        optimiser.zero_grad()
        error(step).backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        found = sum(float(error(1000 + i)) for i in range(10)) / 10
    alone, together = 1 / (1 + 1 / sigma**2), 1 / (1 + n / sigma**2)
    assert together < found < (alone + together) / 2


def test_muon_has_the_kernels_of_every_convolution_whatever_its_axes() -> None:
    for size in ((8,), (4, 4), (2, 4, 4)):
        network = UNet((2, *size), channels=(8, 16), blocks=1)
        kernels = [weight for weight in network.parameters() if weight.ndim == len(size) + 2]
        had = {id(weight) for weight in matrices_of(network)}
        assert kernels and all(id(weight) in had for weight in kernels)


def test_an_output_of_a_small_unet_sees_the_whole_of_a_volume_and_a_convolution_three_voxels() -> None:
    assert reach(nn.Conv3d(2, 2, 3, padding=1), (2, 5, 7, 9)) == (3, 3, 3)
    assert reach(UNet((1, 4, 6, 8), channels=(8, 8), blocks=1), (1, 4, 6, 8)) == (4, 6, 8)
