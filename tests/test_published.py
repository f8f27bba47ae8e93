"""Published weights: each layout by names and shapes, each network against its formulas, each score's sign and scale.

No published file and no published code is here. Layouts are written down as tables of names and shapes, filled with random
numbers and saved as they were published: under "module.", with the optimiser beside them, with the average as a list without
names. The reference computations take the tensors by name and know nothing of `nets/published/`.
"""

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command, contents
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield import VE, VP, LinearVE, ScorefieldError, ScoreModel
from scorefield.interchange.checkpoints.published import _architecture
from scorefield.interchange.foreign import Foreign, read_foreign, write_run
from scorefield.nets.published.score_sde import ScoreSDEConfig
from scorefield.nets.published.smalldiffusion_unet import SmallDiffusionUNetConfig
from scorefield.runs import open_run

Weights = dict[str, Tensor]
SIDE, IMAGE = 8, 3
UNIT = 2.0  # [0, 1] is twice as long in [-1, 1]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(layout: dict[str, tuple[int, ...]], seed: int = 0) -> Weights:
    """Random float32 numbers for every name; scales of normalisations around 1, so that nothing vanishes."""
    made = {}
    for i, (name, shape) in enumerate(layout.items()):
        value = 0.2 * numbers(*shape, seed=1000 * seed + i)
        made[name] = (value + (1.0 if "orm" in name and not name.endswith("bias") else 0.0)).float()
    return made


def conv_of(name: str, inward: int, outward: int, side: int = 3, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outward, inward, side, side)} | ({f"{name}.bias": (outward,)} if bias else {})


def prefixed(weights: Weights) -> Weights:
    return {f"module.{name}": value for name, value in weights.items()}


# --- NCSN -------------------------------------------------------------------------------------------------------------

WIDTHS = (4, 8, 8, 8)


