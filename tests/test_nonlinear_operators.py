"""Nonlinear operators: the evidence of a measurement against quadrature, and JPEG against Pillow's files."""

import io
import math
from typing import Any

import numpy as np
import scipy.integrate
import scipy.ndimage
import scipy.special
import scipy.stats
import torch
from helpers import double, each_case
from PIL import Image
from torch import Tensor

from scorefield.operators import JPEG, Absolute, Clip, Operator, Quantise, dense, log_likelihood, parse
from scorefield.operators.normal import log_below, log_between
from scorefield.randomness import SampleRng, stream_of


def largest(x: Tensor) -> float:
    return float(x.detach().abs().max())


# --- evidence ---------------------------------------------------------------------------------------------------------

NONLINEAR = {
    "clip": Clip(-0.5, 0.8),
    "upper": Clip(high=0.8),
    "lower": Clip(-0.5),
    "absolute": Absolute(),
    "quantise": Quantise(0.4),
    "ends": Quantise(0.4, -0.8, 0.8),
}


def log_integral(log_f: Any, peaks: list[float], jumps: list[float]) -> float:
    """The log of the integral of exp(log_f), by Gauss and Legendre's rule on pieces between jumps, short around the peaks."""
    ends = {p + side * 10.0**power for p in peaks for side in (-1, 1) for power in np.arange(-10, 1.7, 0.3)}
    edges = np.array(sorted({*jumps, *peaks, *ends}))
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    return float(scipy.special.logsumexp(log_f(middle + half * nodes), b=half * weights))


def log_normal(x: Any, mean: Any, std: float) -> Any:
    return -0.5 * ((x - mean) / std) ** 2 - math.log(std) - math.log(2 * math.pi) / 2


def log_chance(y: float, u: Any, s: float, operator: Operator) -> Any:
    """log p(y | u) of a nonlinear operator, from its convention: noise after clip and absolute, before quantise."""
    if not isinstance(operator, Quantise):
        return log_normal(y, operator(torch.from_numpy(u)).numpy(), s)
    low = -math.inf if operator.low is not None and y <= operator.low else y - operator.step / 2
    high = math.inf if operator.high is not None and y >= operator.high else y + operator.step / 2
    a, b = (low - u) / s, (high - u) / s  # compared on the side where both tails are small
    small, large = scipy.special.log_ndtr(np.where(u < y, -b, a)), scipy.special.log_ndtr(np.where(u < y, -a, b))
    return large + np.log1p(-np.exp(small - large))


MEANS, STDS, NOISES, VALUES = (-2.3, 0.1, 0.79, 1.4), (0.05, 0.7, 2.0), (0.03, 0.5), (-0.8, 0.0, 0.4, 0.8)


@each_case(operator=NONLINEAR, mean=MEANS, std=STDS, s=NOISES, y=VALUES)
def test_the_evidence_of_a_nonlinear_operator_is_the_integral_of_its_likelihood(
    operator: Operator, mean: float, std: float, s: float, y: float
) -> None:
    ends = [end for end in (getattr(operator, "low", None), getattr(operator, "high", None)) if end is not None]
    jumps = [0.0, *(end for end in ends if math.isfinite(end))]
    if isinstance(operator, Quantise):
        jumps += [y - operator.step / 2, y + operator.step / 2]
    share = std**2 / (std**2 + s**2)  # the mean of u given y is between the mean and y
    peaks = [mean, *(mean + share * (goal - mean) for goal in (y, -y, *jumps)), *jumps]
    wanted = log_integral(lambda u: log_chance(y, u, s, operator) + log_normal(u, mean, std), peaks, jumps)
    given = operator.log_evidence(double([[mean]]), double([[std**2]]), double([y]), s)
    assert abs(float(given) - wanted) <= 1e-10 * max(1.0, abs(wanted))


@each_case(operator=NONLINEAR, mean=MEANS, s=NOISES, y=VALUES)
def test_without_spread_the_evidence_is_the_likelihood(operator: Operator, mean: float, s: float, y: float) -> None:
    wanted = float(log_chance(y, np.array([mean]), s, operator)[0])
    given = float(log_likelihood(operator, double([[mean]]), double([y]), s))
    assert abs(given - wanted) <= 1e-10 * max(1.0, abs(wanted))


@each_case(mean=MEANS, std=STDS)
def test_without_noise_the_evidence_is_the_probability_of_all_that_is_mapped_to_y(mean: float, std: float) -> None:
    def evidence(operator: Operator, y: float) -> float:
        return float(operator.log_evidence(double([[mean]]), double([[std**2]]), double([y]), 0.0).exp())

    normal = scipy.stats.norm(mean, std)
    clip, quantise = Clip(-0.5, 0.8), Quantise(0.4, -0.8, 0.8)
    for given, wanted in (
        (evidence(clip, -0.5), normal.cdf(-0.5)),
        (evidence(clip, 0.8), normal.sf(0.8)),
        (evidence(clip, 0.3), normal.pdf(0.3)),
        (evidence(Absolute(), 0.3), normal.pdf(0.3) + normal.pdf(-0.3)),
        (evidence(quantise, -0.8), normal.cdf(-0.6)),
        (evidence(quantise, 0.8), normal.sf(0.6)),
        (sum(evidence(quantise, 0.4 * k) for k in range(-2, 3)), 1.0),
    ):
        assert abs(given - wanted) <= 1e-12 * max(wanted, 1e-3)
    if -2 < mean < 2:
        inside = evidence(quantise, 0.4)
        assert (
            abs(inside - scipy.integrate.quad(normal.pdf, 0.2, 0.6, epsabs=1e-13, points=[min(max(mean, 0.2), 0.6)])[0])
            <= 1e-11
        )


