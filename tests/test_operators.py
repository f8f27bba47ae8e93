"""Operators: adjoints and pseudo-inverses against matrices, every convention against a second implementation, bad input."""

import functools
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from helpers import command, double, each_case
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from scorefield import ScorefieldError, registry
from scorefield.data.normaliser import Normaliser
from scorefield.operators import (
    JPEG,
    Absolute,
    Blur,
    Clip,
    Compose,
    Crop,
    Downsample,
    Fourier,
    Gray,
    Identity,
    InUnits,
    Mask,
    Matrix,
    Operator,
    Project,
    Quantise,
    Subsample,
    dense,
    in_model_space,
    log_likelihood,
    parse,
)
from scorefield.randomness import SampleRng, stream_of

Shape = tuple[int, ...]
VECTOR, SIGNAL, GREY, COLOUR, VOLUME = (12,), (2, 15), (1, 9, 8), (3, 8, 9), (1, 6, 5, 7)
ALL = (VECTOR, SIGNAL, GREY, COLOUR, VOLUME)


@functools.cache
def draw(*shape: int, name: str = "x") -> Tensor:
    """Numbers of N(0, 1), the same for a name and a shape, float64."""
    return SampleRng([len(shape)], stream=stream_of(name)).normal(shape)[0]


def kernel_of(*shape: int) -> Tensor:
    """A kernel without any symmetry, whose convolution can be inverted."""
    kernel = 0.1 * draw(*shape, name="kernel")
    kernel[tuple((n - 1) // 2 for n in shape)] += 1.0
    return kernel


ASYMMETRIC = kernel_of(3, 3)

# For every registered operator: examples, and the shapes of samples that suit each.
EXAMPLES: dict[str, list[tuple[Operator, tuple[Shape, ...]]]] = {
    "identity": [(Identity(), ALL)],
    "mask": [
        (Mask(draw(8, 9, name="mask") > 0), (COLOUR,)),
        (parse("mask:left"), ALL),
        (parse("mask:bottom"), (GREY, COLOUR, VOLUME)),
        (parse("mask:box:0.5"), ALL),
        (parse("mask:random:0.5", seed=3), ALL),
    ],
    "matrix": [(Matrix(draw(5, 72, name="matrix")), (GREY,)), (Matrix(draw(5, 12, name="matrix")), (VECTOR,))],
    "blur": [
        (Blur(0.6), ALL),
        (Blur(0.5, padding="circular"), ALL),
        (Blur(kernel=ASYMMETRIC), (GREY, COLOUR)),
        (Blur(kernel=kernel_of(4, 3), padding="circular"), (GREY, COLOUR)),
        (Blur(kernel=[0.2, 1.0, -0.5, 0.1]), (VECTOR, SIGNAL)),
        (Blur(kernel=kernel_of(2, 3, 3)), (VOLUME,)),
    ],
    "downsample": [
        (Downsample(2), ALL),
        (Downsample(3), ALL),
        (Downsample(2, "bicubic"), ALL),
        (Downsample(4, "bicubic"), ALL),
    ],
    "gray": [(Gray(), (COLOUR,)), (Gray([0.5, 2.0]), (SIGNAL,))],
    "crop": [(Crop(4), ALL), (Crop((4, 5), (2, 0)), (GREY, COLOUR))],
    "project": [(Project(7), ALL), (Project(5, "gaussian", seed=2), ALL)],
    "subsample": [(Subsample(2), ALL), (Subsample(3, start=1), ALL), (Subsample(places=[4, 0, 3]), ALL)],
    "fourier": [
        (Fourier(0.3), ALL),
        (Fourier(1.0), ALL),
        (Fourier(keep=draw(8, 9, name="fourier") > 0.8), (COLOUR,)),
        (Fourier(keep=draw(15, name="fourier") > 0.5), (SIGNAL,)),
    ],
    "clip": [(Clip(-0.5, 0.8), ALL), (Clip(high=0.5), (VECTOR,)), (Clip(low=0.1), (VECTOR,))],
    "absolute": [(Absolute(), ALL)],
    "quantise": [(Quantise(0.5), ALL), (Quantise(0.4, -0.8, 0.8), ALL)],
    "jpeg": [(JPEG(30), (GREY, COLOUR))],
}

if missing := set(registry.every("operator")) ^ set(EXAMPLES):
    raise AssertionError(f"every registered operator needs an example here, and only they: {missing}")

LINEAR = {
    f"{operator} of {shape}": (operator, shape)
    for examples in EXAMPLES.values()
    for operator, shapes in examples
    for shape in shapes
    if operator.linear
}


def pairs() -> Iterator[tuple[str, tuple[Operator, Shape]]]:
    """Every composition of two linear examples that fit, on every shape that suits the first."""
    for (name, (first, shape)), examples in itertools.product(LINEAR.items(), EXAMPLES.values()):
        for second, _ in examples:
            both = Compose(first, second)
            try:
                both.shape_out(shape)
            except ScorefieldError:
                continue
            if both.linear:
                yield f"{name}, then {second}", (both, shape)


PAIRS = dict(pairs())


def largest(x: Tensor) -> float:
    return float(x.detach().abs().max())


# --- adjoints, matrices, pseudo-inverses ------------------------------------------------------------------------------


def check_adjoint(operator: Operator, shape: Shape) -> None:
    x, y = draw(3, *shape), draw(3, *operator.shape_out(shape), name="y")
    image, back = operator(x), operator.adjoint(y, shape)
    assert image.shape == y.shape and back.shape == x.shape
    left, right = (image * y).flatten(1).sum(1), (x * back).flatten(1).sum(1)
    assert largest(left - right) <= 1e-10 * float(image.norm() * y.norm())


@each_case(case=LINEAR)
def test_the_adjoint_moves_the_operator_across_the_inner_product(case: tuple[Operator, Shape]) -> None:
    check_adjoint(*case)


@each_case(case=PAIRS)
def test_the_adjoint_of_every_composition_of_two_does_too(case: tuple[Operator, Shape]) -> None:
    check_adjoint(*case)


def test_many_pairs_of_operators_fit() -> None:
    assert len(PAIRS) > 10 * len(LINEAR)


@each_case(case=LINEAR)
def test_the_written_adjoint_is_the_gradient_of_the_inner_product(case: tuple[Operator, Shape]) -> None:
    operator, shape = case
    y = draw(3, *operator.shape_out(shape), name="y")
    assert largest(operator.adjoint(y, shape) - Operator.adjoint(operator, y, shape)) <= 1e-12 * largest(y) * math.prod(shape)


@each_case(case=LINEAR)
def test_the_dense_matrix_times_x_is_the_operator_of_x_in_chunks_of_any_size(case: tuple[Operator, Shape]) -> None:
    operator, shape = case
    matrix, x = dense(operator, shape, at_most=7), draw(3, *shape)
    assert matrix.shape == (math.prod(operator.shape_out(shape)), math.prod(shape)) and matrix.is_contiguous()
    assert largest(x.flatten(1) @ matrix.mT - operator(x).flatten(1)) <= 1e-12 * largest(x)
    assert largest(matrix - dense(operator, shape)) <= 1e-15


def check_pseudo_inverse(operator: Operator, shape: Shape) -> None:
    y = draw(2, *operator.shape_out(shape), name="y")
    wanted = y.flatten(1) @ torch.linalg.pinv(dense(operator, shape)).mT
    assert largest(operator.pseudo_inverse(y, shape).flatten(1) - wanted) <= 1e-8 * largest(wanted)


@each_case(case=LINEAR)
def test_the_pseudo_inverse_is_that_of_the_matrix(case: tuple[Operator, Shape]) -> None:
    check_pseudo_inverse(*case)


@each_case(case=dict(list(PAIRS.items())[::29]))
def test_the_pseudo_inverse_of_a_composition_is_that_of_its_matrix(case: tuple[Operator, Shape]) -> None:
    check_pseudo_inverse(*case)


# --- what every operator holds to -------------------------------------------------------------------------------------

EVERY = {f"{op} of {shapes[0]}": (op, shapes[0]) for examples in EXAMPLES.values() for op, shapes in examples}


@each_case(case=EVERY)
def test_neither_x_nor_y_is_written_to(case: tuple[Operator, Shape]) -> None:
    operator, shape = case
    x = draw(2, *shape)
    y = operator(x).clone()
    kept_x, kept_y = x.clone(), y.clone()
    log_likelihood(operator, x, y[0], 0.3)
    if operator.linear:
        operator.adjoint(y, shape)
        operator.pseudo_inverse(y, shape)
    assert x.equal(kept_x) and y.equal(kept_y)


@each_case(case=EVERY)
def test_the_result_for_one_sample_does_not_depend_on_the_others(case: tuple[Operator, Shape]) -> None:
    operator, shape = case
    x = draw(40, *shape)
    y = operator(x)
    assert largest(operator(x[17:18]) - y[17:18]) <= 1e-13
    others = torch.cat([1e6 * x[:17], x[17:18], 1e6 * x[18:]])
    assert largest(operator(others)[17] - y[17]) <= 1e-13
    if operator.linear:
        assert largest(operator.adjoint(y[17:18], shape)[0] - operator.adjoint(y, shape)[17]) <= 1e-12
        assert largest(operator.pseudo_inverse(y[17:18], shape)[0] - operator.pseudo_inverse(y, shape)[17]) <= 1e-8


@each_case(case=EVERY, dtype=(torch.float32, torch.float64))
def test_the_dtype_of_the_sample_is_followed(case: tuple[Operator, Shape], dtype: torch.dtype) -> None:
    operator, shape = case
    x = draw(2, *shape)
    y = operator(x.to(dtype))
    assert y.dtype == dtype and y.shape[1:] == operator.shape_out(shape)
    if operator.linear:
        assert largest(y.double() - operator(x)) <= 100 * torch.finfo(dtype).eps * largest(x)
        assert operator.adjoint(y, shape).dtype == operator.pseudo_inverse(y, shape).dtype == dtype


@each_case(case=EVERY)
def test_the_device_of_the_sample_is_followed(case: tuple[Operator, Shape]) -> None:
    """On torch's device without memory, where a number from another device is refused as on a GPU."""
    operator, shape = case
    operator(draw(2, *shape))  # what is kept of this call stays on the other device
    x = torch.empty(2, *shape, dtype=torch.float64, device="meta")
    y = operator(x)
    assert y.device.type == "meta" and log_likelihood(operator, x, y[0], 0.3).device.type == "meta"
    if operator.linear:
        assert operator.adjoint(y, shape).device.type == "meta"
    scales = torch.ones(shape)
    wrapped, _ = in_model_space(operator, torch.zeros(operator.shape_out(shape)), scales, scales)
    assert wrapped(x).device.type == "meta"


@each_case(case=EVERY)
def test_operators_are_differentiable_twice(case: tuple[Operator, Shape]) -> None:
    operator, shape = case
    x = draw(1, *shape).clone().requires_grad_()
    y = operator(x.detach())[0] + 0.1
    (first,) = torch.autograd.grad(log_likelihood(operator, x, y, 0.5).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), x)
    assert bool(first.isfinite().all()) and bool(second.isfinite().all())


@each_case(case=LINEAR)
def test_the_adjoint_is_differentiable_in_y(case: tuple[Operator, Shape]) -> None:
    operator, shape = case
    y, x = draw(2, *operator.shape_out(shape), name="y").clone().requires_grad_(), draw(2, *shape)
    for adjoint in (operator.adjoint(y, shape), Operator.adjoint(operator, y, shape)):
        (gradient,) = torch.autograd.grad((adjoint * x).sum(), y)
        assert largest(gradient - operator(x)) <= 1e-12 * max(1.0, largest(gradient))


@each_case(case=EVERY)
def test_every_operator_is_shown_as_one_short_line(case: tuple[Operator, Shape]) -> None:
    shown = repr(case[0])
    assert shown[0].isupper() and "\n" not in shown and len(shown) < 80 and "object at" not in shown


# --- blur -------------------------------------------------------------------------------------------------------------

SCIPY = {"reflect": "mirror", "circular": "wrap"}  # its "reflect" repeats the edge


@each_case(padding=list(SCIPY), shape=(SIGNAL, COLOUR, VOLUME))
def test_blur_by_a_kernel_is_the_convolution_of_scipy_not_its_correlation(padding: str, shape: Shape) -> None:
    kernel, x = kernel_of(*(3,) * (len(shape) - 1)), draw(2, *shape)
    y = Blur(kernel=kernel, padding=padding)(x)  # type: ignore[arg-type]
    for given, made in zip(x.flatten(0, 1), y.flatten(0, 1), strict=True):
        wanted = scipy.ndimage.convolve(given.numpy(), kernel.numpy(), mode=SCIPY[padding])
        turned = scipy.ndimage.correlate(given.numpy(), kernel.numpy(), mode=SCIPY[padding])
        assert largest(made - torch.from_numpy(wanted)) <= 1e-13
        assert largest(made - torch.from_numpy(turned)) > 0.01


@each_case(padding=list(SCIPY), sigma=(0.3, 1.0, 1.7, 3.4))
def test_blur_by_sigma_is_the_gaussian_filter_of_scipy(padding: str, sigma: float) -> None:
    for shape in ((2, 15), (1, 9, 8), (1, 8, 8, 9)):
        x = draw(*shape)
        wanted = [scipy.ndimage.gaussian_filter(each.numpy(), sigma, mode=SCIPY[padding]) for each in x]
        assert largest(Blur(sigma, padding=padding)(x.unsqueeze(0))[0] - torch.from_numpy(np.stack(wanted))) <= 1e-13  # type: ignore[arg-type]


def test_a_point_becomes_the_kernel_with_its_middle_at_the_point() -> None:
    point = torch.zeros(1, 1, 7, 8, dtype=torch.float64)
    point[0, 0, 3, 4] = 1.0
    for kernel, first in ((ASYMMETRIC, (2, 3)), (kernel_of(2, 4), (3, 3))):  # of an even number the left middle
        y = Blur(kernel=kernel)(point)[0, 0]
        assert largest(y[first[0] : first[0] + kernel.shape[0], first[1] : first[1] + kernel.shape[1]] - kernel) <= 1e-14
        assert abs(largest(y) - largest(kernel)) <= 1e-14 and abs(float(y.abs().sum() - kernel.abs().sum())) <= 1e-12


def test_an_even_kernel_has_the_middle_of_numpys_same() -> None:
    x, kernel = draw(30), draw(4, name="kernel")
    x = x.clone()
    x[:4] = x[-4:] = 0.0  # what is beyond the edge does not matter then
    assert largest(Blur(kernel=kernel)(x.unsqueeze(0))[0] - torch.from_numpy(np.convolve(x, kernel, "same"))) <= 1e-13


def test_gaussian_blur_keeps_a_constant_and_circular_blur_keeps_the_mean() -> None:
    x = draw(1, 3, 9, 8)
    assert largest(Blur(1.3)(torch.full_like(x, 2.5)) - 2.5) <= 1e-14
    assert largest(Blur(1.3, padding="circular")(x).mean(dim=(2, 3)) - x.mean(dim=(2, 3))) <= 1e-15


# --- downsample -------------------------------------------------------------------------------------------------------


@each_case(factor=(2, 3, 4, 5, 7), size=((28, 28), (29, 31), (64, 40)))
def test_downsampling_is_torchs_antialiased_resizing(factor: int, size: tuple[int, int]) -> None:
    x = draw(2, 3, *size)
    wanted = interpolate(
        x, scale_factor=1 / factor, mode="bicubic", antialias=True, align_corners=False, recompute_scale_factor=False
    )
    assert largest(Downsample(factor, "bicubic")(x) - wanted) <= 1e-13
    whole = x[..., : size[0] // factor * factor, : size[1] // factor * factor]
    assert largest(Downsample(factor)(x) - interpolate(whole, scale_factor=1 / factor, mode="area")) <= 1e-14


@each_case(factor=(2, 3, 4, 5, 8), way=("area", "bicubic"))
def test_downsampling_keeps_the_middle_of_its_pixels(factor: int, way: Any) -> None:
    ramp = torch.arange(16.0 * factor, dtype=torch.float64)
    y = Downsample(factor, way)(ramp.unsqueeze(0))[0]
    inside = slice(2, -2) if way == "bicubic" else slice(None)  # at the edge the cubic kernel is cut
    wanted = factor * torch.arange(16.0, dtype=torch.float64) + (factor - 1) / 2
    assert largest((y - wanted)[inside]) <= 1e-12


@each_case(way=("area", "bicubic"))
def test_downsampling_a_signal_is_downsampling_rows_and_then_columns_of_an_image(way: Any) -> None:
    x, one = draw(1, 1, 12, 13), Downsample(3, way)
    rows = one(x[0, 0].mT).mT
    assert largest(one(x)[0, 0] - one(rows)) <= 1e-14


@each_case(operator=(Downsample(4), Downsample(4, "bicubic"), Blur(2.0)))
def test_a_long_signal_needs_no_dense_matrix(operator: Operator) -> None:
    x = draw(2, 200_000).clone().requires_grad_()
    y = operator(x)
    length = y.shape[1] // 500
    assert largest(y[:, : length - 20] - operator(x[:, :400])[:, : length - 20]) <= 1e-14
    (gradient,) = torch.autograd.grad((y * y.detach()).sum(), x, create_graph=True)
    assert largest(gradient - operator.adjoint(y, (200_000,))) <= 1e-13
    assert abs(float((y * y).detach().sum() - (x.detach() * gradient).sum())) <= 1e-12 * float((y * y).sum())


# --- crop, subsample, project, fourier --------------------------------------------------------------------------------


def test_a_crop_is_a_window_in_the_middle_or_where_it_is_put() -> None:
    x = draw(2, 3, 9, 8)
    assert parse("crop:5")(x).equal(x[:, :, 2:7, 1:6]) and parse("crop:9x3")(x).equal(x[:, :, :, 2:5])
    assert parse("crop:3x4+6+0")(x).equal(x[:, :, 6:, :4]) and parse("crop:3+1+2")(x).equal(x[:, :, 1:4, 2:5])


def test_subsampling_keeps_every_kth_place_from_its_start(tmp_path: Path) -> None:
    x = draw(2, *SIGNAL)
    np.save(tmp_path / "places.npy", [7, 2])
    assert parse("subsample:4")(x).equal(x[..., ::4]) and parse("subsample:4:3")(x).equal(x[..., 3::4])
    assert parse(f"subsample:{tmp_path / 'places.npy'}")(x).equal(x[..., [7, 2]])
    assert Subsample(3)(draw(2, *COLOUR)).equal(draw(2, *COLOUR)[..., ::3, ::3])


def test_a_projection_has_orthonormal_rows_or_gaussian_ones_of_its_seed() -> None:
    shape = (1, 8, 8)
    rows = dense(Project(20, seed=1), shape)
    assert largest(rows @ rows.mT - torch.eye(20)) <= 1e-14
    assert rows.equal(dense(parse("project:20", seed=1), shape)) and largest(rows - dense(Project(20, seed=2), shape)) > 0.1
    gaussian = dense(Project(300, "gaussian"), (400,)) * 20  # 120,000 numbers of N(0, 1)
    for power, wanted, spread in ((1, 0.0, 1.0), (2, 1.0, 2.0), (4, 3.0, 96.0)):
        assert abs(float((gaussian**power).mean()) - wanted) <= 5 * math.sqrt(spread / 120_000)


def test_the_direction_of_an_orthonormal_row_is_as_likely_as_any_other() -> None:
    """Also of the last row: a decomposition with signs of its own choice would prefer some."""
    last = torch.stack([dense(Project(3, seed=seed), (3,))[2] for seed in range(500)])
    assert largest(last.mean(0)) <= 5 * math.sqrt(1 / 3 / 500)
    assert largest(last.mT @ last / 500 - torch.eye(3) / 3) <= 5 * math.sqrt(4 / 45 / 500)


def test_fourier_measures_real_less_imaginary_parts_and_is_orthonormal() -> None:
    x, operator = draw(2, *COLOUR), Fourier(0.3)
    rows = dense(operator, COLOUR)
    assert largest(rows @ rows.mT - torch.eye(len(rows))) <= 1e-14
    waves = np.fft.fft2(x.numpy(), norm="ortho")[..., operator.kept(COLOUR[1:]).numpy()]
    assert largest(operator(x) - torch.from_numpy(waves.real - waves.imag)) <= 1e-13


def test_fourier_keeps_the_lowest_frequencies_with_their_opposites_up_to_its_share() -> None:
    for places, share in (((8, 9), 0.3), ((15,), 0.5), ((6, 5, 7), 0.1), ((8, 8), 1e-6), ((8, 8), 1.0)):
        kept = Fourier(share).kept(places)
        radius = sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(n) for n in places), indexing="ij"))
        inside, outside = radius[kept.numpy()], radius[~kept.numpy()]
        assert bool(kept.flatten()[0]) and (not outside.size or inside.max() < outside.min() - 1e-9)
        assert int(kept.sum()) <= max(1, share * math.prod(places))
        next_ring = int((outside < outside.min() + 1e-9).sum()) if outside.size else math.inf
        assert int(kept.sum()) + next_ring > share * math.prod(places)