def ncsn_layout(levels: int | None) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published RefineNet with four stages, of which the second halves the size."""
    old = levels is not None
    found: dict[str, tuple[int, ...]] = {}

    def norm(name: str, width: int) -> None:
        if old:
            found[f"{name}.embed.weight"] = (levels or 0, 3 * width)
        else:
            found.update({f"{name}.{part}": (width,) for part in ("alpha", "gamma", "beta")})

    def conv(*of: Any, bias: bool = True) -> None:
        found.update(conv_of(*of, bias=bias))

    def units(name: str, width: int, count: int) -> None:
        for i in range(1, count + 1):
            for j in (1, 2):
                if old:
                    norm(f"{name}.{i}_{j}_norm", width)
                conv(f"{name}.{i}_{j}_conv", width, width, bias=False)

    conv("begin_conv", IMAGE, WIDTHS[0])
    norm("normalizer", WIDTHS[0])
    conv("end_conv", WIDTHS[0], IMAGE)
    before = WIDTHS[0]
    for stage, width in enumerate(WIDTHS, start=1):
        for block in (0, 1):
            name, inward = f"res{stage}.{block}", before if block == 0 else width
            middle = inward if stage > 1 and block == 0 else width
            conv(f"{name}.conv1", inward, middle, bias=not old or stage > 2)
            norm(f"{name}.normalize2", middle)
            pooled = stage == 2 and block == 0
            conv(f"{name}.conv2" + (".conv" if pooled else ""), middle, width, bias=not old or stage > 2 or pooled)
            if stage > 1 and block == 0:
                conv(f"{name}.shortcut" + (".conv" if pooled else ""), inward, width, 1 if pooled else 3)
            norm(f"{name}.normalize1", inward)
        before = width
    outward = {1: 8, 2: 8, 3: 4, 4: 4}
    for i in range(1, 5):
        name, inputs = f"refine{i}", [WIDTHS[4 - i], *([outward[i - 1]] if i > 1 else [])]
        for k, width in enumerate(inputs):
            units(f"{name}.adapt_convs.{k}", width, 2)
        units(f"{name}.output_convs", outward[i], 3 if i == 4 else 1)
        for k, width in enumerate(inputs if i > 1 else []):
            conv(f"{name}.msf.convs.{k}", width, outward[i])
            if old:
                norm(f"{name}.msf.norms.{k}", width)
        for k in (0, 1):
            conv(f"{name}.crp.convs.{k}", outward[i], outward[i], bias=False)
            if old:
                norm(f"{name}.crp.norms.{k}", outward[i])
    return found


def ncsn_reference(w: Weights, x: Tensor, level: int | None) -> Tensor:
    """The network's output on images x in [-1, 1], from the papers' formulas on the tensors by name."""

    def conv(name: str, h: Tensor, dilation: int = 1) -> Tensor:
        weight = w[f"{name}.weight"]
        return F.conv2d(h, weight, w.get(f"{name}.bias"), padding=dilation * (weight.shape[-1] // 2), dilation=dilation)

    def norm(name: str, h: Tensor) -> Tensor:
        if level is None:
            gamma, alpha, beta = (w[f"{name}.{part}"] for part in ("gamma", "alpha", "beta"))
        else:
            row = w[f"{name}.embed.weight"][level]
            width = len(row) // 3
            gamma, alpha, beta = row[:width], row[width : 2 * width], row[2 * width :]
        out = torch.empty_like(h)
        for b in range(len(h)):
            means = torch.stack([h[b, c].sum() / h[b, c].numel() for c in range(h.shape[1])])
            middle = means.sum() / len(means)
            v = (((means - middle) ** 2).sum() / (len(means) - 1) + 1e-5).sqrt()
            for c in range(h.shape[1]):
                s = (((h[b, c] - means[c]) ** 2).sum() / h[b, c].numel() + 1e-5).sqrt()
                out[b, c] = gamma[c] * ((h[b, c] - means[c]) / s + alpha[c] * (means[c] - middle) / v) + beta[c]
        return out

    def halved(h: Tensor) -> Tensor:
        return (h[:, :, ::2, ::2] + h[:, :, 1::2, ::2] + h[:, :, ::2, 1::2] + h[:, :, 1::2, 1::2]) / 4

    def units(name: str, h: Tensor, count: int) -> Tensor:
        for i in range(1, count + 1):
            kept = h
            for j in (1, 2):
                h = h if level is None else norm(f"{name}.{i}_{j}_norm", h)
                h = conv(f"{name}.{i}_{j}_conv", F.elu(h))
            h = h + kept
        return h

    def own(name: str, h: Tensor) -> Tensor:
        return h if level is None else norm(name, h)

    h, stages = conv("begin_conv", x), []
    for stage, dilation in ((1, 1), (2, 1), (3, 2), (4, 4)):
        for block in (0, 1):
            name = f"res{stage}.{block}"
            g = conv(f"{name}.conv1", F.elu(norm(f"{name}.normalize1", h)), dilation)
            g = F.elu(norm(f"{name}.normalize2", g))
            if (stage, block) == (2, 0):
                h = halved(conv(f"{name}.conv2.conv", g)) + halved(conv(f"{name}.shortcut.conv", h))
            else:
                h = conv(f"{name}.conv2", g, dilation) + (
                    conv(f"{name}.shortcut", h, dilation) if block == 0 and stage > 2 else h
                )
        stages.append(h)
    refined: Tensor | None = None
    for i in range(1, 5):
        name, coarse = f"refine{i}", stages[4 - i]
        h = units(f"{name}.adapt_convs.0", coarse, 2)
        if refined is not None:
            total = torch.zeros(())
            for k, one in enumerate((h, units(f"{name}.adapt_convs.1", refined, 2))):
                one = conv(f"{name}.msf.convs.{k}", own(f"{name}.msf.norms.{k}", one))
                total = total + F.interpolate(one, size=coarse.shape[2:], mode="bilinear", align_corners=True)
            h = total
        h = path = F.elu(h)
        for k in (0, 1):
            path = own(f"{name}.crp.norms.{k}", path)
            if level is None:  # maxima over 5 x 5 places, those outside never the largest
                path = F.pad(path, (2, 2, 2, 2), value=-math.inf).unfold(2, 5, 1).unfold(3, 5, 1).amax(dim=(4, 5))
            else:  # means, zeros outside
                path = F.pad(path, (2, 2, 2, 2)).unfold(2, 5, 1).unfold(3, 5, 1).mean(dim=(4, 5))
            path = conv(f"{name}.crp.convs.{k}", path)
            h = h + path
        refined = units(f"{name}.output_convs", h, 3 if i == 4 else 1)
    assert refined is not None
    return conv("end_conv", F.elu(norm("normalizer", refined)))


# --- score_sde --------------------------------------------------------------------------------------------------------

# Each module by its number: (kind, channels in, channels out). Two resolutions of 8 and 16 features, one block each, attention
# at the coarse one.
NCSNPP = [("fourier", 8, 8), ("linear", 16, 32), ("linear", 32, 32), ("conv", IMAGE, 8), ("block", 8, 8), ("down", 8, 8)]
NCSNPP += [("pyramid", IMAGE, 8), ("block", 8, 16), ("attention", 16, 16), ("block", 16, 16), ("attention", 16, 16)]
NCSNPP += [("block", 16, 16), ("block", 32, 16), ("block", 24, 16), ("attention", 16, 16), ("up", 16, 16), ("block", 24, 8)]
NCSNPP += [("block", 16, 8), ("norm", 8, 8), ("conv", 8, IMAGE)]
DDPMPP = [("linear", 8, 32), *(module for module in NCSNPP[2:] if module[0] != "pyramid")]
DDPM = [("shrink" if k == "down" else "grow" if k == "up" else k, i, o) for k, i, o in DDPMPP]
LARGE = [*NCSNPP[:6], ("combine", IMAGE, 8), *NCSNPP[7:15], ("norm", 16, 16), ("conv", 16, IMAGE), *NCSNPP[15:]]
POSITIONAL = [("linear", 8, 32), *NCSNPP[2:]]


def sde_layout(modules: list[tuple[str, int, int]], nin: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a list of modules; `nin` for DDPM, whose blocks change channels by a linear map."""
    found: dict[str, tuple[int, ...]] = {"sigmas": (5,)}
    for number, (kind, inward, outward) in enumerate(modules):
        here = f"all_modules.{number}"
        if kind == "fourier":
            found[f"{here}.W"] = (inward,)
        elif kind == "linear":
            found |= {f"{here}.weight": (outward, inward), f"{here}.bias": (outward,)}
        elif kind == "conv":
            found |= conv_of(here, inward, outward)
        elif kind == "norm":
            found |= {f"{here}.weight": (inward,), f"{here}.bias": (inward,)}
        elif kind in ("pyramid", "combine", "shrink", "grow"):
            found |= conv_of(
                f"{here}.Conv{'2d' if kind == 'pyramid' else ''}_0", inward, outward, 1 if kind == "combine" else 3
            )
        elif kind == "attention":
            found |= {f"{here}.GroupNorm_0.weight": (inward,), f"{here}.GroupNorm_0.bias": (inward,)}
            for i in range(4):
                found |= {f"{here}.NIN_{i}.W": (inward, inward), f"{here}.NIN_{i}.b": (inward,)}
        else:
            found |= {f"{here}.GroupNorm_0.weight": (inward,), f"{here}.GroupNorm_0.bias": (inward,)}
            found |= conv_of(f"{here}.Conv_0", inward, outward)
            found |= {f"{here}.Dense_0.weight": (outward, 32), f"{here}.Dense_0.bias": (outward,)}
            found |= {f"{here}.GroupNorm_1.weight": (outward,), f"{here}.GroupNorm_1.bias": (outward,)}
            found |= conv_of(f"{here}.Conv_1", outward, outward)
            if nin and inward != outward:
                found |= {f"{here}.NIN_0.W": (inward, outward), f"{here}.NIN_0.b": (outward,)}
            elif inward != outward or kind in ("up", "down"):
                found |= conv_of(f"{here}.Conv_2", inward, outward, 1)
    return found


