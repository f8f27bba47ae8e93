"""Networks: each sample for itself, conditioned on its noise, and exactly the function that the docstring prints."""

import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
import torch
from helpers import each_case, shaken
from torch import Tensor, nn
from torch.nn import functional

from scorefield import (
    EDM,
    VE,
    VP,
    Cosine,
    DDPMChain,
    LinearVE,
    Parametrisation,
    RectifiedFlow,
    SampleRng,
    ScorefieldError,
    ScoreModel,
    Tabulated,
)
from scorefield.nets.embeddings import NoiseEmbedding, class_embedding
from scorefield.nets.energy import Potential
from scorefield.nets.mlp import MLP
from scorefield.nets.residual import ConditionedResNet, NoiseConditionedBlock
from scorefield.nets.unet import UNet, fold, unfold
from scorefield.noise_label import check_noise_label, noise_label_of
from scorefield.objectives import Implicit
from scorefield.process import Process
from scorefield.registry import every

NETWORKS = {name: config for name, config in every("network").items() if ".published." not in config.__module__}
NEEDS_SETTINGS = {"tabulated": Tabulated.linear(1000)}
TABLED = {name: config for name, config in NETWORKS.items() if "levels" in config.__dataclass_fields__}
SHAPE = (2, 6, 5)
VOLUME = (2, 3, 6, 5)
SHAPES = {"signal": (2, 7), "image": SHAPE, "volume": VOLUME}
EPS = torch.finfo(torch.float64).eps


def _numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _all(name: str, classes: int = 0, shape: tuple[int, ...] = SHAPE) -> nn.Module:
    return shaken(NETWORKS[name]().build(shape, classes))


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_output_for_a_sample_does_not_depend_on_its_batch_mates(name: str, shape: tuple[int, ...]) -> None:
    network = _all(name, classes=3, shape=shape)
    x, label, cond = _numbers(8, *shape), torch.linspace(-4, 2, 8, dtype=torch.float64), torch.arange(8) % 3
    together = network(x, label, cond)
    alone = torch.cat([network(x[i : i + 1], label[i : i + 1], cond[i : i + 1]) for i in range(8)])
    loud = torch.cat([x[:1], 1e3 * x[1:]])  # other mates
    beside_loud = network(loud, label.flip(0)[[7, *range(1, 8)]], cond[[0, *range(6, -1, -1)]])
    # A thousand roundings of numbers of the output's own size is generous; a shared normalisation would move every digit.
    bound = 1e3 * EPS * float(together.abs().max())
    assert float((together - alone).abs().max()) < bound
    assert float((together[0] - beside_loud[0]).abs().max()) < bound


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_listens_to_its_label_and_answers_in_the_shape_of_x(name: str, shape: tuple[int, ...]) -> None:
    network, x = _all(name, shape=shape), _numbers(1, *shape).expand(5, *shape)
    y = network(x, torch.tensor([-5.0, -2.0, 0.0, 1.0, 3.0], dtype=torch.float64))
    assert y.shape == x.shape
    size = float(y.abs().max())
    for i, j in itertools.combinations(range(5), 2):
        assert float((y[i] - y[j]).abs().max()) > 1e-3 * size, (i, j)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", ["mlp", "unet"])
def test_training_starts_from_y_equal_to_zero(name: str, shape: tuple[int, ...]) -> None:
    network = NETWORKS[name]().build(shape)
    y = network(_numbers(4, *shape).float(), torch.linspace(-4, 4, 4))
    assert torch.equal(y, torch.zeros(4, *shape))
    y.sum().backward()
    grads = [float(p.grad.abs().max()) for p in network.last.parameters()]
    assert min(grads) > 0  # zero, but not stuck there


# The noise-conditioned block