def test_a_low_pass_keeps_a_slow_wave_and_loses_a_fast_one() -> None:
    place = torch.arange(64, dtype=torch.float64)
    slow, fast = (torch.cos(2 * math.pi * k * place / 64 + 0.7).unsqueeze(0) for k in (3, 20))
    operator = Fourier(0.25)
    assert largest(operator.adjoint(operator(slow + fast), (64,)) - slow) <= 1e-13


def test_a_fourier_mask_from_a_picture_has_frequency_0_in_its_middle(tmp_path: Path) -> None:
    white = np.zeros((8, 9))
    white[4, 4] = white[4, 5] = 255
    kept = parse(f"fourier:{picture(tmp_path / 'mask.png', white)}").kept((8, 9))  # type: ignore[attr-defined]
    assert kept.nonzero().tolist() == [[0, 0], [0, 1], [0, 8]]  # the opposite of (0, 1) with it


# --- gray -------------------------------------------------------------------------------------------------------------


def test_gray_is_the_brightness_of_pillow() -> None:
    pixels = (draw(8, 8, 3).abs() * 90).clamp(max=255).to(torch.uint8)
    wanted = torch.from_numpy(np.asarray(Image.fromarray(pixels.numpy()).convert("L"), dtype=np.float64))
    assert largest(Gray()(pixels.double().permute(2, 0, 1).unsqueeze(0))[0, 0] - wanted) <= 0.51  # which rounds