def sde_reference(w: Weights, modules: list[tuple[str, int, int]], x: Tensor, told: Tensor, nin: bool = False) -> Tensor:
    """The network's output on images x in [-1, 1] from the numbers that it is told, by the formulas on the tensors by name."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    fir = torch.outer(line, line)
    filtered = any(kind in ("pyramid", "combine") for kind, *_ in modules)
    half = 1.0 if nin else math.sqrt(0.5)

    def conv(name: str, h: Tensor) -> Tensor:
        return F.conv2d(h, w[f"{name}.weight"], w[f"{name}.bias"], padding=w[f"{name}.weight"].shape[-1] // 2)

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, h: Tensor) -> Tensor:
        groups = h.reshape(len(h), h.shape[1] // 4, -1)  # of four channels each, up to 128 of them
        centred = groups - groups.mean(dim=2, keepdim=True)
        h = (centred / (centred.square().mean(dim=2, keepdim=True) + 1e-6).sqrt()).reshape(h.shape)
        return torch.einsum("bchw,c->bchw", h, w[f"{name}.weight"]) + w[f"{name}.bias"].reshape(-1, 1, 1)

    def nin_of(name: str, h: Tensor) -> Tensor:
        return torch.einsum("bchw,cd->bdhw", h, w[f"{name}.W"]) + w[f"{name}.b"].reshape(-1, 1, 1)

    def down(h: Tensor) -> Tensor:
        if not filtered:
            return (h[:, :, ::2, ::2] + h[:, :, 1::2, ::2] + h[:, :, ::2, 1::2] + h[:, :, 1::2, 1::2]) / 4
        channels = h.shape[1]
        return F.conv2d(h, fir.expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels)

    def up(h: Tensor) -> Tensor:
        if not filtered:
            return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        channels = h.shape[1]
        return F.conv_transpose2d(h, 4 * fir.expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels)

    def block(name: str, kind: str, h: Tensor) -> Tensor:
        g = F.silu(norm(f"{name}.GroupNorm_0", h))
        if kind in ("up", "down"):
            g, h = (up(g), up(h)) if kind == "up" else (down(g), down(h))
        g = conv(f"{name}.Conv_0", g) + linear(f"{name}.Dense_0", F.silu(noise)).unsqueeze(2).unsqueeze(3)
        g = conv(f"{name}.Conv_1", F.silu(norm(f"{name}.GroupNorm_1", g)))
        if f"{name}.Conv_2.weight" in w:
            h = conv(f"{name}.Conv_2", h)
        return half * ((nin_of(f"{name}.NIN_0", h) if f"{name}.NIN_0.W" in w else h) + g)

    def attention(name: str, h: Tensor) -> Tensor:
        normed = norm(f"{name}.GroupNorm_0", h)
        q, k, v = (nin_of(f"{name}.NIN_{i}", normed) for i in range(3))
        weights = torch.einsum("bchw,bcij->bhwij", q, k) / math.sqrt(h.shape[1])
        weights = weights.flatten(3).exp() / weights.flatten(3).exp().sum(dim=3, keepdim=True)
        mixed = torch.einsum("bhwn,bcn->bchw", weights, v.flatten(2))
        return half * (h + nin_of(f"{name}.NIN_3", mixed))

    def folded(name: str, image: Tensor) -> Tensor:
        """The filter and the convolution as one of 6 x 6, taken at every second place."""
        kernel = F.conv2d(F.pad(w[f"{name}.weight"], (3, 3, 3, 3)).flatten(0, 1).unsqueeze(1), fir[None, None])
        kernel = kernel.reshape(*w[f"{name}.weight"].shape[:2], 6, 6)
        return F.conv2d(image, kernel, w[f"{name}.bias"], stride=2, padding=2)

    first = 1 if modules[0][0] == "fourier" else 0
    if first:
        angle = 2 * math.pi * torch.outer(told, w["all_modules.0.W"])
    else:
        angle = torch.outer(told, torch.tensor([10_000 ** (-i / 3) for i in range(4)], dtype=x.dtype))
    noise = linear(f"all_modules.{first}", torch.cat([angle.sin(), angle.cos()], dim=1))
    noise = linear(f"all_modules.{first + 1}", F.silu(noise))
    h, image, sum_of_images = conv(f"all_modules.{first + 2}", x), x, None
    stack, rising, middle = [h], False, [kind for kind, *_ in modules].index("attention") + 3
    for number in range(first + 3, len(modules)):
        (kind, *_), name = modules[number], f"all_modules.{number}"
        rising = rising or number > middle
        if kind in ("block", "up", "down"):
            if rising and kind == "block":
                h = torch.cat([h, stack.pop()], dim=1)
            h = block(name, kind, h)
        elif kind == "attention":
            h = attention(name, h)
        elif kind == "shrink":
            h = F.conv2d(F.pad(h, (0, 1, 0, 1)), w[f"{name}.Conv_0.weight"], w[f"{name}.Conv_0.bias"], stride=2)
        elif kind == "grow":
            h = conv(f"{name}.Conv_0", h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
        elif kind == "pyramid":
            h = image = half * (folded(f"{name}.Conv2d_0", image) + h)
        elif kind == "combine":
            image = down(image)
            h = conv(f"{name}.Conv_0", image) + h
        elif kind == "norm":
            out = conv(f"all_modules.{number + 1}", F.silu(norm(name, h)))
            sum_of_images = out if sum_of_images is None else up(sum_of_images) + out
        upcoming = modules[number + 1][0] if number + 1 < len(modules) else ""
        if number <= middle - 3 and not (kind in ("block", "down") and upcoming in ("attention", "pyramid", "combine")):
            stack.append(h)
    assert sum_of_images is not None and not stack
    return sum_of_images


# --- as they were published -------------------------------------------------------------------------------------------


def trained(weights: Weights) -> list[str]:
    """The names of the parameters that were trained: no buffer, and not the Fourier frequencies."""
    return [name for name in weights if name != "sigmas" and (not name.endswith(".W") or ".NIN_" in name)]


def sde_checkpoint(raw: Weights, average: list[Tensor]) -> dict[str, Any]:
    ema = {"decay": 0.9999, "num_updates": 7, "shadow_params": average}
    return {"optimizer": {"state": {}, "param_groups": [{"lr": 2e-4}]}, "model": prefixed(raw), "ema": ema, "step": 7}


class Case:
    """A published model: its tensors, how they are saved, what is said of them, and its reference."""

    def __init__(
        self, layout: dict[str, tuple[int, ...]], reference: Callable[[Weights, Tensor, Tensor], Tensor], **settings: Any
    ):
        self.raw, self.average = filled(layout), filled(layout, seed=1)
        sigmas = torch.tensor([0.01 * 5000 ** (1 - i / 4) for i in range(5)])
        for weights in (self.raw, self.average):
            if "sigmas" in layout:
                weights["sigmas"] = sigmas
            weights |= {name: self.raw[name] for name in layout if name not in trained(weights)}
        self.reference, self.settings = reference, [f"{key}={value}" for key, value in {"size": SIDE, **settings}.items()]

    def content(self) -> Any:
        if "sigmas" not in self.raw:  # NCSN
            return [prefixed(self.raw), {"state": {}, "param_groups": []}]
        if "begin_conv.weight" in self.raw:  # NCSNv2
            average = {name: self.average[name] for name in trained(self.average)}
            return [prefixed(self.raw), {"state": {}, "param_groups": []}, 3, 7, average]
        return sde_checkpoint(self.raw, [self.average[name] for name in trained(self.average)])


def sde(modules: list[tuple[str, int, int]], **settings: Any) -> Case:
    nin = modules is DDPM
    return Case(sde_layout(modules, nin), lambda w, x, u: sde_reference(w, modules, x, u, nin), **settings)


CASES = {
    "ncsn": Case(ncsn_layout(6), lambda w, x, u: ncsn_reference(w, x, int(u[0])) / UNIT),
    "ncsnv2": Case(ncsn_layout(None) | {"sigmas": (5,)}, lambda w, x, u: ncsn_reference(w, x, None)),
    "ve": sde(NCSNPP),
    "large": sde(LARGE),
    "indexed": sde(POSITIONAL, sde="ve"),
    "vp": sde(DDPMPP),
    "sub-vp": sde(DDPMPP, sde="sub-vp"),
    "steps": sde(DDPMPP, continuous="false"),
    "ddpm": sde(DDPM, continuous="false"),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def read(case: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Foreign]:
    path = tmp_path_factory.mktemp("published") / "checkpoint.pth"
    torch.save(CASES[case].content(), path)
    return case, read_foreign(path, CASES[case].settings)


@pytest.fixture(scope="module")
def model(read: tuple[str, Foreign], tmp_path_factory: pytest.TempPathFactory) -> ScoreModel:
    """The field of the run that was written, in float64."""
    return open_run(write_run(read[1], tmp_path_factory.mktemp("runs") / "run")).field.double()


def told(case: str, t: Tensor) -> Tensor:
    """What a published network is told at time t of the process, by the papers."""
    vp_of_chain = t - 1
    return {
        "ncsn": (5 * (1 - t)).round(),
        "ncsnv2": t,
        "ve": math.log(0.01) + t * math.log(5000),
        "large": math.log(0.01) + t * math.log(5000),
        "indexed": (4 * (1 - t)).round(),
        "vp": 999 * t,
        "sub-vp": 999 * t,
        "steps": vp_of_chain,
        "ddpm": vp_of_chain,
    }[case]


def score_of(case: str, y: Tensor, t: float) -> Tensor:
    """The score, in [-1, 1], of a published network's output there, by the papers."""
    if case == "ncsn":
        return y
    if case in ("ncsnv2", "ve", "large", "indexed"):
        return y / (UNIT * 0.01 * 5000**t)
    n = torch.arange(1, 1001, dtype=torch.float64)
    power = -(0.1 * t + 0.5 * 19.9 * t * t)
    if case in ("steps", "ddpm"):
        betas = 1e-4 + (n - 1) / 999 * (0.02 - 1e-4)
        power = float((1 - betas[: int(t)]).log().sum())
    variance = 1 - math.exp(power)
    return -y / (variance if case == "sub-vp" else math.sqrt(variance))


