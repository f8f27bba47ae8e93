"""Diffusers: a pipeline's folder, or that of a plain UNet2DModel, as a foreign model. The library itself is not needed.

    model_index.json    which parts there are       unet/config.json    the architecture
    scheduler/scheduler_config.json    betas and the meaning of the output; unet/*.safetensors    weights

A scheduler is two things: how data were noised, which is what is read here, and a way to sample, which is not: every chain
with the same betas is the same process. Index n - 1 of its tables is time n of ours, and the network is given the index (the
noise label "step"). The betas are computed from the numbers of the config in float64, where the library has float32.

    epsilon    y = noise           v_prediction    y = alpha·noise - sigma·x0            sample    y = x0

A `ScoreSdeVeScheduler` is the process VE, whose network is given sigma and returns the score. The pipeline of a run that was
exported from here says all of this itself (`interchange/returned.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from scorefield import files
from scorefield.config import component
from scorefield.data import Normaliser
from scorefield.errors import ScorefieldError, unknown
from scorefield.interchange.foreign import Checkpoint, Foreign, class_names, read_tensors, without_prefix
from scorefield.interchange.returned import returned
from scorefield.interchange.to_diffusers import MODEL as OWN
from scorefield.nets.published.unet2d import UNet2DConfig
from scorefield.prediction import Denoiser, NoisePrediction, Parametrisation, Score, V
from scorefield.process import VE, DDPMChain, Process, Tabulated
from scorefield.registry import register

MODEL, SCHEDULER, INDEX = "config.json", "scheduler_config.json", "model_index.json"
WEIGHTS = "diffusion_pytorch_model"
CHAINS = {
    f"{name}Scheduler"
    for name in (
        *("DDPM", "DDPMParallel", "DDIM", "DDIMParallel", "PNDM", "DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverSDE"),
        *("UniPCMultistep", "DEISMultistep", "SASolver", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete"),
        *("LMSDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete"),
    )
}
SDE = "ScoreSdeVeScheduler"
KINDS = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}
MEANINGS: dict[str, Parametrisation] = {
    "epsilon": NoisePrediction(noise_label="step"),
    "v_prediction": V(noise_label="step"),
    "sample": Denoiser(data_std=1.0, noise_label="step"),  # alpha² + sigma² = 1: the input is not scaled
}
DEFAULTS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
DEFAULTS |= {"prediction_type": "epsilon"}
LATENT, TEXT = ("vae", "vqvae", "movq"), ("text_encoder", "tokenizer", "prior")
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # attention as it was called before 0.16
GIVEN = {  # what a UNet2DModel has one value of here
    "mid_block_type": "UNetMidBlock2D",
    "downsample_type": "conv",
    "upsample_type": "conv",
    "class_embed_type": None,
}
ELSEWHERE = ("sample_size", "in_channels", "num_class_embeds", "num_train_timesteps")  # settings that are not the network's


@register("checkpoint", "diffusers")
class Diffusers(Checkpoint):
    """A diffusers pipeline of images with a UNet2DModel, or the folder of that model alone."""

    description = "the folder of a diffusers pipeline or of a UNet2DModel"
    settings: ClassVar[Mapping[str, str]] = {
        "beta_schedule": f"{', '.join(KINDS)} or sigmoid",
        "beta_start": "the first beta",
        "beta_end": "the last beta",
        "num_train_timesteps": "number of betas",
        "prediction_type": ", ".join(MEANINGS),
        "sample_size": "side of its images, or height,width",
        "classes": "names of its classes, in order",
        "range": "values of the data at -1 and 1; default 0,255",
    }

    def claims(self, source: Path) -> bool:
        if (source / INDEX).is_file():
            return True
        config = files.read_json(source / MODEL) if (source / MODEL).is_file() else None
        return isinstance(config, Mapping) and "_diffusers_version" in config

    def read(self, source: Path, settings: Mapping[str, Any]) -> Foreign:
        index = _json(source / INDEX) if (source / INDEX).is_file() else {}
        _refuse_other_parts(index, source)
        model = source / "unet" if (source / "unet").is_dir() else source
        config, scheduler, notes = _json(model / MODEL), _scheduler(source), list[str]()
        kind = config.get("_class_name", "UNet2DModel")
        if kind == OWN:
            return returned(model, config, without_prefix(_tensors(model)), settings)
        if kind != "UNet2DModel":
            raise ScorefieldError(
                f"got a {kind} in {model}, expected a UNet2DModel, the network of images: choose another model"
            )
        process, parametrisation = _process(scheduler, settings, notes)
        network = _network(config)
        if (network.time_embedding_type == "fourier") != isinstance(parametrisation, Score):
            raise ScorefieldError(
                f"got time_embedding_type={network.time_embedding_type} with {scheduler.get('_class_name', 'a chain')}, "
                f"expected positional with a chain and fourier with {SDE}: correct the configs"
            )
        found = f"a diffusers pipeline ({index['_class_name']})" if "_class_name" in index else "a UNet2DModel of diffusers"
        return Foreign(
            source=str(source),
            found=found,
            network=network,
            weights=_weights(model),
            parametrisation=parametrisation,
            process=process,
            shape=_shape(config, settings, model),
            classes=class_names(config.get("num_class_embeds") or 0, settings.get("classes")),
            normaliser=_normaliser(settings, isinstance(parametrisation, Score)),
            clipped=_clips(scheduler),
            notes=tuple(notes),
        )


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a file of JSON."""
    if not path.is_file():
        raise ScorefieldError(f"got no {path}, expected the settings of a part of the pipeline: restore it")
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise ScorefieldError(f"got a damaged {path}, expected settings by name: restore it")
    return values