# --- mask -------------------------------------------------------------------------------------------------------------


def picture(path: Path, pixels: Any) -> str:
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return str(path)


def test_the_white_pixels_of_a_file_are_hidden(tmp_path: Path) -> None:
    hole = np.zeros((9, 8))
    hole[2:4, 5:] = 255
    np.save(tmp_path / "hole.npy", hole > 0)
    rgba = np.dstack([np.full((9, 8, 3), 255), hole])  # white all over, opaque in the hole
    for file in (picture(tmp_path / "hole.png", hole), picture(tmp_path / "rgba.png", rgba), str(tmp_path / "hole.npy")):
        mask = parse(f"mask:{file}")
        assert isinstance(mask, Mask) and mask.kept((3, 9, 8)).numpy().tolist() == [(hole == 0).tolist()] * 3
        assert mask.shape_out((3, 9, 8)) == (3 * (72 - 6),)


@each_case(
    side=[("left", (..., slice(0, 3))), ("right", (..., slice(4, 7))), ("top", (slice(0, 2),)), ("bottom", (slice(3, 5),))]
)
def test_a_mask_of_a_side_hides_that_half_and_keeps_the_middle(side: tuple[str, Any]) -> None:
    name, hidden = side
    wanted = torch.ones(5, 7, dtype=torch.bool)
    wanted[hidden] = False
    mask = parse(f"mask:{name}")
    assert isinstance(mask, Mask) and mask.kept((1, 5, 7))[0].equal(wanted)