@torch.no_grad()
def test_the_score_of_a_published_model_is_that_of_its_formulas_on_its_tensors(
    read: tuple[str, Foreign], model: ScoreModel
) -> None:
    """Layout, moving average, prefix, architecture, what is told, sign, scale and division by sigma, all in one number."""
    case, weights = read[0], CASES[read[0]].raw if read[0] == "ncsn" else CASES[read[0]].average
    exact = {name: value.double() for name, value in weights.items()}
    x = numbers(2, IMAGE, SIDE, SIDE, seed=5)
    for time in (200.0, 900.0) if case in ("steps", "ddpm") else (0.25, 1.0) if case == "indexed" else (0.2, 1.0):
        t = torch.full((2,), time, dtype=torch.float64)
        y = CASES[case].reference(exact, x, told(case, t))
        expected = score_of(case, y, time)
        got = model(x, t).score
        assert float(expected.abs().max()) > 1e-6
        # The frequencies of an angle of up to 1,000 radians are computed to a few of its last digits.
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


@torch.no_grad()
def test_a_last_layer_that_is_only_a_bias_gives_that_constant_as_the_score_s_scale_says(case: str, tmp_path: Path) -> None:
    """Whole and in float32, as a person would have it: -b/sigma of noise, b/sigma of VE, b of NCSN, in the unit of [-1, 1]."""
    one = CASES[case]
    content = one.content()
    flat = Case.__new__(Case)
    flat.raw, flat.average = ({**weights} for weights in (one.raw, one.average))
    last = "end_conv" if "ncsn" in case else f"all_modules.{max(int(n.split('.')[1]) for n in one.raw if n.startswith('all'))}"
    lasts = [last] if case != "large" else ["all_modules.16", last]
    for weights in (flat.raw, flat.average):
        for i, name in enumerate(lasts):
            weights[f"{name}.weight"] = torch.zeros_like(weights[f"{name}.weight"])
            weights[f"{name}.bias"] = torch.tensor([1.0, -2.0, 0.5]) if i == len(lasts) - 1 else torch.zeros(3)
    content = flat.content()
    torch.save(content, tmp_path / "flat.pt")
    field = open_run(write_run(read_foreign(tmp_path / "flat.pt", one.settings), tmp_path / "run")).field
    time = 500.0 if case in ("steps", "ddpm") else 0.4 if case == "ncsn" else 0.5  # NCSN's score is known at its levels
    got = field(numbers(1, IMAGE, SIDE, SIDE), torch.tensor([time])).score[0, :, 0, 0]
    y = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) / (UNIT if case == "ncsn" else 1)
    torch.testing.assert_close(got.double(), score_of(case, y, time), rtol=1e-5, atol=0)


