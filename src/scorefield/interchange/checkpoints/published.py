"""Published weights of NCSN, NCSNv2, score_sde and smalldiffusion, recognised by the names and shapes of their tensors.

    layout            y, the network's output            noise label              the noise in the published unit
    NCSN (2019)       score                              index of a level        L levels, geometric (1 to .01)
    NCSNv2 (2020)     sigma·score (divided by it later)  nothing                 the buffer `sigmas`
    NCSN++ (VE)       sigma·score (likewise)             ln(sigma), or an index  the buffer `sigmas`
    DDPM++, DDPM      noise                              999·t, or a step        VP or sub-VP, beta from .1 to 20
    smalldiffusion    noise                              ln(sigma)               VE, by the settings (layers, U-Net)

NCSN, NCSNv2 and NCSN++ for VE take images in [0, 1] and map them to [-1, 1] first; here they are in [-1, 1], so that lengths,
and sigma with them, are twice the published ones, and a score is half.

A checkpoint of score_sde holds the moving average of its weights as a list without names: of the trained parameters in the
order of the model, which leaves out the buffer `sigmas` and the Fourier frequencies, a parameter that is not trained. NCSNv2's
average has names. Where there is an average, it is what is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError
from torch import Tensor, nn

from scorefield.data import Normaliser
from scorefield.errors import ScorefieldError, unknown
from scorefield.interchange.foreign import PICKLED, SAFETENSORS, Checkpoint, Foreign, class_names, read_tensors, without_prefix
from scorefield.nets.base import NetworkConfig
from scorefield.nets.published.ncsn import STAGES, NCSNConfig
from scorefield.nets.published.score_sde import ScoreSDEConfig
from scorefield.nets.published.smalldiffusion import SmallDiffusionConfig
from scorefield.nets.published.smalldiffusion_unet import SmallDiffusionUNetConfig
from scorefield.prediction import NoisePrediction, Parametrisation, ScaledScore, Score
from scorefield.process import VE, VP, DDPMChain, LinearVE, Process, SubVP
from scorefield.registry import register

UNIT = 2.0  # what [0, 1] is long in model space
CHAIN = 1000  # steps of a chain
ATTENDED = 16  # the size at which published U-Nets attend
SDES = ("ve", "vp", "sub-vp")


@dataclass(frozen=True)
class _Read:
    """A layout's part of a `Foreign`."""

    found: str
    network: NetworkConfig
    parametrisation: Parametrisation
    process: Process
    shape: tuple[int, ...]
    notes: tuple[str, ...]
    classes: tuple[str, ...] = ()


@register("checkpoint", "published")
class Published(Checkpoint):
    """Weights of NCSN, NCSNv2, score_sde (VE, VP, sub-VP) or smalldiffusion in one file."""

    description: ClassVar[str] = "a file of published weights (NCSN, NCSNv2, score_sde, smalldiffusion)"
    settings: ClassVar[Mapping[str, str]] = {
        "size": "side of the images",
        "sde": "ve, vp or sub-vp, of score_sde",
        "continuous": "whether score_sde was trained at any time, true, or the 1,000 steps of a chain",
        "sigma_min": "least noise, in the published unit",
        "sigma_max": "largest noise, in the published unit",
        "beta_min": "of vp and sub-vp",
        "beta_max": "of vp and sub-vp",
        "scaled": "whether smalldiffusion's network divides x by sqrt(1 + sigma²)",
        "classes": "names of the classes, in order, of smalldiffusion's U-Net",
        "average": "whether the moving average of the weights is read, where there is one",
    }

    def claims(self, source: Path) -> bool:
        return source.is_file() and source.suffix in (*SAFETENSORS, *PICKLED)

    def read(self, source: Path, settings: Mapping[str, Any]) -> Foreign:
        weights, average = _parts(read_tensors(source), source)
        given = _Settings(settings)
        reader = _layout_of(weights, source)
        try:
            one = reader(weights, given)
        except (LookupError, ZeroDivisionError, ValidationError, RuntimeError) as error:
            raise ScorefieldError(
                f"got {source}, whose tensors have names of a published layout but are not those of a whole model "
                f"({str(error).splitlines()[0]}), expected all of them: download it again"
            ) from None
        network = one.network.build(one.shape, len(one.classes))
        kept = {name: value for name, value in weights.items() if name != "sigmas"}
        notes = one.notes
        if average is not None and given.truth("average", True):
            kept |= _named(average, kept, network, source)
            notes += ("the moving average of the weights is taken",)
        foreign = Foreign(
            source=str(source),
            found=one.found,
            network=one.network,
            weights=kept,
            parametrisation=one.parametrisation,
            process=one.process,
            shape=one.shape,
            classes=one.classes,
            unconditional=bool(one.classes),
            notes=notes,
        )
        if len(one.shape) > 1:
            return foreign
        return replace(foreign, kind="vector", normaliser=Normaliser((0.0,), (1.0,)), data_std=1.0)