def test_a_box_hides_its_share_of_every_side_in_the_middle() -> None:
    mask = parse("mask:box:0.5")
    assert isinstance(mask, Mask)
    hidden = ~mask.kept((2, 8, 10))
    assert hidden[1].nonzero().min(0).values.tolist() == [2, 2] and hidden[1].nonzero().max(0).values.tolist() == [5, 6]
    assert int(hidden[0].sum()) == 4 * 5


def test_a_random_mask_follows_its_seed_and_has_its_share() -> None:
    masks = [parse("mask:random:0.3", seed=seed) for seed in (1, 1, 2)]
    first, again, other = (mask.kept((3, 100, 100)) for mask in masks if isinstance(mask, Mask))
    assert first.equal(again) and not first.equal(other) and first[0].equal(first[2])
    assert abs(int((~first[0]).sum()) - 3000) <= 5 * math.sqrt(10_000 * 0.3 * 0.7)


# --- units ------------------------------------------------------------------------------------------------------------


@each_case(case=EVERY)
def test_in_model_space_an_operator_measures_what_it_measures_of_the_data(case: tuple[Operator, Shape]) -> None:
    """x and data = shift + scale·x have the same residual, and the same likelihood."""
    operator, shape = case
    scales, shifts = draw(*shape, name="scale").abs() + 0.5, draw(*shape, name="shift")
    x, y = draw(3, *shape), operator(draw(1, *shape, name="other"))[0]
    data, kept = shifts + scales * x, y.clone()
    wrapped, moved = in_model_space(operator, y, scales, shifts)
    assert wrapped.linear == operator.linear and wrapped.shape_out(shape) == operator.shape_out(shape)
    assert largest((wrapped(x) - moved) - (operator(data) - y)) <= 1e-11 * max(1.0, largest(y))
    wanted = log_likelihood(operator, data, y, 0.7)
    assert largest(log_likelihood(wrapped, x, moved, 0.7) - wanted) <= 1e-9 * max(1.0, largest(wanted))
    assert y.equal(kept)