# --- what the file says and what it does not --------------------------------------------------------------------------


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_levels_are_those_of_the_file_in_the_unit_of_the_images_here(tmp_path: Path) -> None:
    found = read_foreign(saved(tmp_path / "a.pt", CASES["ve"].content()), CASES["ve"].settings)
    assert found.process == VE(0.02, 100.0)
    assert found.notes[-1] == "the moving average of the weights is taken"
    assert any("noise of 0.01 to 50 is 0.02 to 100" in note for note in found.notes)
    assert any("how their data were noised: ve is taken, --set sde=..." in note for note in found.notes)
    old = read_foreign(saved(tmp_path / "b.pt", CASES["ncsn"].content()))
    assert old.shape == (3, 32, 32) and old.process == VE(0.02, 2.0)
    assert "32 x 32 pixels are taken" in old.notes[0]
    assert "sigma_min=0.01, sigma_max=1: taken from the paper" in old.notes[1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda names, every: every, "number 1 is of shape (8,) where 'all_modules.1.weight' is of shape (32, 16)"),
        (lambda names, every: ["sigmas", *names], "number 1 is of shape (5,) where"),
        (lambda names, every: names[:-1], "is missing where 'all_modules.19.bias' is of shape (3,)"),
        (lambda names, every: [names[1], names[0], *names[2:]], "number 1 is of shape (32,) where"),
        (lambda names, every: [*names, "sigmas"], "is of shape (5,) where the trained tensors end"),
    ],
    ids=["with the frequencies", "with a buffer", "one short", "exchanged", "one too many"],
)
def test_an_average_without_names_that_is_not_of_the_trained_tensors_alone_is_refused(
    wrong: Callable[[list[str], list[str]], list[str]], said: str, tmp_path: Path
) -> None:
    """What a zip with all parameters, or with all tensors, would have made of it: other tensors' numbers."""
    one = CASES["ve"]
    names, every = trained(one.raw), [name for name in one.raw if name != "sigmas"]
    content = sde_checkpoint(one.raw, [one.average[name] for name in wrong(names, every)])
    with pytest.raises(ScorefieldError) as refusal:
        read_foreign(saved(tmp_path / "a.pt", content), one.settings)
    assert said in str(refusal.value) and "expected one for each of the 156 trained tensors in their order" in str(
        refusal.value
    )
    assert read_foreign(tmp_path / "a.pt", [*one.settings, "average=false"]).weights.keys() == set(every)


def test_sigmas_that_were_saved_as_a_parameter_do_not_move_the_average(tmp_path: Path) -> None:
    """Last of all instead of first: the list is of the network's own trained tensors, whatever else the file has."""
    one = CASES["ve"]
    content = one.content()
    content["model"]["module.sigmas"] = content["model"].pop("module.sigmas")
    weights = read_foreign(saved(tmp_path / "a.pt", content), one.settings).weights
    assert all(torch.equal(weights[name], one.average[name]) for name in trained(one.raw))
    assert torch.equal(weights["all_modules.0.W"], one.raw["all_modules.0.W"])


def test_a_bare_state_dict_of_torch_or_safetensors_with_or_without_the_prefix_is_the_same_model(tmp_path: Path) -> None:
    one = CASES["vp"]
    save_file(one.raw, tmp_path / "a.safetensors")
    read = [read_foreign(tmp_path / "a.safetensors", one.settings)]
    read += [read_foreign(saved(tmp_path / f"{i}.pth", w), one.settings) for i, w in enumerate((one.raw, prefixed(one.raw)))]
    for found in read:
        assert found.network == read[0].network and found.process == VP(0.1, 20.0)
        assert all(torch.equal(found.weights[name], one.raw[name]) for name in trained(one.raw))


# The settings of the published models; nothing is computed, so that they may be as large as they are.
PUBLISHED = {
    "NCSN++ of 32 x 32": ScoreSDEConfig(embedding="fourier", fir=True, image_in="residual"),
    "NCSN++, deep": ScoreSDEConfig(blocks=8, embedding="fourier", fir=True, image_in="residual"),
    "DDPM++ of 32 x 32": ScoreSDEConfig(),
    "DDPM of 32 x 32": ScoreSDEConfig(blocks=2, resampling="ddpm", rescale=False),
    "DDPM of 2020": ScoreSDEConfig(blocks=2, resampling="ddpm", rescale=False, attention_up="each"),
    "NCSN++ of 256 x 256": ScoreSDEConfig(
        channels=(128, 128, 256, 256, 256, 256, 256),
        blocks=2,
        attention=(4,),
        embedding="fourier",
        fir=True,
        image_in="skip",
        image_out="skip",
    ),
}


