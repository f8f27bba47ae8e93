"""A run as a diffusers pipeline: weights, the network's source in one file, a scheduler that has the run's levels.

A run whose network is a UNet2DModel, as that of an imported pipeline, becomes a DDPMPipeline of diffusers' own parts. Others:

    unet/        config.json, weights, model.py: the network and what its output means (`diffusers_code.py`)
    scheduler/   EulerDiscreteScheduler; others are made of its config: DDIM, Heun, DPM-Solver++, UniPC, ...
    pipeline.py  draws samples in the data's own units

The scheduler's table has T levels of lambda = sigma/alpha, as alpha_bar = 1/(1 + lambda²), which any process has in
z = x_t/alpha: the run's own ladder with T levels, or the chain's own steps. A ladder is a quantile function of equally spaced
numbers, so that N steps at "linspace" are the same ladder with N levels. Nothing is clipped: `clip_sample` is false.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from scorefield import files
from scorefield.config import RunConfig
from scorefield.data.extras import require
from scorefield.errors import ScorefieldError
from scorefield.field import EnergyField, ScoreModel
from scorefield.interchange.denoiser import Denoiser, difference, exportable, facts, probes
from scorefield.interchange.portable import described
from scorefield.interchange.self_contained import source_of
from scorefield.levels import chain_times, ladder_of
from scorefield.noise_label import nearest_level, noise_label_of
from scorefield.registry import name_of
from scorefield.runs import Run
from scorefield.shapes import over

TIMES = 1000  # of the scheduler's table
BETWEEN = 8  # rows of the model's table for each of these
TOLERANCE = 1e-5  # between the exported model and the run's, in float32
PROBES = 7  # levels at which they are compared
UNET, MODEL, PIPELINE = "unet", "ScorefieldModel", "ScorefieldPipeline"
PREDICTIONS = {"noise": "epsilon", "v": "v_prediction", "denoised": "sample"}  # of chains, where alpha² + sigma² = 1
CODE = "scorefield.interchange.diffusers_code"
GIVEN = ("mean", "sigmas", "sampler", "sigma", "shape")  # facts that are in the weights, or that the scheduler has


def to_diffusers(run: Run, folder: Path) -> float:
    """Write a run's pipeline folder, and return the largest difference between its model and the run's.

    Args:
        run: an opened run.
        folder: an empty folder.

    Raises:
        ScorefieldError: a run that cannot be exported, an energy, a generator, no diffusers, a network that cannot be built
            from its settings, or outputs that differ by more than `TOLERANCE`.
    """
    model = exportable(run, "diffusers")
    other = None
    if isinstance(model, EnergyField):
        other = "an energy, whose score is a gradient, expected a network that gives the score itself: choose --to onnx"
    elif run.evaluations is not None:
        other = "a generator, which no scheduler of diffusers draws with, expected a score: export the run it was made of"
    if other is not None:
        raise ScorefieldError(f"got --to diffusers for {run.path}, {other}")
    version = require("diffusers", "interchange", str(run.path)).__version__
    for place in (folder / UNET, folder / "scheduler"):
        place.mkdir()
    levels = levels_of(run.config, model)
    worst = (_as_unet2d if _is_unet2d(run) else _as_own_code)(run, model, folder, levels, version)
    if not worst <= TOLERANCE:
        raise ScorefieldError(
            f"got outputs of the exported model that differ by {worst:.2g} from those of {run.path}, expected at most "
            f"{TOLERANCE:g}: report it with the run's config.json; nothing was written"
        )
    return worst


def _as_own_code(run: Run, model: ScoreModel, folder: Path, levels: Tensor, version: str) -> float:
    """Write a pipeline with the network's own source, and return how far its model is from the run's."""
    table, about = table_of(model, levels), facts(run, model)
    for path, name in ((folder / UNET / "model.py", MODEL), (folder / "pipeline.py", PIPELINE)):
        files.write(path, source_of(CODE, name, {"Network": type(model.network)}).encode())
    config = {"shape": about["shape"], "settings": _settings(run, model), "rows": len(table), "rows_per_time": BETWEEN}
    config["about"] = {name: value for name, value in about.items() if name not in GIVEN} | {"run": described(run)}
    weights = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(("network.", "data_mean"))}
    parts = Parts(PIPELINE, MODEL, "EulerDiscreteScheduler", own=True)
    _write(folder, parts, config, {**weights, "table": table}, _scheduler(levels, "v_prediction", "linspace"), version)
    exported, denoiser = loaded(folder), Denoiser(model, len(run.classes))
    place, worst = torch.linspace(0, len(levels) - 1, PROBES).round(), 0.0
    with torch.no_grad():
        for n in (place, (place + 0.4).clamp(max=len(levels) - 1)):
            z, lam, *labels = probes(run, model, exported.at(n, PROBES)[0])
            alpha, sigma = (over(part, z) for part in (1 / (1 + lam**2).sqrt(), lam / (1 + lam**2).sqrt()))
            got = alpha**2 * z - sigma * exported(alpha * z, n, *labels).sample
            worst = max(worst, difference(got, denoiser(z, lam, *labels)))
    return worst


def _is_unet2d(run: Run) -> bool:
    """Whether a run's network is a UNet2DModel conditioned on the index of a chain's step, as an imported pipeline's is."""
    config, meaning = run.config, run.config.parametrisation
    known = name_of("network", config.network) == "unet2d" and name_of("parametrisation", meaning) in PREDICTIONS
    return known and config.process.discrete and str(meaning.noise_label) == "step"