class _Settings:
    """What was said of a model, by name."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given

    def number(self, name: str, otherwise: float) -> float:
        """Return a number; raises `ScorefieldError` for one that is not positive and finite."""
        try:
            value = float(self.given.get(name, otherwise))
        except (TypeError, ValueError):
            value = math.nan
        if not 0 < value < math.inf:
            raise ScorefieldError(f"got {name}={self.given[name]}, expected a number above 0: correct it")
        return value

    def truth(self, name: str, otherwise: bool) -> bool:
        value = str(self.given.get(name, otherwise)).lower()
        if value not in ("true", "false"):
            raise ScorefieldError(f"got {name}={self.given[name]}, expected true or false: correct it")
        return value == "true"

    def said(self, names: Mapping[str, float], of: str = "the paper") -> str:
        """Return which of some settings were not given, with what is taken instead, as a note; "" where all were."""
        taken = ", ".join(f"{name}={value:g}" for name, value in names.items() if name not in self.given)
        return f"the file does not say {taken}: taken from {of}" if taken else ""


# --- what a file holds ------------------------------------------------------------------------------------------------


def _tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(one, Tensor) for one in value.values())


def _parts(content: Mapping[str, Any], source: Path) -> tuple[dict[str, Tensor], Mapping[str, Tensor] | list[Tensor] | None]:
    """Return the weights of a file by name, and their moving average: by name, as a list, or None."""
    found = content if _tensors(content) else next((one for one in content.values() if _tensors(one)), None)
    for name in ("model", "state_dict", "model_state_dict"):
        found = content[name] if _tensors(content.get(name)) else found
    if found is None:
        raise ScorefieldError(
            f"got {source} with {', '.join(map(repr, list(content)[:4])) or 'nothing'}, expected tensors by name: save "
            "state_dict() of the network"
        )
    weights, ema = without_prefix(found), content.get("ema")
    if isinstance(ema, Mapping) and isinstance(ema.get("shadow_params"), list | tuple):
        return weights, list(ema["shadow_params"])
    others = [without_prefix(one) for one in content.values() if _tensors(one) and one is not found]
    return weights, next((one for one in others if set(one) <= set(weights)), None)


def _named(
    average: Mapping[str, Tensor] | list[Tensor], weights: Mapping[str, Tensor], network: nn.Module, source: Path
) -> dict[str, Tensor]:
    """Return a moving average by name: an unnamed list is of the trained parameters alone, in the order of the file."""
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    names = [name for name in weights if name in trained]
    if isinstance(average, Mapping):
        return {name: average[name] for name in names if name in average}
    shapes, wanted = [tuple(one.shape) for one in average], [tuple(weights[name].shape) for name in names]
    if shapes != wanted:
        same = min(len(shapes), len(wanted))
        first = next((i for i in range(same) if shapes[i] != wanted[i]), same)
        here = f"{names[first]!r} is of shape {wanted[first]}" if first < len(wanted) else "the trained tensors end"
        there = f"of shape {shapes[first]}" if first < len(shapes) else "missing"
        raise ScorefieldError(
            f"got a moving average of {len(shapes)} tensors without names in {source}, of which number {first + 1} is "
            f"{there} where {here}, expected one for each of the {len(wanted)} trained tensors in their order: set "
            "average=false for the weights themselves"
        )
    return dict(zip(names, average, strict=True))


# --- layouts ----------------------------------------------------------------------------------------------------------


def _layout_of(weights: Mapping[str, Tensor], source: Path) -> Any:
    """Return the reader of a layout; raises `ScorefieldError` for an unknown one."""
    if "begin_conv.weight" in weights:
        return _ncsn
    if any(name.startswith("all_modules.") for name in weights):
        return _score_sde
    if all(re.fullmatch(r"net\.\d+\.(weight|bias)", name) for name in weights):
        return _smalldiffusion
    if any(name.startswith("downs.0.blocks.") for name in weights):
        return _smalldiffusion_unet
    shown = ", ".join(map(repr, list(weights)[:3]))
    raise ScorefieldError(
        f"got weights of an unknown layout in {source} ({shown}, ...), expected those of NCSN or NCSNv2 "
        "('begin_conv.weight', ...), score_sde ('all_modules.0...', ...) or smalldiffusion ('net.0.weight' or "
        "'downs.0.blocks.0...', ...): wrap the network in Python by Field.of_denoiser, of_noise, of_score or of_velocity"
    )


def _ncsn(weights: Mapping[str, Tensor], given: _Settings) -> _Read:
    names = max(
        (names for names in STAGES.values() if all(f"res{n}.1.conv1.weight" in weights for n in names)), key=len, default=()
    )
    widths = tuple(weights[f"res{name}.1.conv1.weight"].shape[0] for name in names or STAGES[4])
    table = weights.get("normalizer.embed.weight")
    levels = None if table is None else table.shape[0]
    channels = weights["begin_conv.weight"].shape[1]
    network = NCSNConfig(
        widths=widths,
        halvings=sum(f"res{name}.0.conv2.conv.weight" in weights for name in names),
        levels=levels,
        bias="res1.0.conv1.bias" in weights,
        pooling="max" if levels is None else "average",
        unit=1.0 if levels is None else UNIT,
    )
    side = 28 if channels == 1 else {4: 32, 5: 128, 6: 256}[len(widths)]
    size, notes = _size(side, given)
    process, more = _ve(weights, given, 0.01, 1.0 if levels else 50.0)
    meaning = ScaledScore(noise_label="none") if levels is None else Score(noise_label=levels)
    found = "NCSNv2" if levels is None else f"NCSN of {levels} levels"
    return _Read(found, network, meaning, process, (channels, size, size), (*notes, *more))


def _size(side: int, given: _Settings) -> tuple[int, tuple[str, ...]]:
    """Return the side of the images, and what is to be said of it."""
    size = given.number("size", side)
    if size != int(size):
        raise ScorefieldError(f"got size={size:g}, expected a whole number: correct it")
    note = f"weights do not say the size of their images: {side} x {side} pixels are taken, --set size=... changes it"
    return int(size), () if "size" in given.given else (note,)


def _ve(weights: Mapping[str, Tensor], given: _Settings, low: float, high: float) -> tuple[VE, tuple[str, ...]]:
    """Return the process of levels in the published unit, those of the file where it has them, and what is to be said."""
    if "sigmas" in weights:
        sigmas = weights["sigmas"].double()
        low, high = (float(f"{end:.6g}") for end in (sigmas.min(), sigmas.max()))  # as they were before float32
        notes = [""]
    else:
        notes = [given.said({"sigma_min": low, "sigma_max": high})]
    low, high = given.number("sigma_min", low), given.number("sigma_max", high)
    if not low < high:
        raise ScorefieldError(f"got sigma from {low:g} to {high:g}, expected sigma_min < sigma_max: set both")
    notes.append(
        f"its images in [0, 1] are in [-1, 1] here, so that its noise of {low:g} to {high:g} is {UNIT * low:g} to "
        f"{UNIT * high:g}"
    )
    return VE(UNIT * low, UNIT * high), tuple(note for note in notes if note)


# --- score_sde --------------------------------------------------------------------------------------------------------


def _groups(weights: Mapping[str, Tensor]) -> list[dict[str, tuple[int, ...]]]:
    """Return the shapes of each numbered module, by name within it, in their order."""
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, value in weights.items():
        if match := re.fullmatch(r"all_modules\.(\d+)\.(.+)", name):
            found.setdefault(int(match[1]), {})[match[2]] = tuple(value.shape)
    return [found[i] for i in sorted(found)]


def _changes(module: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a module halves or doubles the size: a block that has a convolution beside it without need, or DDPM's."""
    if "Conv_1.weight" in module:
        return "Conv_2.weight" in module and module["Conv_0.weight"][0] == module["Conv_0.weight"][1]
    return "Conv_0.weight" in module and module["Conv_0.weight"][2] == 3