def test_without_spread_and_noise_quantise_tells_the_possible_from_the_impossible() -> None:
    x = double([[0.19], [0.21], [0.59], [0.61], [-5.0]])
    possible = log_likelihood(Quantise(0.4), x, double([0.4]), 0.0)
    assert possible[1:3].tolist() == [0.0, 0.0] and bool((possible[[0, 3, 4]] < -1e20).all())
    assert float(log_likelihood(Quantise(0.4, -0.8, 0.8), x[4:], double([-0.8]), 0.0)) == 0.0


IMPOSSIBLE = {  # an operator, an x, the y that it gives without noise, and one that it does not
    "absolute": (Absolute(), [[-0.5]], [0.5], [0.7]),
    "absolute, below 0": (Absolute(), [[-0.5]], [0.5], [-0.5]),
    "clip, inside": (Clip(-1.0, 1.0), [[0.3]], [0.3], [0.4]),
    "clip, at a bound": (Clip(-1.0, 1.0), [[3.0]], [1.0], [-1.0]),
    "clip, x inside": (Clip(-1.0, 1.0), [[0.3]], [0.3], [1.0]),
    "clip, x beyond": (Clip(-1.0, 1.0), [[3.0]], [1.0], [0.3]),
    "clip, one bound": (Clip(0.0), [[-3.0]], [0.0], [0.3]),
    "quantise": (Quantise(0.5), [[0.3]], [0.5], [0.0]),
    "in float32": (Clip(-1.0, 1.0), [[0.25]], [0.25], [0.5]),
}


@each_case(case=IMPOSSIBLE)
def test_without_spread_and_noise_a_nonlinear_operator_tells_the_possible_from_the_impossible(case: tuple[Any, ...]) -> None:
    operator, x, possible, impossible = case
    x = torch.tensor(x) if x == [[0.25]] else double(x)
    found, other = (float(log_likelihood(operator, x, double(y), 0.0)) for y in (possible, impossible))
    assert -1e-9 <= found < math.inf and other < -1e20
    assert float(log_likelihood(operator, x, double(impossible), double([0.0]))) == other


def test_without_spread_and_noise_jpeg_tells_its_own_coefficients_from_others() -> None:
    x = 255 * SampleRng(range(4)).uniform((3, 16, 24))
    jpeg = JPEG(30)
    y = jpeg(x)[0]
    found = log_likelihood(jpeg, x, y, 0.0)
    assert float(found[0]) == 0 and bool((found[1:] < -1e20).all()) and bool(found.isfinite().all())


EXTREMES = [0.0, 1e-300, 1e-12, 1e-3, 1.0, 1e6]


@each_case(operator=NONLINEAR, s=EXTREMES)
def test_evidence_and_its_gradient_are_finite_wherever_the_measurement_is(operator: Operator, s: float) -> None:
    means, ys = double([-1e6, -0.5, 0.0, 0.3, 0.8, 1e6]), double([-0.8, 0.0, 0.3, 0.8])
    m, v, y = (each.reshape(-1, 1) for each in torch.meshgrid(means, double(EXTREMES), ys, indexing="ij"))
    m, v = m.clone().requires_grad_(), v.clone().requires_grad_()
    evidence = operator.log_evidence(m, v, y, s)
    gradients = torch.autograd.grad(evidence.sum(), (m, v))
    assert all(bool(each.isfinite().all()) for each in (evidence, *gradients))


@each_case(operator=NONLINEAR, y=VALUES)
def test_the_gradient_of_the_evidence_is_that_of_finite_differences(operator: Operator, y: float) -> None:
    mean, variance = double([[-2.3, 0.1, 0.79, 1.4]]), double([[0.1, 0.5, 1.0, 2.0]])

    def evidence(m: Tensor, v: Tensor) -> Tensor:
        return operator.log_evidence(m, v, double([y] * 4), 0.3)

    assert torch.autograd.gradcheck(evidence, (mean.requires_grad_(), variance.requires_grad_()))
    assert torch.autograd.gradgradcheck(evidence, (mean, variance), fast_mode=True)


def test_the_logarithm_of_a_tail_and_its_gradient_are_exact_at_any_distance() -> None:
    x = -torch.logspace(-3, 15, 200, dtype=torch.float64).requires_grad_()
    below = log_below(x)
    (slope,) = torch.autograd.grad(below.sum(), x)
    wanted = torch.from_numpy(scipy.special.log_ndtr(x.detach().numpy()))
    assert largest(below / wanted - 1) <= 1e-14
    hazard = math.sqrt(2 / math.pi) / torch.special.erfcx(-x.detach() / math.sqrt(2))
    assert largest(slope / hazard - 1) <= 1e-13