def _refuse_other_parts(index: Mapping[str, Any], source: Path) -> None:
    """Refuse a pipeline with more parts than a network of images and a scheduler."""
    parts = [name for name, value in index.items() if not name.startswith("_") and isinstance(value, list) and value[0]]
    for names, what in ((LATENT, "whose network works on latents"), (TEXT, "which is conditioned on a text")):
        if found := [part for part in parts if part.startswith(names)]:
            raise ScorefieldError(
                f"got {source}, a pipeline with {found[0]!r}, {what}, expected one of pixels without: choose one with a "
                "UNet2DModel and a scheduler alone"
            )
    if other := [part for part in parts if part not in ("unet", "scheduler")]:
        raise ScorefieldError(
            f"got {source}, a pipeline with {other[0]!r}, expected a unet and a scheduler alone: choose another pipeline"
        )


def _scheduler(source: Path) -> dict[str, Any]:
    """Return the scheduler's settings; none of a model without one."""
    places = (source / "scheduler" / SCHEDULER, source / SCHEDULER)
    return next((_json(path) for path in places if path.is_file()), {})


# --- the noise --------------------------------------------------------------------------------------------------------


def _process(scheduler: dict[str, Any], settings: Mapping[str, Any], notes: list[str]) -> tuple[Process, Parametrisation]:
    """Return how data were noised, and what the output means; what had to be assumed goes to the notes."""
    kind = scheduler.get("_class_name")
    if kind == SDE:
        low, high = (scheduler.get(name, value) for name, value in (("sigma_min", 0.01), ("sigma_max", 1348.0)))
        return VE(low, high), Score(noise_label="sigma")
    if kind is not None and kind not in CHAINS:
        raise unknown("scheduler", str(kind), [*CHAINS, SDE])
    if scheduler.get("rescale_betas_zero_snr"):
        raise ScorefieldError(
            "got rescale_betas_zero_snr, a chain whose last step keeps nothing of the data, so that sigma/alpha is infinite "
            "there, expected one that keeps a little: sample such a model with the library that trained it"
        )
    values = {**DEFAULTS, **{key: value for key, value in scheduler.items() if value is not None}, **settings}
    if assumed := [f"{key}={values[key]}" for key in DEFAULTS if scheduler.get(key) is None and key not in settings]:
        notes.append(f"assumed, as DDPM has it: {', '.join(assumed)}; --set says otherwise")
    if _clips(scheduler):
        notes.append("its scheduler clips the denoised image at every step, as samples here do; --clip-denoised no does not")
    elif scheduler.get("clip_sample"):
        notes.append("its scheduler clips the denoised image, not at [-1, 1]; here samples are clipped once, at the end")
    if scheduler.get("thresholding"):
        notes.append("its scheduler clips at quantiles of each image (thresholding); here samples are clipped once, at the end")
    if values["prediction_type"] not in MEANINGS:
        raise unknown("prediction_type", str(values["prediction_type"]), MEANINGS)
    return _chain(values), MEANINGS[values["prediction_type"]]


def _clips(scheduler: Mapping[str, Any]) -> bool:
    """Return whether a scheduler keeps the denoised image in [-1, 1]."""
    return bool(scheduler.get("clip_sample")) and scheduler.get("clip_sample_range", 1.0) == 1