@pytest.fixture
def unfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are made without numbers in them, which would take longer than all else."""
    for name in ("kaiming_uniform_", "uniform_", "xavier_uniform_", "ones_", "zeros_", "normal_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.mark.usefixtures("unfilled")
def test_the_architecture_of_every_published_size_is_read_off_its_shapes() -> None:
    for name, config in PUBLISHED.items():
        assert _architecture(config.build((3, 32, 32)).state_dict()) == (config, 3), name


@pytest.mark.usefixtures("unfilled")
def test_the_network_of_ddpm_has_the_35_7_million_parameters_of_its_paper() -> None:
    """Ho, Jain, Abbeel (2020), appendix B."""
    network = PUBLISHED["DDPM of 2020"].build((3, 32, 32))
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1) == 35.7


# --- smalldiffusion ---------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("scaled", [False, True])
def test_smalldiffusion_s_layers_are_the_noise_of_x0_plus_sigma_noise(scaled: bool, tmp_path: Path) -> None:
    shapes = {"net.0": (16, 4), "net.2": (5, 16), "net.4": (2, 5)}
    layout: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        layout |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    w = filled(layout)
    settings = ["sigma_max=20"] + (["scaled=true"] if scaled else [])
    foreign = read_foreign(saved(tmp_path / "a.pt", w), settings)
    assert any("does not say sigma_min=0.005: taken" in note for note in foreign.notes)
    field = open_run(write_run(foreign, tmp_path / "run")).field.double()
    x, sigma = 3 * numbers(4, 2), torch.tensor([0.01, 0.3, 4.0, 20.0], dtype=torch.float64)
    h = torch.cat(
        [
            x / (1 + sigma**2).sqrt().unsqueeze(1) if scaled else x,
            (sigma.log() / 2).sin().unsqueeze(1),
            (sigma.log() / 2).cos().unsqueeze(1),
        ],
        dim=1,
    )
    for name in shapes:
        h = h @ w[f"{name}.weight"].double().T + w[f"{name}.bias"].double()
        h = h if name == "net.4" else h * (1 + torch.erf(h / math.sqrt(2))) / 2
    torch.testing.assert_close(field(x, sigma).score, -h / sigma.unsqueeze(1), rtol=1e-10, atol=1e-10)


# Of smalldiffusion's U-Net: first features, widths, blocks, resolutions with attention, size of e, channels, classes.
GRAY = (32, (32, 64), 1, (1,), 48, 1, 0)
COLOURED = (32, (64, 32, 64), 2, (0, 2), 128, IMAGE, 3)


def unet_layout(
    first: int, widths: tuple[int, ...], blocks: int, attention: tuple[int, ...], e: int, channels: int, classes: int
) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inward: int, outward: int) -> None:
        found.update({f"{name}.weight": (outward, inward), f"{name}.bias": (outward,)})

    def norm(name: str, width: int) -> None:
        found.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    def block(name: str, inward: int, outward: int) -> None:
        norm(f"{name}.layer1.0", inward)
        found.update(conv_of(f"{name}.layer1.2", inward, outward))
        linear(f"{name}.temb_proj.1", e, outward)
        norm(f"{name}.layer2.0", outward)
        found.update(conv_of(f"{name}.layer2.3", outward, outward))
        if inward != outward:
            found.update(conv_of(f"{name}.shortcut", inward, outward, 1))

    def attended(name: str, width: int) -> None:
        norm(f"{name}.norm", width)
        found[f"{name}.attn.qkv.weight"] = (3 * width, width)
        linear(f"{name}.attn.proj", width, width)
        found.update(conv_of(f"{name}.proj_out", width, width, 1))

    linear("sig_embed.mlp.0", 2, e)
    linear("sig_embed.mlp.2", e, e)
    if classes:
        found["cond_embed.embeddings.weight"] = (classes + 1, e)
        linear("cond_embed.mlp.1", e, e)
    found.update(conv_of("conv_in", channels, first))
    skips, here, last = [first], first, len(widths) - 1
    for level, width in enumerate(widths):
        for j in range(blocks):
            block(f"downs.{level}.blocks.{j}.0", here, width)
            if level in attention:
                attended(f"downs.{level}.blocks.{j}.1", width)
            here = width
            skips.append(width)
        if level < last:
            found.update(conv_of(f"downs.{level}.downsample.1", width, width))
            skips.append(width)
    block("mid.0", here, here)
    attended("mid.1", here)
    block("mid.2", here, here)
    for i, width in enumerate(reversed(widths)):
        for j in range(blocks + 1):
            block(f"ups.{i}.blocks.{j}.0", here + skips.pop(), width)
            if last - i in attention:
                attended(f"ups.{i}.blocks.{j}.1", width)
            here = width
        if i < last:
            found.update(conv_of(f"ups.{i}.upsample.1", width, width))
    norm("out_layer.0", here)
    return found | conv_of("out_layer.2", here, channels)


def unet_reference(w: Weights, x: Tensor, sigma: Tensor, row: list[int] | None) -> Tensor:
    """The noise in images by the formulas on the tensors by name, each as often as there is one; `row` of the classes."""

    def linear(name: str, h: Tensor) -> Tensor:
        return F.linear(h, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def conv(name: str, h: Tensor, **how: int) -> Tensor:
        return F.conv2d(h, w[f"{name}.weight"], w[f"{name}.bias"], **how)

    def norm(name: str, h: Tensor) -> Tensor:
        return F.group_norm(h, 32, w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    def step(name: str, h: Tensor) -> Tensor:
        g = conv(f"{name}.layer1.2", F.silu(norm(f"{name}.layer1.0", h)), padding=1)
        g = g + linear(f"{name}.temb_proj.1", F.silu(e)).unsqueeze(2).unsqueeze(3)
        g = conv(f"{name}.layer2.3", F.silu(norm(f"{name}.layer2.0", g)), padding=1)
        return g + (conv(f"{name}.shortcut", h) if f"{name}.shortcut.weight" in w else h)

    def attended(name: str, h: Tensor) -> Tensor:
        if f"{name}.norm.weight" not in w:
            return h
        width = h.shape[1]
        tokens = norm(f"{name}.norm", h).permute(0, 2, 3, 1).reshape(len(h), -1, width)
        matrix = w[f"{name}.attn.qkv.weight"]
        q, k, v = (F.linear(tokens, matrix[i * width : (i + 1) * width]) for i in range(3))
        mixed = linear(f"{name}.attn.proj", F.scaled_dot_product_attention(q, k, v))
        return h + conv(f"{name}.proj_out", mixed.reshape(len(h), *h.shape[2:], width).permute(0, 3, 1, 2))

    angle = sigma.log() / 2
    e = linear("sig_embed.mlp.2", F.silu(linear("sig_embed.mlp.0", torch.stack([angle.sin(), angle.cos()], dim=1))))
    if row is not None:
        e = e + linear("cond_embed.mlp.1", F.silu(w["cond_embed.embeddings.weight"][row]))
    h, i = conv("conv_in", x, padding=1), 0
    skips = [h]
    while f"downs.{i}.blocks.0.0.layer1.0.weight" in w:
        j = 0
        while f"downs.{i}.blocks.{j}.0.layer1.0.weight" in w:
            h = attended(f"downs.{i}.blocks.{j}.1", step(f"downs.{i}.blocks.{j}.0", h))
            skips, j = [*skips, h], j + 1
        if f"downs.{i}.downsample.1.weight" in w:
            h = conv(f"downs.{i}.downsample.1", F.pad(h, (0, 1, 0, 1)), stride=2)
            skips.append(h)
        i += 1
    h, levels = step("mid.2", attended("mid.1", step("mid.0", h))), i
    for i in range(levels):
        j = 0
        while f"ups.{i}.blocks.{j}.0.layer1.0.weight" in w:
            h = attended(f"ups.{i}.blocks.{j}.1", step(f"ups.{i}.blocks.{j}.0", torch.cat([h, skips.pop()], dim=1)))
            j += 1
        if f"ups.{i}.upsample.1.weight" in w:
            h = conv(f"ups.{i}.upsample.1", h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), padding=1)
    assert not skips
    return conv("out_layer.2", F.silu(norm("out_layer.0", h)), padding=1)


@pytest.fixture(scope="module")
def unets() -> dict[str, Weights]:
    return {"gray": filled(unet_layout(*GRAY)), "coloured": filled(unet_layout(*COLOURED), seed=2)}


@torch.no_grad()
@pytest.mark.parametrize(("kind", "scaled"), [("gray", False), ("coloured", True)])
def test_smalldiffusion_s_unet_is_the_noise_of_its_formulas_on_its_tensors(
    kind: str, scaled: bool, unets: dict[str, Weights], tmp_path: Path
) -> None:
    """Of images whose sides differ, with each class and with none; as it was saved on several devices."""
    w = unets[kind]
    settings = [f"size={SIDE}", "sigma_min=0.02", *([] if scaled else ["scaled=false"])]
    foreign = read_foreign(saved(tmp_path / "a.pth", prefixed(w)), settings)
    assert foreign.process == LinearVE(0.02, 35.0 if scaled else 20.0) and foreign.unconditional == scaled
    field = open_run(write_run(foreign, tmp_path / "run")).field.double()
    exact = {name: value.double() for name, value in w.items()}
    sigma = torch.tensor([0.02, 0.7, 20.0], dtype=torch.float64)
    x = 3 * numbers(3, 1 if kind == "gray" else IMAGE, SIDE, 2 * SIDE)
    inward = x / (1 + sigma**2).sqrt().reshape(-1, 1, 1, 1) if scaled else x
    for row in ([2, 0, 1], [3, 3, 3]) if kind == "coloured" else (None,):
        cond = None if row in (None, [3, 3, 3]) else torch.tensor(row)
        expected = -unet_reference(exact, inward, sigma, row) / sigma.reshape(-1, 1, 1, 1)
        torch.testing.assert_close(field(x, sigma, cond).score, expected, rtol=1e-8, atol=1e-8)


@torch.no_grad()
def test_a_unet_of_smalldiffusion_whose_last_layer_is_a_bias_has_the_score_minus_bias_by_sigma(
    unets: dict[str, Weights], tmp_path: Path
) -> None:
    flat = unets["coloured"] | {"out_layer.2.weight": torch.zeros(IMAGE, 64, 3, 3), "out_layer.2.bias": torch.arange(3.0)}
    field = open_run(write_run(read_foreign(saved(tmp_path / "a.pt", flat), ["size=8"]), tmp_path / "run")).field
    got = field(numbers(1, IMAGE, SIDE, SIDE), torch.tensor([4.0])).score
    assert got[0, :, 3, 5].tolist() == pytest.approx([0.0, -0.25, -0.5], rel=1e-6)


@pytest.mark.usefixtures("unfilled")
@pytest.mark.parametrize(
    ("config", "channels", "size", "sigma_max"),
    [
        (SmallDiffusionUNetConfig(), 3, 32, 35.0),
        (SmallDiffusionUNetConfig(channels=64, multipliers=(1, 1, 2), condition=256), 1, 28, 20.0),
        (SmallDiffusionUNetConfig(multipliers=(1, 1, 2, 2), blocks=1, attention=(2,)), 3, 64, 35.0),
        (SmallDiffusionUNetConfig(multipliers=(2, 1), blocks=3, attention=(), condition=100), 2, 32, 35.0),
    ],
    ids=["CIFAR-10", "Fashion-MNIST", "twice as large", "attention in the middle alone"],
)
def test_settings_of_a_unet_of_smalldiffusion_are_read_off_its_shapes(
    config: SmallDiffusionUNetConfig, channels: int, size: int, sigma_max: float, tmp_path: Path
) -> None:
    weights = config.build((channels, size, size), 10).state_dict()
    found = read_foreign(saved(tmp_path / "a.pt", weights))
    assert found.network == config and found.shape == (channels, size, size)
    assert found.process == LinearVE(0.01, sigma_max) and found.classes == tuple("0123456789")
    said = " ".join(found.notes)
    assert f"{size} x {size} pixels" in said and "true is taken, --set scaled=false changes it" in said
    assert f"does not say sigma_min=0.01, sigma_max={sigma_max:g}: taken from its examples" in said


@pytest.mark.usefixtures("unfilled")
def test_the_unet_of_smalldiffusion_for_cifar10_is_ddpm_s_but_for_its_embedding_and_its_attention() -> None:
    """Parameters: 2 numbers of sigma in place of 128, and in each of six attentions W² more weights, 2·W biases fewer."""
    ours, ddpm = (
        sum(parameter.numel() for parameter in config.build((3, 32, 32)).parameters())
        for config in (SmallDiffusionUNetConfig(), PUBLISHED["DDPM of 2020"])
    )
    assert ours - ddpm == 512 * (2 - 128) + 6 * (256**2 - 2 * 256)


def test_images_of_an_imported_unet_of_smalldiffusion_are_drawn_by_the_command(
    unets: dict[str, Weights], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The noise is said to be 5, -5 and 0 everywhere, so that x0 = x - 35·noise is black, white and either in the three."""
    flat = {"out_layer.2.weight": torch.zeros(IMAGE, 64, 3, 3), "out_layer.2.bias": torch.tensor([5.0, -5.0, 0.0])}
    save_file(unets["coloured"] | flat, tmp_path / "a.safetensors")
    told = ("--set", "size=8", "--set", "classes=cat,dog,owl")
    assert command("import", tmp_path / "a.safetensors", "--as", tmp_path / "run", *told) == 0
    assert "smalldiffusion's U-Net" in capsys.readouterr().out
    for name, *options in (("any",), ("owl", "--label", "owl", "--guidance", 2)):
        assert command("sample", tmp_path / "run", "-n", 4, "--out", tmp_path / f"{name}.npz", "--steps", 3, *options) == 0
    drawn = [np.load(tmp_path / f"{name}.npz") for name in ("any", "owl")]
    for images in (next(one[key] for key in one.files if one[key].ndim == 4) for one in drawn):
        assert images.shape == (4, 8, 8, 3) and images.dtype == np.uint8
        assert images[..., 0].max() == 0 and images[..., 1].min() == 255
        assert images[..., 2].min() == 0 and images[..., 2].max() == 255
    assert command("sample", tmp_path / "run", "-n", 4, "--label", "cow", "--out", tmp_path / "cow.npz") == 2
    assert "cat" in capsys.readouterr().err