def _architecture(weights: Mapping[str, Tensor]) -> tuple[ScoreSDEConfig, int]:
    """Return the settings of a U-Net by the shapes of its modules, and the channels of its images."""
    modules = _groups(weights)
    fourier = set(modules[0]) == {"W"}
    linear, _, first, *rest = modules[1:] if fourier else modules
    features, image = linear["weight"][0] // 4, first["weight"][1]
    blocks = [module for module in rest if "Conv_1.weight" in module and not _changes(module)]
    levels = sum(map(_changes, rest)) // 2 + 1
    per_level = (len(blocks) - 2 - levels) // (2 * levels)  # n down and n + 1 up in each, and 2 in the middle
    widths, attention, level, counted = [], [], 0, 0
    for module in rest:
        if _changes(module):
            level, counted = level + 1, 0
        elif "Conv_1.weight" in module:
            if level == levels - 1 and counted == per_level:
                break  # the middle
            counted += 1
            if counted == 1:
                widths.append(module["Conv_0.weight"][0])
        elif "NIN_3.W" in module and level not in attention:
            attention.append(level)
    attended = sum("NIN_3.W" in module for module in rest) - 1 - per_level * len(attention)  # on the way up
    combined = any(set(module) == {"Conv_0.weight", "Conv_0.bias"} and module["Conv_0.weight"][2] == 1 for module in rest)
    residual = any("Conv2d_0.weight" in module for module in rest)
    outputs = sum(set(module) == {"weight", "bias"} and len(module["weight"]) == 4 for module in rest)
    ddpm = any("NIN_0.W" in module and "Conv_1.weight" in module for module in rest)
    config = ScoreSDEConfig(
        channels=tuple(widths),
        blocks=per_level,
        attention=tuple(attention),
        attention_up="each" if attended > len(attention) else "once",
        features=features,
        embedding="fourier" if fourier else "positional",
        resampling="ddpm" if ddpm else "biggan",
        fir=residual or combined,
        rescale=not ddpm,
        image_in="residual" if residual else "skip" if combined else "none",
        image_out="skip" if outputs > 1 else "none",
    )
    return config, image