@each_case(case=LINEAR)
def test_in_model_space_a_linear_operator_stays_linear(case: tuple[Operator, Shape]) -> None:
    operator, shape = case
    for scales in (draw(*shape, name="scale").abs() + 0.5, torch.full(shape, 3.0)):
        wrapped, _ = in_model_space(operator, torch.zeros(operator.shape_out(shape)), scales, draw(*shape))
        check_adjoint(wrapped, shape)


@each_case(case=dict(list(LINEAR.items())[::5]))
def test_in_model_space_the_pseudo_inverse_is_that_of_the_scaled_matrix(case: tuple[Operator, Shape]) -> None:
    operator, shape = case
    for scales in (draw(*shape, name="scale").abs() + 0.5, torch.full(shape, 3.0)):
        check_pseudo_inverse(InUnits(operator, scales, torch.zeros(shape)), shape)


def test_the_numbers_of_a_normaliser_are_those_that_are_wanted() -> None:
    pixels = Normaliser.between(0.0, 255.0)
    x, shape = draw(4, *COLOUR).clamp(-1, 1), COLOUR
    y = Gray()(pixels.decode(x))[0]
    operator, moved = in_model_space(Gray(), y, pixels.scales(shape), pixels.shifts(shape))
    assert isinstance(operator, InUnits) and largest(operator(x)[0] - moved) <= 1e-12 * 255