def test_what_is_not_a_unet_of_smalldiffusion_is_refused_with_what_is_wrong(
    unets: dict[str, Weights], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    w, path = unets["coloured"], tmp_path / "a.pt"

    def without(name: str) -> Weights:
        return {one: value for one, value in w.items() if one != name}

    for changed, said in (
        (without("mid.0.layer1.2.weight"), "without 'mid.0.layer1.2.weight', which its architecture has"),
        (without("cond_embed.mlp.1.bias"), "without 'cond_embed.mlp.1.bias', which its architecture has"),
        (without("sig_embed.mlp.2.weight"), "not those of a whole model ('sig_embed.mlp.2.weight')"),
        (w | {"ups.0.blocks.1.1.norm.bias": torch.zeros(9)}, "'ups.0.blocks.1.1.norm.bias' of shape (9,) in"),
        (w | {"conv_in.weight": torch.zeros(48, 3, 3, 3)}, "not those of a whole model"),
        (w | {"cond_embed.weight": torch.zeros(9, 9)}, "with 'cond_embed.weight', which its architecture does not have"),
    ):
        assert said in refused(capsys, tmp_path, saved(path, changed), "--set", "size=8")
    for setting, said in (
        ("size=10", "3 resolutions, expected (channels, height, width) with sides that 4 divides"),
        ("scaled=perhaps", "expected true or false"),
        ("scale=true", "did you mean 'scaled'"),
        ("classes=cat,dog", "got 2 names of classes for a network of 3"),
    ):
        assert said in refused(capsys, tmp_path, saved(path, w), "--set", setting)


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: object) -> str:
    """The sentence of `scorefield import`, after which nothing is written."""
    before = contents(folder)
    assert command("import", *words, "--as", folder / "new") == 2
    error = capsys.readouterr().err.strip()
    assert contents(folder) == before and "Traceback" not in error and len(error.splitlines()) == 1
    return error