def _score_sde(weights: Mapping[str, Tensor], given: _Settings) -> _Read:
    config, image = _architecture(weights)
    plus = config.image_in != "none"
    name = "NCSN++" if plus else "DDPM" if config.resampling == "ddpm" else "DDPM++"
    side = ATTENDED * 2 ** config.attention[0] if config.attention else 32
    size, notes = _size(side, given)
    sde = str(given.given.get("sde", "ve" if config.embedding == "fourier" else "" if plus else "vp"))
    if sde not in SDES:
        if sde:
            raise unknown("sde", sde, SDES)
        raise ScorefieldError(
            f"got weights of NCSN++ with positional labels, which are published for VE and for VP, expected one of "
            f"{', '.join(SDES)}: set sde=ve or sde=vp"
        )
    if "sde" not in given.given:
        notes += (f"weights do not say how their data were noised: {sde} is taken, --set sde=... changes it",)
    network: dict[str, Any] = dict(vars(config))
    network = {key: value for key, value in network.items() if not key.startswith("_")}
    meaning: Parametrisation
    process: Process
    if sde == "ve":
        process, more = _ve(weights, given, 0.01, 50.0)
        fourier = config.embedding == "fourier"
        network["unit"] = UNIT if fourier else 1.0  # an index has no unit
        meaning = ScaledScore(noise_label="log-sigma" if fourier else len(weights["sigmas"]) if "sigmas" in weights else CHAIN)
    else:
        betas = {"beta_min": 0.1, "beta_max": 20.0}
        low, high = (given.number(key, value) for key, value in betas.items())
        more = (given.said(betas),)
        if sde == "vp" and not given.truth("continuous", True):
            process, meaning = DDPMChain(CHAIN, low / CHAIN, high / CHAIN), NoisePrediction(noise_label="step")
        else:
            process = VP(low, high) if sde == "vp" else SubVP(low, high)
            meaning, network["label_scale"] = NoisePrediction(noise_label="t"), CHAIN - 1.0
    notes += tuple(note for note in more if note)
    return _Read(f"{name} of score_sde ({sde})", ScoreSDEConfig(**network), meaning, process, (image, size, size), notes)