# --- files and composition --------------------------------------------------------------------------------------------


def test_a_composition_acts_from_left_to_right() -> None:
    x = draw(2, *GREY)
    made = parse("blur:1, downsample:2, mask:left")
    assert made(x).equal(parse("mask:left")(Downsample(2)(Blur(1.0)(x))))
    assert repr(made) == "Blur(1, reflect) then Downsample(2, area) then Mask(without the left half)"
    assert isinstance(parse("blur:1,identity"), Blur) and isinstance(parse("identity"), Identity)


@each_case(last=(Clip(-0.5, 0.8), Absolute(), Quantise(0.5), JPEG(30)), first=(Blur(0.7), Compose(Downsample(2), Gray())))
def test_a_nonlinear_operator_comes_last_and_is_weighed_on_what_the_linear_ones_leave(first: Operator, last: Operator) -> None:
    x, both = draw(2, *COLOUR), Compose(first, last)
    assert not both.linear and both.inner.linear and both(x).equal(last(first(x)))
    check_adjoint(both.inner, COLOUR)
    u, y = both.inner(x), both(x)[0]
    assert u.equal(last.inner(first(x)))
    assert log_likelihood(both, x, y, 0.2).equal(last.log_evidence(u, torch.zeros(()).double(), y, 0.2))
    for refused in (lambda: Compose(last, first), lambda: both.adjoint(u, COLOUR), lambda: dense(both, COLOUR)):
        with pytest.raises(ScorefieldError, match="not linear"):
            refused()