def _chain(values: Mapping[str, Any]) -> Process:
    """Return the chain of a scheduler's betas."""
    kind, steps = values["beta_schedule"], values["num_train_timesteps"]
    first, last = values["beta_start"], values["beta_end"]
    chain: Process
    if values.get("trained_betas") is not None:
        chain = component(Tabulated, {"betas": tuple(values["trained_betas"])}, "trained_betas")
    elif kind == "sigmoid":
        rise = torch.sigmoid(torch.linspace(-6, 6, int(steps), dtype=torch.float64))
        chain = component(Tabulated, {"betas": tuple((first + (last - first) * rise).tolist())}, "scheduler")
    elif kind in KINDS:
        ends = {} if kind == "squaredcos_cap_v2" else {"beta_first": first, "beta_last": last}
        chain = component(DDPMChain, {"steps": steps, "kind": KINDS[kind], **ends}, "scheduler")
    else:
        raise unknown("beta_schedule", str(kind), [*KINDS, "sigmoid"])
    return chain


# --- the network ------------------------------------------------------------------------------------------------------


def _network(config: Mapping[str, Any]) -> UNet2DConfig:
    """Return the architecture of a config.json."""
    for name, value in GIVEN.items():
        if config.get(name, value) != value:
            raise ScorefieldError(f"got {name}={config[name]!r} in {MODEL}, expected {value!r}: choose a model that has that")
    known = {field.name for field in fields(UNet2DConfig)}
    needed = [name for name in ("down_block_types", "up_block_types", "block_out_channels") if name not in config]
    if needed:
        raise ScorefieldError(f"got a {MODEL} without {needed[0]!r}, expected the settings of a UNet2DModel: restore it")
    own = {key: value for key, value in config.items() if not key.startswith("_") and key not in (*GIVEN, *ELSEWHERE)}
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
    values = {key: value for key, value in own.items() if value is not None or key not in known or key == "attention_head_dim"}
    network: UNet2DConfig = component(UNet2DConfig, values, MODEL)
    return network


def _shape(config: Mapping[str, Any], settings: Mapping[str, Any], model: Path) -> tuple[int, int, int]:
    """Return the shape of one sample."""
    size = settings.get("sample_size", config.get("sample_size"))
    sides = (size, size) if isinstance(size, int) else size
    channels = config.get("in_channels", 3)
    good = isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(n, int) and n > 0 for n in sides)
    if not good or not isinstance(channels, int):
        raise ScorefieldError(
            f"got sample_size={size!r} in {model / MODEL}, expected the sides of an image in pixels: say --set sample_size=32"
        )
    return (channels, sides[0], sides[1])


def _normaliser(settings: Mapping[str, Any], from_zero: bool) -> Normaliser:
    """Return the map of pixels, or of the range that was given, to [-1, 1], or to [0, 1] as the pipelines of VE have it."""
    ends = settings.get("range", [0, 255])
    good = isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
    if not good or not ends[0] < ends[1]:
        raise ScorefieldError(f"got range={ends!r}, expected the smallest and the largest value of the data: say range=0,255")
    low, high = map(float, ends)
    return Normaliser(shift=(low,), scale=(high - low,), low=low, high=high) if from_zero else Normaliser.between(low, high)


def _weights(model: Path) -> dict[str, Tensor]:
    """Return the tensors of a model's folder, whose attention may have its old names."""
    return {_renamed(name): tensor for name, tensor in without_prefix(_tensors(model)).items()}


def _tensors(model: Path) -> dict[str, Tensor]:
    """Return the tensors of a model's folder."""
    index = model / f"{WEIGHTS}.safetensors.index.json"
    if index.is_file():
        names = sorted({str(name) for name in _json(index).get("weight_map", {}).values()})
        if outside := [name for name in names if Path(name).name != name]:
            raise ScorefieldError(f"got {outside[0]!r} in {index}, expected names of files beside it: restore it")
        parts = [model / name for name in names]
    else:
        parts = [path for path in (model / f"{WEIGHTS}.safetensors", model / f"{WEIGHTS}.bin") if path.is_file()][:1]
        variants = sorted(model.glob(f"{WEIGHTS}.*.safetensors"))
        parts = parts or (variants if len(variants) == 1 else [])
    if not parts:
        raise ScorefieldError(
            f"got no {WEIGHTS}.safetensors in {model}, nor one ending in .bin, expected weights: restore them"
        )
    return {name: tensor for path in parts for name, tensor in read_tensors(path).items()}


def _renamed(name: str) -> str:
    parts = name.split(".")
    return ".".join(OLD.get(part, part) for part in parts) if "attentions" in parts else name