def test_what_is_missing_left_over_or_of_another_shape_is_named_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, path = CASES["ncsnv2"], tmp_path / "a.pt"
    renamed = {name.replace("normalizer.alpha", "normaliser.alpha"): value for name, value in one.raw.items()}
    assert "without 'normalizer.alpha', which its architecture has (nearest: 'normaliser.alpha')" in refused(
        capsys, tmp_path, saved(path, renamed)
    )
    more = one.raw | {"refine1.crp.convs.2.weight": torch.zeros(8, 8, 3, 3)}
    assert "with 'refine1.crp.convs.2.weight', which its architecture does not have" in refused(
        capsys, tmp_path, saved(path, more)
    )
    other = one.raw | {"refine4.crp.convs.0.weight": torch.zeros(5, 4, 3, 3)}
    assert "of shape (5, 4, 3, 3) in" in refused(capsys, tmp_path, saved(path, other))
    half = {name if "res1" in name else f"module.{name}": value for name, value in one.raw.items()}
    assert "got weights" in refused(capsys, tmp_path, saved(path, half))  # not all of them have the prefix


def test_files_that_carry_code_or_another_model_are_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return print, ("run",)

    for name in ("network-snapshot.pkl", "a.pt"):
        (tmp_path / name).write_bytes(pickle.dumps({"ema": Code()}))
        sentence = refused(capsys, tmp_path, tmp_path / name)
        assert "code" in sentence and "state_dict()" in sentence and capsys.readouterr().out == ""
    assert "unknown layout" in refused(capsys, tmp_path, saved(tmp_path / "b.pt", {"conv.weight": torch.zeros(2)}))
    assert "expected tensors by name" in refused(capsys, tmp_path, saved(tmp_path / "c.pt", {"step": 3}))
    broken = {name: value for name, value in CASES["vp"].raw.items() if not name.startswith("all_modules.0.")}
    assert "got" in refused(capsys, tmp_path, saved(tmp_path / "d.pt", broken))


def test_settings_that_cannot_be_are_refused_and_one_that_must_be_said_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ambiguous = saved(tmp_path / "a.pt", CASES["indexed"].content())
    assert "published for VE and for VP, expected one of ve, vp, sub-vp: set sde=" in refused(capsys, tmp_path, ambiguous)
    assert "unknown sde 'subvp': did you mean 'sub-vp'" in refused(capsys, tmp_path, ambiguous, "--set", "sde=subvp")
    for setting, said in (
        ("sigma_min=-1", "a number above 0"),
        ("size=7.5", "a whole number"),
        ("average=perhaps", "true or false"),
    ):
        assert said in refused(capsys, tmp_path, ambiguous, "--set", "sde=ve", "--set", setting)
    assert "sigma_min < sigma_max" in refused(capsys, tmp_path, ambiguous, "--set", "sde=ve", "--set", "sigma_min=60")
    assert "did you mean 'beta_max'" in refused(capsys, tmp_path, ambiguous, "--set", "betamax=3")