@each_case(operator=(Clip(-0.5, 0.8), Quantise(0.5), Compose(Blur(0.7), Absolute())))
def test_a_nonlinear_operator_in_model_space_has_a_linear_inner_part_and_the_same_evidence(operator: Operator) -> None:
    scales, shifts = draw(*GREY, name="scale").abs() + 0.5, draw(*GREY, name="shift")
    y = operator(draw(1, *GREY))[0]
    wrapped, kept = in_model_space(operator, y, scales, shifts)
    mean, variance = draw(3, *GREY, name="mean"), draw(3, *GREY, name="variance") ** 2
    check_adjoint(wrapped.inner, GREY)
    shifted = mean + operator.inner(shifts.unsqueeze(0))
    assert kept is y
    assert wrapped.log_evidence(mean, variance, y, 0.1).equal(operator.log_evidence(shifted, variance, y, 0.1))


def test_a_file_holds_the_measurement_or_a_sample_to_be_measured() -> None:
    shape = GREY
    sample, halved = draw(*shape), draw(1, 4, 4, name="y")
    assert parse("downsample:2").measurement_of(halved, shape).equal(halved)
    assert parse("mask:left").measurement_of(sample, shape).equal(parse("mask:left")(sample.unsqueeze(0))[0])
    blurred_with_a_hole = parse("blur:1,mask:left").measurement_of(sample, shape)
    assert blurred_with_a_hole.equal(parse("mask:left")(sample.unsqueeze(0))[0])  # it is blurred already
    with pytest.raises(ScorefieldError, match=r"got data of shape \(1, 5, 5\), expected \(1, 4, 4\)"):
        parse("downsample:2").measurement_of(torch.zeros(1, 5, 5), shape)