@each_case(width=(1e-10, 1e-6, 1e-2, 0.3, 1.0, 3.0, 30.0), middle=(-200.0, -3.0, 0.0, 0.4, 7.0, 2e4))
def test_the_probability_between_two_bounds_is_exact_for_narrow_and_wide_ones(width: float, middle: float) -> None:
    low, high = middle - width / 2, middle + width / 2
    top = min(max(0.0, low), high)  # the density falls from here on, in both directions
    wanted = log_integral(
        lambda u: log_normal(u, 0.0, 1.0) + np.where((u > low) & (u < high), 0.0, -np.inf), [top], [low, high]
    )
    given = float(log_between(*(double(number) for number in (low, high, 0.0, 1.0))))
    rounded = np.spacing(abs(middle) + width) * (1 / width + abs(middle))  # of the bounds
    assert abs(given - wanted) <= 1e-13 * abs(wanted) + 4 * rounded + 1e-14  # of the sum over pieces


# --- quantise and JPEG ------------------------------------------------------------------------------------------------


def test_a_quantiser_of_bits_has_that_many_points_from_0_to_255() -> None:
    x = torch.linspace(-20, 280, 3001, dtype=torch.float64).unsqueeze(0)
    for bits in (1, 2, 4, 8):
        points = parse(f"quantise:{bits}bit")(x).unique()
        assert len(points) == 2**bits and float(points.min()) == 0.0 and abs(float(points.max()) - 255.0) <= 1e-12


def smooth(channels: int) -> Tensor:
    """An image of whole numbers from 0 to 255 that a JPEG file holds well."""
    noise = SampleRng([channels], stream=stream_of("smooth")).normal((channels, 28, 36))[0].numpy()
    rough = np.stack([scipy.ndimage.gaussian_filter(each, 2) for each in noise])
    return torch.from_numpy(np.clip(rough / rough.std() * 50 + 128, 0, 255).round())


def blocks(x: Tensor) -> Tensor:
    """`(height, width)` as `(height/8, width/8, 64)`."""
    return x.unfold(0, 8, 8).unfold(1, 8, 8).flatten(2)


def as_jpeg(image: Tensor, quality: int) -> Image.Image:
    pixels = image.permute(1, 2, 0).numpy().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=quality, subsampling=0)
    return Image.open(file)


@each_case(quality=(1, 5, 20, 49, 50, 51, 75, 95, 100))
def test_the_steps_of_jpeg_are_those_that_pillow_writes(quality: int) -> None:
    tables = as_jpeg(smooth(3), quality).quantization
    steps = JPEG(quality).steps(torch.zeros(1, 3, 8, 8))
    assert [steps[0].flatten().tolist(), steps[1].flatten().tolist(), steps[2].flatten().tolist()] == [
        list(tables[0]),
        list(tables[1]),
        list(tables[1]),
    ]


@each_case(quality=(5, 20, 50, 75))
def test_the_coefficients_of_a_grey_file_are_those_that_pillow_rounds_to(quality: int) -> None:
    """In blocks where no coefficient is near the middle between two steps: there an encoder's fixed-point numbers decide."""
    image, operator = smooth(1), JPEG(quality)
    y = operator(image.unsqueeze(0))
    from_middle = operator.steps(y) / 2 - (operator.inner(image.unsqueeze(0)) - y).abs()
    sure = blocks(from_middle[0, 0]).amin(-1) > 0.1
    decoded = operator.inner.adjoint(y, (1, 32, 40))[0, 0].clamp(0, 255)
    file = torch.from_numpy(np.asarray(as_jpeg(image, quality), dtype=np.float64))
    off = blocks((decoded[:28, :36] - file)[:24, :32]).abs().amax(-1)
    assert int(sure.sum()) >= 10 and largest(off[sure[:3, :4]]) <= 0.55  # half for the rounding of pixels


@each_case(channels=(1, 3), quality=(5, 50, 95))
def test_every_coefficient_of_the_image_is_within_half_a_step_of_the_file(channels: int, quality: int) -> None:
    image, operator = smooth(channels).unsqueeze(0), JPEG(quality)
    y = operator(image)
    assert bool(((operator.inner(image) - y).abs() <= operator.steps(y) / 2 * (1 + 1e-12)).all())
    assert y[0].equal(operator.measurement_of(image[0], tuple(image.shape[1:])))


def test_the_transform_of_jpeg_is_orthonormal_on_grey_blocks() -> None:
    matrix = dense(JPEG(50).inner, (1, 16, 8))
    assert largest(matrix @ matrix.mT - torch.eye(128)) <= 1e-14
    grey = torch.full((1, 1, 8, 8), 3.0, dtype=torch.float64)
    assert abs(float(JPEG(50).inner(grey)[0, 0, 0, 0]) - 24.0) <= 1e-13