def _as_unet2d(run: Run, model: ScoreModel, folder: Path, levels: Tensor, version: str) -> float:
    """Write a pipeline of diffusers' own parts, and return how far its network is from the run's."""
    import diffusers

    network: Any = run.config.network
    config = {**dataclasses.asdict(network), "sample_size": list(run.shape[1:]), "in_channels": run.shape[0]}
    config |= {"out_channels": config["out_channels"] or run.shape[0], "num_class_embeds": len(run.classes) or None}
    weights = {name.removeprefix("network."): one for name, one in model.state_dict().items() if name.startswith("network.")}
    prediction = PREDICTIONS[name_of("parametrisation", run.config.parametrisation)]
    parts = Parts("DDPMPipeline", "UNet2DModel", "DDPMScheduler", own=False)
    _write(folder, parts, config, weights, _scheduler(levels, prediction, "trailing"), version)
    exported = diffusers.UNet2DModel.from_pretrained(folder / UNET).eval()
    n = torch.linspace(0, len(levels) - 1, PROBES).round()
    z, lam, *labels = probes(run, model, levels[n.long()].float())
    x = z / over((1 + lam**2).sqrt(), z)
    with torch.no_grad():  # the times are tensors: a number would be cut
        got, wanted = exported(x, n, *labels).sample, model.network(x, n, *labels)
    return difference(got[:, : wanted.shape[1]], wanted)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The classes of a pipeline, and whether the first two are its own, in files beside their settings."""

    pipeline: str
    model: str
    scheduler: str
    own: bool


def _write(
    folder: Path, parts: Parts, config: dict[str, Any], weights: dict[str, Tensor], scheduler: dict[str, Any], version: str
) -> None:
    """Write the parts of a pipeline, its source aside."""
    made = {"_diffusers_version": version}
    index = {UNET: ["model" if parts.own else "diffusers", parts.model], "scheduler": ["diffusers", parts.scheduler]}
    kind = ["pipeline", parts.pipeline] if parts.own else parts.pipeline
    content = save_tensors({name: one.contiguous().clone() for name, one in weights.items()}, metadata={"format": "pt"})
    files.write_json(folder / "model_index.json", {"_class_name": kind, **made, **index})
    files.write_json(folder / UNET / "config.json", {"_class_name": parts.model, **made, **config})
    files.write(folder / UNET / "diffusion_pytorch_model.safetensors", content)
    files.write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": parts.scheduler, **made, **scheduler})


def levels_of(config: RunConfig, model: ScoreModel) -> Tensor:
    """Return lambda = sigma/alpha of the scheduler's times, ascending, float64."""
    process = config.process
    if process.discrete:
        times = chain_times(process)
    else:
        times = ladder_of(model, config.ladder or config.sampler.ladder, TIMES).flip(0)
        if len(times) < TIMES:  # the ladder of one level, for plain Langevin dynamics
            times = ladder_of(model, "geometric", TIMES).flip(0)
    return process.sigma(times) / process.alpha(times)


def table_of(model: ScoreModel, levels: Tensor) -> Tensor:
    """Return ln lambda, and the factors scale, label, by_x and by_y of `diffusers_code.py`, at times n/BETWEEN."""
    n = torch.arange((len(levels) - 1) * BETWEEN + 1, dtype=torch.float64) / BETWEEN
    below = n.floor().long().clamp(max=len(levels) - 2)
    logs = levels.log()
    lam = (logs[below] + (n - below) * (logs[below + 1] - logs[below])).exp()
    process, meaning = model.process, model.parametrisation
    t = process.time_of_sigma(lam)
    if isinstance(meaning.noise_label, int):  # the network is asked at the nearest of its levels
        t = nearest_level(meaning.noise_label, process, t)[1]
    alpha, sigma = process.alpha(t), process.sigma(t)
    a, c = meaning.pair(alpha, sigma)
    det, r = alpha * c + sigma**2 * a, (1 + lam**2).sqrt()
    by_z, by_y = c * alpha / det, sigma**2 / det  # denoised = by_z·z + by_y·y
    label = noise_label_of(meaning.noise_label, process, t)
    parts = (lam.log(), meaning.input_scale(alpha, sigma) * alpha * r, label, (1 - r**2 * by_z) / lam, -r * by_y / lam)
    return torch.stack(parts, dim=1).float()


def _scheduler(levels: Tensor, prediction: str, spacing: str) -> dict[str, Any]:
    """Return settings of a scheduler whose table of lambda is `levels`: beta_n = 1 - alpha_bar_n/alpha_bar_{n-1}."""
    log_power = torch.cat([torch.zeros(1, dtype=torch.float64), -torch.log1p(levels**2)])
    return {
        "num_train_timesteps": len(levels),
        "trained_betas": (-torch.expm1(log_power.diff())).tolist(),
        "prediction_type": prediction,
        "timestep_spacing": spacing,
        "clip_sample": False,
        "thresholding": False,
        "set_alpha_to_one": True,
        "final_sigmas_type": "zero",
    }


def _settings(run: Run, model: ScoreModel) -> dict[str, Any]:
    """Return what the class of a run's network is built with, beside the shape."""
    takes = list(inspect.signature(type(model.network)).parameters)[1:]
    network: Any = run.config.network
    known = {**dataclasses.asdict(network), "classes": len(run.classes)}
    if missing := [name for name in takes if name not in known]:
        raise ScorefieldError(
            f"got --to diffusers for {run.path}, whose network {type(model.network).__name__} is built with more than its "
            f"settings ({', '.join(missing)}), expected one that is built from these: choose --to onnx"
        )
    return {name: known[name] for name in takes}


def loaded(folder: Path) -> Any:
    """Return the model of an exported pipeline, by its own source and weights."""
    spec = importlib.util.spec_from_file_location("scorefield_exported_model", folder / UNET / "model.py")
    assert spec is not None and spec.loader is not None  # a path that ends with .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        return getattr(module, MODEL).from_pretrained(folder / UNET).eval()
    finally:
        del sys.modules[spec.name]