def test_every_operator_that_takes_a_text_says_its_forms_in_the_list_and_in_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One place has them, the docstring of `of_text`: a new operator is listed by itself."""
    assert command("list", "operator") == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert command("restore", "--help") == 0
    helped = " ".join(capsys.readouterr().out.replace("│", " ").split())
    forms = registry.forms("operator")
    assert set(forms) == set(registry.names("operator"))
    for name, form in forms.items():
        takes = "of_text" in vars(registry.find("operator", name))
        assert form.startswith(f"{name}:" if takes and name != "gray" else name), form
        assert form in listed and form in helped
    for words in ("mask:left", "mask:box:SHARE", "4bit", "crop:HEIGHTxWIDTH+TOP+LEFT", "4:4:4", "downsample:FACTOR:bicubic"):
        assert words in listed


# --- likelihoods ------------------------------------------------------------------------------------------------------


def test_the_likelihood_of_a_linear_operator_is_the_gaussian_density_with_a_noise_for_each_number_too() -> None:
    operator, x, y = Matrix(draw(5, 12, name="matrix")), draw(3, 12), draw(5, name="y")
    for s in (0.3, draw(5, name="s").abs() + 0.1):
        wanted = torch.distributions.Normal(operator(x), torch.as_tensor(s, dtype=torch.float64)).log_prob(y).sum(1)
        assert largest(log_likelihood(operator, x, y, s) - wanted) <= 1e-12 * largest(wanted)


def test_without_noise_the_likelihood_of_a_linear_operator_is_its_limit() -> None:
    """inf where Ax is y, -inf where one number differs; what else is measured with noise counts only where none does."""
    operator, y = Matrix(draw(3, 4, name="matrix")), double([0.5, -1.0, 2.0])
    exact = operator.pseudo_inverse(y.unsqueeze(0), (4,))
    assert log_likelihood(Identity(), double([[1.0, 2.0], [1.0, 2.1], [3.0, 0.0]]), double([1.0, 2.0]), 0.0).tolist() == [
        math.inf,
        -math.inf,
        -math.inf,
    ]
    assert float(log_likelihood(operator, exact + 1, y, 0.0)) == -math.inf
    assert float(log_likelihood(Identity(), double([[math.nan]]), double([1.0]), 0.0)) != -math.inf
    some, x = double([0.0, 0.3]), double([[1.0, 2.0], [1.0, 5.0], [1.5, 2.0]])
    assert log_likelihood(Identity(), x, double([1.0, 2.0]), some).tolist() == [math.inf, math.inf, -math.inf]
    tiny = [log_likelihood(Identity(), x, double([1.0, 2.0]), double([s, 0.3])) for s in (1e-3, 1e-5, 1e-7)]
    assert all(bool((after[:2] > before[:2]).all() and after[2] < before[2]) for before, after in itertools.pairwise(tiny))


def test_where_a_variance_is_left_evidence_without_noise_is_the_density_and_its_gradient() -> None:
    mean = draw(3, 5).requires_grad_(True)
    variance, y = double([0.0, 0.5, 2.0, 0.1, 1.0]), draw(5, name="y")
    some = variance > 0
    found = Identity().log_evidence(mean[:, some], variance[some], y[some], 0.0)
    wanted = torch.distributions.Normal(mean[:, some], variance[some].sqrt()).log_prob(y[some]).sum(1)
    assert largest(found - wanted) <= 1e-12 * largest(wanted)
    impossible = Identity().log_evidence(mean, variance, y, 0.0)
    assert bool((impossible == -math.inf).all())
    gradients = [torch.autograd.grad(each.sum(), mean, retain_graph=True)[0] for each in (found, impossible)]
    assert bool(gradients[0].isfinite().all() and gradients[1].isfinite().all())


# --- bad input --------------------------------------------------------------------------------------------------------

BAD = {
    "blurr:2": "unknown operator 'blurr': did you mean 'blur' or",
    "": "got '' for an operator, expected NAME or NAME:ARG",
    "blur:1,,gray": "expected NAME or NAME:ARG between commas",
    "blur": "got '' for the sigma of blur, expected a number",
    "blur:0": "got sigma = 0 for a blur, expected a number > 0",
    "blur:-1": "got sigma = -1 for a blur, expected a number > 0",
    "blur:nan": "got 'nan' for the sigma of blur, expected a number",
    "blur:1:mirror": "got '1:mirror' for the sigma of blur",
    "blur:none.npy": "got no file none.npy, expected a kernel",
    "downsample:1": "got 1 for the factor of downsample, expected a whole number >= 2",
    "downsample:2.5": "got '2.5' for the factor of downsample, expected a whole number",
    "downsample:4:cubic": "unknown way of downsampling 'cubic': did you mean 'bicubic'?",
    "gray:1": "expected one number for each of several channels",
    "gray:a:b": "got 'a' for a weight of gray, expected a number",
    "identity:3": "got '3' after the name of an operator that takes nothing",
    "mask": "got mask without what it hides",
    "mask:lefft": "did you mean 'left'?",
    "mask:box:2": "got a share of 2 for mask:box, expected a number between 0 and 1",
    "mask:hole.png": "got no file hole.png, expected a mask",
    "matrix": "got '' for a matrix, expected a file",
}


@each_case(text=list(BAD))
def test_a_wrong_text_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(ScorefieldError) as refusal:
        parse(text)
    assert BAD[text] in str(refusal.value)


UNSUITED = {
    "blur:4": (GREY, "got sigma = 4 for samples of shape (1, 9, 8), expected at most 3.5"),
    "downsample:9": (GREY, "nothing is left"),
    "gray": (GREY, "got samples with 1 channel"),
    "downsample:5,downsample:2": (GREY, "nothing is left"),
    "mask:top": (SIGNAL, "expected left or right"),
    "mask:box:0.01": (GREY, "hides nothing"),
    "mask:random:0.9999999": (GREY, "keeps nothing"),
}


@each_case(text=list(UNSUITED))
def test_an_operator_that_does_not_suit_the_sample_says_so_from_the_shape(text: str) -> None:
    shape, message = UNSUITED[text]
    with pytest.raises(ScorefieldError) as refusal:
        parse(text).shape_out(shape)
    assert message in str(refusal.value)


def test_kernels_and_masks_of_the_wrong_size_are_refused() -> None:
    for operator, message in (
        (Blur(kernel=draw(9, 9)), "got a kernel of shape (9, 9) for samples of shape (1, 9, 8)"),
        (Blur(kernel=draw(3)), "expected 2 axes"),
        (Mask(torch.ones(8, 8)), "got a mask of shape (8, 8) for samples of shape (1, 9, 8)"),
        (Matrix(draw(2, 71)), "got a matrix of 71 columns for samples of 72 numbers"),
    ):
        with pytest.raises(ScorefieldError) as refusal:
            operator.shape_out(GREY)
        assert message in str(refusal.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "torn.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "nan.npy", np.full((3, 3), np.nan))
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    for name, text in (("torn.png", "mask"), ("torn.npy", "blur"), ("nan.npy", "blur"), ("object.npy", "mask")):
        with pytest.raises(ScorefieldError, match="which cannot be read"):
            parse(f"{text}:{tmp_path / name}")


def test_wrong_components_are_refused() -> None:
    for make, message in (
        (lambda: Blur(), "got both or neither"),
        (lambda: Blur(1.0, kernel=[1.0]), "got both or neither"),
        (lambda: Blur(1.0, padding="reflected"), "did you mean 'reflect'"),  # type: ignore[arg-type]
        (lambda: Blur(kernel=[0.0, 0.0]), "got a kernel that is empty, 0 or not finite"),
        (lambda: Downsample(1), "expected a whole number >= 2"),
        (lambda: Gray([0.0, 0.0]), "not all 0"),
        (lambda: Mask([False]), "keeps nothing"),
        (lambda: Compose(), "got no operators"),
        (lambda: InUnits(Identity(), torch.zeros(2), torch.zeros(2)), "scales > 0"),
    ):
        with pytest.raises(ScorefieldError) as refusal:
            make()
        assert message in str(refusal.value)