# --- smalldiffusion ---------------------------------------------------------------------------------------------------


def _smalldiffusion(weights: Mapping[str, Tensor], given: _Settings) -> _Read:
    layers = [
        weights[name] for name in sorted((n for n in weights if n.endswith("weight")), key=lambda n: int(n.split(".")[1]))
    ]
    size = layers[-1].shape[0]
    if layers[0].shape[1] != size + 2:
        raise ScorefieldError(
            f"got linear layers from {layers[0].shape[1]} to {size} numbers, expected two more in than out, as "
            "smalldiffusion's: wrap the network in Python by Field.of_noise"
        )
    network = SmallDiffusionConfig(hidden=tuple(layer.shape[0] for layer in layers[:-1]), scaled=given.truth("scaled", False))
    sigmas = {"sigma_min": 0.005, "sigma_max": 10.0}
    low, high = (given.number(key, value) for key, value in sigmas.items())
    notes = tuple(note for note in (given.said(sigmas),) if note)
    meaning = NoisePrediction(noise_label="log-sigma")
    return _Read("smalldiffusion's linear layers", network, meaning, LinearVE(low, high), (size,), notes)


def _smalldiffusion_unet(weights: Mapping[str, Tensor], given: _Settings) -> _Read:
    network = SmallDiffusionUNetConfig.of(weights, scaled=given.truth("scaled", True))
    channels, rows = weights["conv_in.weight"].shape[1], weights.get("cond_embed.embeddings.weight")
    gray = channels == 1  # Fashion-MNIST; else CIFAR-10
    size, notes = _size(28 if gray else ATTENDED * 2 ** network.attention[0] if network.attention else 32, given)
    sigmas = {"sigma_min": 0.01, "sigma_max": 20.0 if gray else 35.0}
    low, high = (given.number(key, value) for key, value in sigmas.items())
    scaled = "weights do not say whether x is divided by sqrt(1 + sigma²): true is taken, --set scaled=false changes it"
    notes += () if "scaled" in given.given else (scaled,)
    notes += tuple(note for note in (given.said(sigmas, "its examples"),) if note)
    classes = class_names(0 if rows is None else len(rows) - 1, given.given.get("classes"))  # the last row is of no class
    meaning, process = NoisePrediction(noise_label="log-sigma"), LinearVE(low, high)
    return _Read("smalldiffusion's U-Net", network, meaning, process, (channels, size, size), notes, classes)


__all__ = ["Published"]