def _convolve_by_hand(x: numpy.ndarray, weight: numpy.ndarray, bias: numpy.ndarray, dilation: int) -> numpy.ndarray:
    """Cross-correlate `(channels, height, width)` with zeros outside, one number at a time."""
    outward, inward, side, _ = weight.shape
    _, height, width = x.shape
    y = numpy.zeros((outward, height, width))
    for o, i, j in itertools.product(range(outward), range(height), range(width)):
        y[o, i, j] = bias[o]
        for c, a, b in itertools.product(range(inward), range(side), range(side)):
            row, column = i + dilation * (a - side // 2), j + dilation * (b - side // 2)
            if 0 <= row < height and 0 <= column < width:
                y[o, i, j] += weight[o, c, a, b] * x[c, row, column]
    return y


@pytest.mark.theorem("ncsn-block")
@pytest.mark.parametrize("dilation", [1, 2])
def test_the_block_is_conv1x1_relu_conv3x3_relu_conv1x1_of_x_plus_the_embedding_then_plus_x(dilation: int) -> None:
    block = shaken(NoiseConditionedBlock(4, condition=3, dilation=dilation), by=0.5)
    x, about = _numbers(2, 4, 5, 4), _numbers(2, 3, seed=1)
    got = block(x, about).detach().numpy()
    w = {name: weight.detach().numpy() for name, weight in block.named_parameters()}
    for sample, level, output in zip(x.numpy(), about.numpy(), got, strict=True):
        embedding = [sum(w["condition.weight"][c, k] * level[k] for k in range(3)) + w["condition.bias"][c] for c in range(4)]
        h = sample + numpy.array(embedding)[:, None, None]
        h = numpy.maximum(_convolve_by_hand(h, w["conv1.weight"], w["conv1.bias"], 1), 0)
        h = numpy.maximum(_convolve_by_hand(h, w["conv2.weight"], w["conv2.bias"], dilation), 0)
        expected = sample + _convolve_by_hand(h, w["conv3.weight"], w["conv3.bias"], 1)
        assert numpy.abs(output - expected).max() < 100 * EPS * numpy.abs(expected).max()


def test_the_embedding_is_added_before_the_first_convolution() -> None:
    """A first convolution whose weights sum to zero cannot see a number that every channel shares."""
    block = shaken(NoiseConditionedBlock(4, condition=3), by=0.5)
    x, about = _numbers(2, 4, 5, 4), _numbers(2, 3, seed=1)
    with torch.no_grad():
        block.condition.weight[:] = block.condition.weight[:1]
        block.condition.bias[:] = 0.7
        one = block(x, about)
        assert float((one - block(x, 2 * about)).abs().max()) > 0.01  # it hears the level ...
        block.conv1.weight -= block.conv1.weight.mean(dim=1, keepdim=True)
        one, other = block(x, about), block(x, 2 * about)
    assert float((one - other).abs().max()) < 100 * EPS * float(one.abs().max())  # ... through that convolution only


@pytest.mark.theorem("ncsn-block")
def test_with_the_last_convolution_zeroed_the_block_is_exactly_the_identity_whatever_the_level() -> None:
    """The residual sum is with x, not with x plus the embedding."""
    block = shaken(NoiseConditionedBlock(4, condition=3), by=0.5)
    nn.init.zeros_(block.conv3.weight)
    nn.init.zeros_(block.conv3.bias)
    x = _numbers(2, 4, 5, 4)
    assert torch.equal(block(x, _numbers(2, 3, seed=1)), x)


@torch.no_grad()
def test_the_blocks_of_the_stack_are_dilated_by_1_2_4_in_turn() -> None:
    """One white pixel reaches only the pixels that some path of 3x3 taps joins to it."""
    net = ConditionedResNet((1, 31, 31), width=4, blocks=3)
    for block, dilation in zip(net.blocks, (1, 2, 4), strict=True):
        block = shaken(block, by=0.5)
        spot = torch.zeros(1, 4, 31, 31, dtype=torch.float64)
        spot[..., 15, 15] = 10.0
        moved = (block(spot, torch.zeros(1, 4).double()) - block(0 * spot, torch.zeros(1, 4).double()))[0].abs().amax(0) > 0
        rows = moved[9:22].any(dim=1).nonzero().flatten()
        assert int((rows + 9 - 15).abs().max()) == dilation


# Weights that an older version saved


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("inside", [lambda network: network, lambda network: nn.ModuleDict({"network": Potential(network)})])
def test_weights_under_the_names_of_older_versions_load(name: str, inside: Any) -> None:
    saved, fresh = inside(_all(name)), inside(NETWORKS[name]().build(SHAPE).double())
    now = saved.state_dict()
    older = {re.sub(r"\bcondition\b", "told", key): value for key, value in now.items()}
    assert older.keys() != now.keys()
    fresh.load_state_dict(older)
    assert fresh.state_dict().keys() == now.keys()
    assert all(torch.equal(value, now[key]) for key, value in fresh.state_dict().items())
    older[next(key for key in older if "told" in key).replace("told", "heard")] = older.popitem()[1]
    with pytest.raises(RuntimeError, match="heard"):
        fresh.load_state_dict(older)


# Levels


@pytest.mark.parametrize("name", TABLED)
def test_a_table_of_l_levels_has_no_index_l_and_none_below_zero(name: str) -> None:
    network = TABLED[name](levels=5).build(SHAPE).double()
    network(_numbers(5, *SHAPE), torch.arange(5.0))
    for wrong in (5.0, -1.0):
        with pytest.raises(ScorefieldError, match=r"expected 0 to 4: this network knows 5 levels only"):
            network(_numbers(2, *SHAPE), torch.tensor([0.0, wrong]))


@pytest.mark.parametrize("name", TABLED)
def test_the_gradient_of_level_j_touches_row_j_of_the_table_and_no_other(name: str) -> None:
    network = shaken(TABLED[name](levels=5).build(SHAPE))
    for level in range(5):
        network.zero_grad()
        network(_numbers(2, *SHAPE), torch.full((2,), float(level))).square().sum().backward()
        touched = network.embed.table.weight.grad.abs().amax(dim=1).nonzero().flatten().tolist()
        assert touched == [level]


def test_level_indices_survive_the_rounding_of_float32_and_of_a_ladder() -> None:
    embed = NoiseEmbedding(4, levels=1000)
    labels = torch.arange(1000) + 1e-4 * torch.linspace(-1, 1, 1000)
    assert torch.equal(embed.index(labels), torch.arange(1000))


def test_continuous_labels_are_sines_and_cosines_at_geometric_frequencies_before_the_linear_layers() -> None:
    embed = NoiseEmbedding(16).double()  # 4 frequencies: 1/4, 1, 4 and 16 half turns a unit
    seen: list[Tensor] = []
    embed.layers[0].register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    labels = [-3.0, 0.5, 2.25]
    embed(torch.tensor(labels, dtype=torch.float64))
    for row, label in zip(seen[0].tolist(), labels, strict=True):
        turns = [math.pi * label * frequency for frequency in (0.25, 1.0, 4.0, 16.0)]
        expected = [*map(math.sin, turns), *map(math.cos, turns)]
        # The frequencies are held in float32: an angle of up to 16·pi·3 is known to a few of its last digits.
        assert max(abs(a - b) for a, b in zip(row, expected, strict=True)) < 4 * 2**-23 * 16 * math.pi * 3


# Classes


@pytest.mark.parametrize("name", NETWORKS)
def test_class_labels_are_refused_by_a_network_without_classes(name: str) -> None:
    with pytest.raises(ScorefieldError, match="trained without classes"):
        _all(name)(_numbers(2, *SHAPE), torch.zeros(2), torch.tensor([0, 1]))


@pytest.mark.parametrize("name", NETWORKS)
def test_no_class_label_means_the_row_after_the_last_class(name: str) -> None:
    network, x, label = _all(name, classes=3), _numbers(2, *SHAPE), torch.zeros(2, dtype=torch.float64)

    def rows(cond: Tensor | None) -> list[int]:
        network.zero_grad()
        network(x, label, cond).square().sum().backward()
        return network.classes.weight.grad.abs().amax(dim=1).nonzero().flatten().tolist()

    assert network.classes.weight.shape[0] == 4
    assert rows(None) == [3]
    assert rows(torch.tensor([0, 2])) == [0, 2]
    assert torch.equal(network(x, label, None), network(x, label, torch.tensor([3, 3])))


# Sizes of the U-Net


@torch.no_grad()
@each_case(patch=[1, 2])
@each_case(size=[(40,), (37,), (1,), (13, 9), (8, 16), (5, 24), (1, 1), (5, 9, 8), (8, 8, 16), (1, 1, 1), (1, 12, 3)])
def test_sizes_that_do_not_divide_are_padded_with_their_edge_and_cut_back(size: tuple[int, ...], patch: int) -> None:
    shape, inside = (2, *size), (..., *(slice(places) for places in size))
    network = shaken(UNet(shape, channels=(8, 16, 24), blocks=1, patch=patch))  # works on multiples of 2·2·patch
    x, label = _numbers(3, *shape), torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    missing = [(0, 0), (0, 0), *((0, -places % (4 * patch)) for places in size)]
    padded = torch.from_numpy(numpy.pad(x.numpy(), missing, mode="edge"))
    y = network(x, label)
    assert y.shape == x.shape
    assert float((y - network(padded, label)[inside]).abs().max()) < 100 * EPS * float(y.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_folding_puts_the_place_within_a_patch_into_the_channel_and_unfolding_is_its_inverse(patch: int, axes: int) -> None:
    """Channel (c, i, j, k) of the folded array holds at (z, y, x) what channel c holds at patch·(z, y, x) + (i, j, k)."""
    x = _numbers(2, 3, *(2 * patch, 3 * patch, patch)[:axes])
    folded = fold(x, patch)
    for inside in itertools.product(range(patch), repeat=axes):
        first = sum(i * patch ** (axes - 1 - axis) for axis, i in enumerate(inside))
        assert torch.equal(folded[:, first :: patch**axes], x[(..., *(slice(i, None, patch) for i in inside))])
    assert torch.equal(unfold(folded, patch), x)


@torch.no_grad()
def test_folding_pixels_into_channels_puts_every_pixel_back_in_its_place() -> None:
    """A U-Net whose only path is the identity through its first and last convolutions returns the image it was given."""
    network = UNet((1, 6, 6), channels=(16,), blocks=1, attention=False, patch=2).double().eval()
    network.norm = nn.Identity()
    for weight in network.parameters():
        weight.zero_()
    for channel in range(4):
        network.first.weight[channel, channel, 1, 1] = 1.0
        network.last.weight[channel, channel, 1, 1] = 1.0
    for block in network.up:
        block.skip.weight[:, :16, 0, 0] = torch.eye(16)  # keep what came, forget the skip connection
    x = 100 + _numbers(2, 1, 6, 6)  # SiLU is the identity up to 100·exp(-100)
    assert float((network(x, torch.zeros(2)) - x).abs().max()) < 10 * EPS * 110


# Signals, images and volumes


def _without_means(network: nn.Module) -> nn.Module:
    """Leave convolutions and their nonlinearities alone: zeros stay zeros, and no mean is taken off them."""
    for layer in network.modules():
        if isinstance(layer, nn.GroupNorm | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.GroupNorm):
            layer.register_forward_hook(lambda _layer, inputs, _output: inputs[0])
    for block in (layer for layer in network.modules() if hasattr(layer, "condition")):
        nn.init.zeros_(block.condition.weight)
    return network


@torch.no_grad()
@pytest.mark.parametrize(("size", "axis"), [((128,), 0), ((128, 8), 0), ((8, 128), 1), ((128, 4, 8), 0), ((4, 8, 128), 2)])
@pytest.mark.parametrize("patch", [1, 2])
def test_what_moves_by_the_total_stride_moves_the_output_and_by_less_does_not(
    patch: int, size: tuple[int, ...], axis: int
) -> None:
    """Away from the borders; a bump surrounded by zeros."""
    stride, shape = 2 * patch, (1, *size)
    network = _without_means(shaken(UNet(shape, channels=(8, 16), blocks=1, patch=patch, attention=False), by=0.05))
    bump, label, places = torch.zeros(1, *shape, dtype=torch.float64), torch.zeros(1), size[axis]
    bump.narrow(axis + 2, places // 2 - 2, 4).copy_(_numbers(1, 1, *size).narrow(axis + 2, 0, 4))
    y = network(bump, label)
    assert float(y.abs().max()) > 0
    for shift, follows in ((stride, True), (-stride, True), (1, False)):
        moved = network(bump.roll(shift, axis + 2), label)
        error = float((moved - y.roll(shift, axis + 2)).abs().max()) / float(y.abs().max())
        assert (error < 100 * EPS) == follows, (shift, error)


def _lifted(flat: nn.Module, lifted: nn.Module, patch: int) -> nn.Module:
    """Give a network of one axis more the weights of another, in the middle of its kernels along the new first axis."""
    old = flat.state_dict()
    for name, weight in lifted.state_dict().items():
        given = old[name]
        if weight.ndim == given.ndim + 1:  # a kernel
            weight.zero_()
            if patch > 1 and name in ("first.weight", "last.weight", "last.bias"):
                channels = 1 if name == "first.weight" else 0
                axes = weight.ndim - 2
                split = given.shape[channels] // patch ** (axes - 1)
                given = given.unflatten(channels, (split, 1, -1)).expand(
                    *given.shape[:channels], split, patch, -1, *given.shape[channels + 1 :]
                )
                given = given.flatten(channels, channels + 2) / (patch if name == "first.weight" else 1)
            weight.select(2, weight.shape[2] // 2).copy_(given)
        elif weight.shape != given.shape:  # the last bias, one number a place of the patch
            split = given.shape[0] // patch ** (len(flat.first.weight.shape) - 2)
            weight.copy_(given.reshape(split, 1, -1).expand(split, patch, -1).flatten())
        else:
            weight.copy_(given)
    return lifted


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("size", [(11,), (6, 7)], ids=["a signal", "an image"])
def test_a_stack_of_one_image_is_to_the_network_of_volumes_what_the_image_is_to_that_of_images(
    size: tuple[int, ...], patch: int
) -> None:
    """Where its kernels have nothing but their middle plane; and one of signals likewise stands to that of images."""
    shape, deep, label = (2, *size), (2, 5, *size), torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    settings: dict[str, Any] = {"channels": (8, 16, 24), "blocks": 1, "patch": patch, "classes": 3}
    flat = shaken(UNet(shape, **settings))
    lifted = _lifted(flat, UNet(deep, **settings).double().eval(), patch)
    x, cond = _numbers(3, *shape), torch.tensor([0, 2, 1])
    y = flat(x, label, cond)
    stacked = lifted(x.unsqueeze(2).expand(3, *deep), label, cond)
    assert stacked.shape == (3, *deep)
    assert float((stacked - y.unsqueeze(2)).abs().max()) < 1e3 * EPS * float(y.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("size", [(11,), (6, 7)], ids=["a signal", "an image"])
def test_the_residual_network_acts_on_a_stack_plane_by_plane_where_its_kernels_have_one_plane(size: tuple[int, ...]) -> None:
    shape, deep, label = (2, *size), (2, 5, *size), torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    flat = shaken(ConditionedResNet(shape, width=8, blocks=3))
    lifted = _lifted(flat, ConditionedResNet(deep, width=8, blocks=3).double().eval(), 1)
    y, x = flat(_numbers(3, *shape), label), _numbers(3, *shape).unsqueeze(2).expand(3, *deep)
    assert float((lifted(x, label) - y.unsqueeze(2)).abs().max()) < 1e3 * EPS * float(y.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("turn", [(2, 0, 1), (1, 0, 2), (0, 2, 1)], ids=str)
def test_no_axis_of_a_volume_is_before_the_others(turn: tuple[int, ...]) -> None:
    """Turned kernels see in a turned volume what they saw before."""
    size, axes = (4, 6, 8), [0, 1, *(2 + axis for axis in turn)]
    network = shaken(UNet((1, *size), channels=(8, 16), blocks=1))
    turned = UNet((1, *(size[axis] for axis in turn)), channels=(8, 16), blocks=1).double().eval()
    turned.load_state_dict({k: v.permute(axes) if v.ndim == 5 else v for k, v in network.state_dict().items()})
    x, label = _numbers(2, 1, *size), torch.tensor([0.0, 1.0], dtype=torch.float64)
    y = network(x, label).permute(axes)
    assert float((turned(x.permute(axes), label) - y).abs().max()) < 1e3 * EPS * float(y.abs().max())


@pytest.mark.parametrize("coarsest", [16, 96, 128, 160, 200, 224, 320])
def test_attention_takes_any_number_of_channels(coarsest: int) -> None:
    network = shaken(UNet((1, 4, 4), channels=(8, coarsest), blocks=1), by=0.01)
    y = network(_numbers(1, 1, 4, 4), torch.zeros(1))
    assert y.shape == (1, 1, 4, 4) and bool(y.isfinite().all())


@pytest.mark.parametrize("name", ["residual", "unet"])
def test_convolutions_refuse_vectors_and_what_has_four_axes_with_a_sentence(name: str) -> None:
    for shape in ((7,), (1, 2, 2, 2, 2)):
        with pytest.raises(ScorefieldError, match=r"or \(channels, depth, height, width\): use the mlp for vectors"):
            NETWORKS[name]().build(shape)


def test_dropout_is_off_in_eval_and_on_in_training() -> None:
    network = shaken(UNet(SHAPE, channels=(8, 16), blocks=1, dropout=0.5))
    x, label = _numbers(2, *SHAPE), torch.zeros(2, dtype=torch.float64)
    assert torch.equal(network(x, label), network(x, label))
    network.train()
    assert not torch.equal(network(x, label), network(x, label))


# Second derivatives


def _second(network: nn.Module, x: Tensor, v: Tensor) -> Tensor:
    """Return d²/dh² of the sum of y(x + h·v) at h = 0 for each sample, by automatic differentiation."""
    h = torch.zeros(len(x), dtype=torch.float64, requires_grad=True)
    y = network(x + h.reshape(-1, *(1,) * (x.ndim - 1)) * v, torch.zeros(len(x), dtype=torch.float64))
    (slope,) = torch.autograd.grad(y.sum(), h, create_graph=True)
    if not slope.requires_grad:
        return torch.zeros(len(x), dtype=torch.float64)
    return torch.autograd.grad(slope.sum(), h, allow_unused=True, materialize_grads=True)[0]


def _by_differences(network: nn.Module, x: Tensor, v: Tensor, h: float) -> Tensor:
    label = torch.zeros(len(x), dtype=torch.float64)
    with torch.no_grad():
        up, here, down = (network(x + step * v, label).flatten(1).sum(dim=1) for step in (h, 0.0, -h))
    return (up - 2 * here + down) / h**2


@pytest.mark.parametrize(("name", "shape"), [("mlp", (3,)), ("unet", (1, 6, 5)), ("unet", (2, 7)), ("unet", (1, 3, 4, 3))])
def test_smooth_networks_have_the_second_derivative_that_differences_of_their_values_show(name: str, shape) -> None:
    network = shaken(NETWORKS[name]().build(shape))
    x, v = _numbers(4, *shape), _numbers(4, *shape, seed=1)
    exact = _second(network, x, v).detach()
    fine, coarse = (_by_differences(network, x, v, h) for h in (1e-3, 2e-3))
    # The error of central differences falls as h²: fine is off by a third of what separates it from coarse.
    rounding = 100 * EPS * float(network(x, torch.zeros(4)).detach().abs().sum()) / 1e-3**2
    assert bool(((fine - exact).abs() <= (coarse - fine).abs() + rounding).all())
    assert bool((exact.abs() > 100 * ((coarse - fine).abs() + rounding)).any())  # and it is far from zero


def test_a_unet_with_attention_can_be_learned_through_its_derivative_by_the_input() -> None:
    """As energies and sliced matching do; against central differences over a step in the weights."""
    network = shaken(UNet((1, 4, 4), channels=(8, 8), blocks=1))
    x, v, label = _numbers(3, 1, 4, 4).requires_grad_(), _numbers(3, 1, 4, 4, seed=1), torch.zeros(3, dtype=torch.float64)
    weights = list(network.parameters())
    way = [_numbers(*weight.shape, seed=2 + i) for i, weight in enumerate(weights)]

    def slope(moved: float) -> Tensor:
        with torch.no_grad():
            for weight, direction in zip(weights, way, strict=True):
                weight += moved * direction
        return torch.autograd.grad(network(x, label), x, v, create_graph=True)[0].square().sum()

    gradients = torch.autograd.grad(slope(0.0), weights, allow_unused=True)
    exact = sum(float((g * d).sum()) for g, d in zip(gradients, way, strict=True) if g is not None)
    attention = dict(zip([name for name, _ in network.named_parameters()], gradients, strict=True))["middle.1.qkv.weight"]
    h = 1e-5
    fine = float(slope(h).detach() - slope(-2 * h).detach()) / (2 * h)
    coarse = float(slope(3 * h).detach() - slope(-4 * h).detach()) / (4 * h)  # each step starts where the last one ended
    assert abs(fine - exact) <= abs(coarse - fine) + 1e-6 * abs(exact)
    assert float(attention.abs().max()) > 0


@pytest.mark.parametrize("shape", [(1, 2, 4), (1, 2, 2, 2)], ids=str)
def test_the_exact_trace_of_a_unet_has_the_same_gradient_however_many_coordinates_go_together(shape: tuple[int, ...]) -> None:
    """Torch has no batched second derivative of group normalisation."""
    model = ScoreModel(shaken(UNet(shape, channels=(8, 8), blocks=1)), EDM(), VE(0.1, 5.0), shape).double()
    x, gradients = _numbers(2, *shape), []
    for together in (1, 8):
        loss = Implicit(together=together)(model, x, rng=SampleRng(range(2))).sum()
        gradients.append(torch.autograd.grad(loss, model.network.first.weight)[0])
    numpy.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-9, atol=1e-9 * float(gradients[0].abs().max()))


class _Along(nn.Module):
    """A block as a network: the level's vector is fixed."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.block(x, torch.ones(len(x), 3, dtype=torch.float64))


@pytest.mark.theorem("relu-hessian", "relu-has-no-curvature")
def test_the_second_derivative_of_a_relu_block_is_exactly_zero_almost_everywhere() -> None:
    block = _Along(shaken(NoiseConditionedBlock(4, condition=3), by=0.5))
    x, v = _numbers(200, 4, 5, 4), _numbers(200, 4, 5, 4, seed=1)
    assert torch.equal(_second(block, x, v), torch.zeros(200, dtype=torch.float64))
    slopes = torch.autograd.functional.jvp(lambda z: block(z, torch.zeros(200)), x, v)[1]
    assert float(slopes.abs().max()) > 0.1  # its first derivative is not


@pytest.mark.theorem("relu-hessian")
def test_the_whole_residual_network_is_curved_by_its_normalisation_alone() -> None:
    network = shaken(ConditionedResNet((1, 6, 5), width=8, blocks=3))
    x, v = _numbers(20, 1, 6, 5), _numbers(20, 1, 6, 5, seed=1)
    assert float(_second(network, x, v).abs().max()) > 1e-3
    network.norm = nn.Identity()
    assert torch.equal(_second(network, x, v), torch.zeros(20, dtype=torch.float64))


# Hand-computed: the whole MLP


def test_the_mlp_is_a_residual_sum_of_silu_layers_conditioned_on_the_noise_in_each() -> None:
    network = shaken(MLP((2, 2), width=6, depth=3))
    x, label = _numbers(3, 2, 2), torch.tensor([-2.0, 0.0, 1.0], dtype=torch.float64)
    w = {name: weight.detach().numpy() for name, weight in network.named_parameters()}

    def silu(z: numpy.ndarray) -> numpy.ndarray:
        return z / (1 + numpy.exp(-z))

    got = network(x, label).detach().numpy()
    with torch.no_grad():
        about = silu(network.embed(label).numpy())
    for sample, condition, output in zip(x.reshape(3, 4).numpy(), about, got.reshape(3, 4), strict=True):
        h = w["first.weight"] @ sample + w["first.bias"]
        for layer in range(3):
            inner = silu(h + w[f"condition.{layer}.weight"] @ condition + w[f"condition.{layer}.bias"])
            h = h + w[f"hidden.{layer}.weight"] @ inner + w[f"hidden.{layer}.bias"]
        expected = w["last.weight"] @ silu(h) + w["last.bias"]
        assert numpy.abs(output - expected).max() < 100 * EPS * numpy.abs(expected).max()


def _attend_by_hand(x: numpy.ndarray, qkv: numpy.ndarray, heads: int) -> Iterator[numpy.ndarray]:
    """Yield the mixed values of each position of `(channels, positions)`, from rows of query, key and value weights."""
    channels, positions = x.shape
    size = channels // heads
    q, k, v = (part @ x for part in qkv.reshape(3, channels, channels))
    for here in range(positions):
        mixed = numpy.zeros(channels)
        for head in range(heads):
            rows = slice(head * size, (head + 1) * size)
            logits = [float(q[rows, here] @ k[rows, there]) / math.sqrt(size) for there in range(positions)]
            weights = numpy.exp(numpy.array(logits) - max(logits))
            mixed[rows] = v[rows] @ (weights / weights.sum())
        yield mixed


def test_attention_is_the_softmax_average_of_values_in_every_head() -> None:
    from scorefield.nets.unet import Attention

    layer = shaken(Attention(8, heads=2), by=0.5)
    nn.init.zeros_(layer.qkv.bias)
    x = _numbers(2, 8, 2, 3)
    got = layer(x).detach()
    for sample, output in zip(x, got, strict=True):
        rows = functional.group_norm(sample[None], 1, layer.norm.weight, layer.norm.bias, layer.norm.eps)[0].detach()
        mixed = list(_attend_by_hand(rows.reshape(8, 6).numpy(), layer.qkv.weight.detach().numpy()[..., 0, 0], 2))
        out = layer.out.weight.detach().numpy()[..., 0, 0] @ numpy.stack(mixed, 1) + layer.out.bias.detach().numpy()[:, None]
        expected = sample.reshape(8, 6).numpy() + out
        assert numpy.abs(output.reshape(8, 6).numpy() - expected).max() < 1e3 * EPS * numpy.abs(expected).max()


# --- the noise label, on every process --------------------------------------------------------------------------------

NOISY = {
    name: NEEDS_SETTINGS[name] if name in NEEDS_SETTINGS else kind()
    for name, kind in every("process").items()
    if name != "noiseless"
}


def _features(parametrisation: Parametrisation, process: Process, ratios: Tensor) -> Tensor:
    """The features that enter the first linear layer at given sigma/alpha, of length 1 each."""
    t = process.time_of_sigma(ratios)
    label = noise_label_of(parametrisation.noise_label, process, t)
    angle = label[:, None] * NoiseEmbedding(128).frequencies.double() * math.pi
    features = torch.cat([angle.sin(), angle.cos()], dim=1)
    return features / features.norm(dim=1, keepdim=True)


@each_case(process=NOISY)
@pytest.mark.parametrize("name", every("parametrisation"))
def test_close_noise_levels_have_close_features_and_the_ends_have_not(name: str, process: Process) -> None:
    """Half a percent of noise turns no feature by more than half a radian, wherever it lies between two whole times of a chain;
    levels a factor of 1.5 apart, and the two ends, have less in common than two random directions would ever hide."""
    parametrisation = every("parametrisation")[name]()
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    low, high = (process.sigma(ends) / process.alpha(ends)).log().tolist()
    some = torch.linspace(low, high - 0.005, 500, dtype=torch.float64)
    near = _features(parametrisation, process, some.exp()), _features(parametrisation, process, (some + 0.005).exp())
    assert float((near[0] * near[1]).sum(dim=1).min()) > math.cos(0.5)
    far = _features(parametrisation, process, torch.linspace(low, high, int((high - low) / 0.4)).double().exp())
    common = far @ far.mT - torch.eye(len(far))
    assert float(common.max()) < 0.9
    check_noise_label(parametrisation.noise_label, process)


@pytest.mark.parametrize(
    ("label", "process"),
    [("t", DDPMChain()), ("t", Tabulated.linear(100)), ("t", LinearVE()), ("sigma", VE(0.01, 50.0)), ("sigma", Cosine())],
    ids=repr,
)
def test_a_label_that_runs_faster_than_the_noise_is_refused_with_the_one_to_choose(label: str, process: Process) -> None:
    with pytest.raises(ScorefieldError, match=r"changes by .* where the noise grows by one percent.*label=log-sigma"):
        check_noise_label(label, process)


@pytest.mark.parametrize(
    ("label", "process"), [("t", VE()), ("t", RectifiedFlow()), ("t", VP()), ("sigma", VE(0.01, 5.0)), ("none", VE())]
)
def test_a_label_that_a_network_can_follow_is_taken(label: str, process: Process) -> None:
    check_noise_label(label, process)


@pytest.mark.parametrize(("classes", "expected"), [(10, 1.0), (300, 0.3)])
def test_the_rows_of_many_classes_begin_smaller_than_those_of_few(classes: int, expected: float) -> None:
    table = class_embedding(classes, 1024)
    assert table is not None
    assert table.weight.square().mean().sqrt().item() == pytest.approx(expected, rel=0.02)
    assert table.weight.square().mean(dim=1).max().sqrt().item() < 1.15 * expected  # no row is left out
