"""Noise removal: what a person's noisy file was, from a run: y = x0 + sigma·noise, with sigma stated or estimated.

    files       value                     the noisy numbers, in their own units, in which sigma is stated and reported
    raw         offset + unit·value       the run's units (`inputs.py`)
    model       (raw - shift)/scale       where the field is; sigma·unit/scale there

Pixels that were clipped, masked or are missing say where the noisy number lies, and `denoising/cuts.py` draws it, in several
chains. The answer then is the mean over chains, and its variance the mean of theirs plus that of their means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefield.denoising import (
    Seen,
    SigmaEstimate,
    completed,
    cuts_of,
    denoised_at,
    estimate_sigma,
    jacobian_diagonal,
    posterior_draws,
)
from scorefield.denoising.level import EXACT, LEVELS, lambda_range
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.inputs import Item, read_items
from scorefield.metrics.fidelity import psnr, ssim
from scorefield.progress import Progress, Stages, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.restoration import check_run, check_tiles, conditions, field_for, references_of
from scorefield.runs import Run
from scorefield.specs import DenoiseSpec

CHAINS = 8  # draws of the pixels that are not seen, where there are such
LEAST_WHOLE = 1.0  # sigma of whole numbers; rounding alone has 0.29


@dataclass(frozen=True, eq=False)
class Noisy:
    """One file to denoise, checked.

    Attributes:
        item: as it was read.
        seen: what it shows of the noisy numbers, in model space, `(1, *shape)`.
        sigma: of its noise, in the units of the file; None to estimate it.
        reference: what it should be, in the run's units, `shape`; None where that is not known.
        to_model: sigma in model space for one unit of the file.
    """

    item: Item
    seen: Seen
    sigma: float | None
    reference: Tensor | None
    to_model: float


@dataclass(frozen=True, eq=False)
class Denoised:
    """The answer for one file. Numbers are in the run's units, but for sigma.

    Attributes:
        task: what was asked.
        sigma: of the noise, in the units of the file; 0 of a clean one, which is returned as it is.
        estimate: how sigma was estimated, in model space; None where it was stated.
        mean: E[x0 | file], `shape`.
        std: posterior standard deviation, `shape`.
        std_error: standard error of that of a pixel, as a share of sigma, root mean square over pixels; 0 where it is exact.
        negative: pixels whose estimated variance was below 0, and was set to 0.
        samples: draws of x0 given the file, `(n, *shape)`.
        evaluations: of the field, all together.
        extent: the span of the run's range, in which PSNR counts; 255 of 8-bit images.
    """

    task: Noisy
    sigma: float
    estimate: SigmaEstimate | None
    mean: Tensor
    std: Tensor
    std_error: float
    negative: int
    samples: Tensor
    evaluations: int
    extent: float

    @property
    def name(self) -> str:
        """Of the file."""
        return self.task.item.name

    @property
    def noisy(self) -> Tensor:
        """The file, `shape`; NaN where a number is missing."""
        return self.task.item.raw

    def to_dict(self) -> dict[str, Any]:
        """Return all but the arrays, as values of JSON."""
        item, estimate, seen = self.task.item, self.estimate, self.task.seen
        error = None if estimate is None or self.sigma == 0 else float(estimate.standard_error) / self.task.to_model
        values: dict[str, Any] = {
            "name": self.name,
            "shape": list(self.mean.shape),
            "sigma": self.sigma,
            "sigma_unit": unit_of(item),
            "sigma_estimated": estimate is not None,
            "sigma_standard_error": error,
            "seen": float(seen.known.double().mean()),
            "std_mean": float((self.std / item.unit).square().mean().sqrt()),
            "std_standard_error": self.std_error * self.sigma,
            "std_negative": self.negative,
            "samples": len(self.samples),
            "evaluations": self.evaluations,
        }
        if self.task.reference is not None:
            reference = self.task.reference[None]
            for key, image in (("", self.mean), ("_noisy", self.noisy)):
                if bool(image.isfinite().all()):
                    values |= {f"psnr{key}": _finite(psnr(image[None], reference, self.extent))}
                    values |= {f"ssim{key}": _finite(ssim(image[None], reference, self.extent))}
            rounding = float(item.unit.mean()) / 2 if item.layout.type.kind in "iu" else 0.0
            within = (self.mean - reference[0]).abs() <= 1.6449 * self.std + rounding
            values |= {"within_90": float(within.double().mean())}
        return values


def _finite(number: Tensor) -> float | None:
    return float(number) if math.isfinite(float(number)) else None


def unit_of(item: Item) -> str:
    """Return in words what sigma is measured in."""
    kind, whole = item.layout.type, item.layout.type.kind in "iu"
    ends = {"uint8": "grey levels, 0 to 255", "uint16": "grey levels, 0 to 65535"}
    return ends.get(kind.name, f"the numbers of the file, {kind.name}") if whole else "the numbers of the file"


def noisy_files(run: Run, source: Any, spec: DenoiseSpec, reference: Any = None) -> list[Noisy]:
    """Return what is asked, one task a file, all of them checked before any work.

    Args:
        run: an opened run.
        source: the noisy files, as `read_items` takes them, of the run's size or larger.
        spec: how they are denoised.
        reference: clean files of the same names, or one for one; None for none.

    Raises:
        ScorefieldError: what `read_items` refuses, a run of tables or whose channels have different scales, a size that does
            not fit, a sigma that is not above 0 or above the highest level of the run, references that do not fit.
    """
    check_run(run)
    conditions(run, spec.label, 1)
    if spec.samples < 0:
        raise ScorefieldError(f"got --samples {spec.samples}, expected 0 or more: correct it")
    stated = _stated(spec.sigma)
    items = read_items(run, source)
    scales = run.normaliser.scales(run.shape)
    if float(scales.max()) > float(scales.min()) * (1 + 1e-9):
        raise ScorefieldError(
            f"got {run.path}, a run whose channels have scales of their own ({float(scales.min()):.3g} to "
            f"{float(scales.max()):.3g}), expected one for all, as noise of one sigma has: use scorefield restore"
        )
    clean = {} if reference is None else references_of(run, reference, items)
    return [_noisy(run, item, stated, clean.get(item.name), float(scales.max())) for item in items]


def _stated(sigma: str | float) -> tuple[float, bool] | None:
    """Return a stated sigma, and whether it is a share of the legal range; None for auto."""
    text = str(sigma).strip()
    if text == "auto":
        return None
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ScorefieldError(
            f"got --sigma {text}, expected auto, a number above 0 in the units of the file (of an 8-bit image 0 to 255), or a "
            "share of its legal range such as 10%: correct it"
        )
    return (value / 100, True) if text.endswith("%") else (value, False)


def _noisy(run: Run, item: Item, stated: tuple[float, bool] | None, clean: Tensor | None, scale: float) -> Noisy:
    shape, normaliser, unit = tuple(item.raw.shape), run.normaliser, float(item.unit.mean())
    check_tiles(run, shape, item.name)
    if clean is not None and tuple(clean.shape) != shape:
        raise ScorefieldError(
            f"got a reference of {tuple(clean.shape)} for {item.name!r} of {shape}, expected the same size: give another"
        )
    low, high = normaliser.low, normaliser.high
    sigma = None if stated is None else stated[0]
    if stated is not None and stated[1]:
        if low is None or high is None:
            raise ScorefieldError(
                f"got --sigma {100 * stated[0]:g}% for {run.path}, whose data have no legal range, expected a number: write it "
                "in the units of the file"
            )
        sigma = stated[0] * (high - low) / unit
    elif sigma is not None and item.layout.type.kind in "iu" and sigma < LEAST_WHOLE:
        raise ScorefieldError(
            f"got --sigma {sigma:g} for {item.name!r}, whose numbers are whole ({unit_of(item)}), expected at least "
            f"{LEAST_WHOLE:g} of them: for a share of the range write {100 * sigma:g}%"
        )
    _, highest = lambda_range(run.field)
    if sigma is not None and sigma * unit / scale > highest:
        raise ScorefieldError(
            f"got --sigma {sigma:g} for {item.name!r}, expected at most {highest * scale / unit:.4g}, the most noise that "
            f"{run.path.name} learned ({unit_of(item)}): correct it"
        )
    if not bool(item.known.any()):
        raise ScorefieldError(f"got {item.name!r} without a known number, expected some: check it")
    seen = cuts_of(item.raw[None], low, high).affine(normaliser.shifts(shape), scale)
    return Noisy(item, seen, sigma, clean, unit / scale)


def denoise_one(run: Run, task: Noisy, spec: DenoiseSpec, device: torch.device, progress: Progress = silent) -> Denoised:
    """Denoise one file.

    Args:
        run: an opened run.
        task: of `noisy_files`.
        spec: how many samples, of which class, by which seed. A file has the same answer among any others.
        device: where to compute.
        progress: called as it goes on.

    Raises:
        NotFinite: a field that gives NaN.
    """
    field = field_for(run, tuple(task.item.raw.shape), device)
    stages = Stages(
        progress, sigma=1.0 if task.sigma is None else 0.01, unseen=1.0, std=2.0, samples=1.0 if spec.samples else 0.01
    )
    seen, label = task.seen.to(device), conditions(run, spec.label, 1)
    cond = None if label is None else label.to(device)

    def rng(name: str, n: int = 1) -> SampleRng:
        return SampleRng(range(n), stream=stream_of("denoise", name, spec.seed), device=device)

    estimate = None
    if task.sigma is None:
        estimate = estimate_sigma(field, seen, rng=rng("sigma"), cond=cond, progress=stages("sigma"))
    sigma = task.sigma * task.to_model if estimate is None else float(estimate.sigma)  # type: ignore[operator]
    used = 0 if estimate is None else estimate.evaluations
    extent = 2 * float(run.normaliser.scales(run.shape).max())
    if sigma == 0 and bool(task.item.known.all()):
        raw = task.item.raw
        return Denoised(task, 0.0, estimate, raw, 0 * raw, 0.0, 0, raw.repeat(spec.samples, *(1,) * raw.ndim), used, extent)
    level = sigma or lambda_range(field)[0]  # what is missing in a clean file is filled in at the lowest level
    chains = 1 if seen.whole else CHAINS
    z = completed(field, seen, level, rng=rng("unseen"), count=chains, cond=cond, progress=stages("unseen"))
    found = _moments(field, z, level, rng("std", len(z)), cond, stages("std"))
    draws = torch.zeros(0, *z.shape[1:])
    if spec.samples:
        rows = torch.arange(spec.samples, device=z.device) % len(z)
        many = None if cond is None else cond.expand(spec.samples)
        draws = posterior_draws(field, z[rows], level, rng=rng("samples", spec.samples), cond=many, progress=stages("samples"))
    mean, std, error, negative, spent = found
    scale = extent / 2
    return Denoised(
        task=task,
        sigma=sigma / task.to_model,
        estimate=estimate,
        mean=run.decode(mean.cpu()),
        std=std.cpu() * scale,
        std_error=error,
        negative=negative,
        samples=run.decode(draws.cpu()),
        evaluations=used + spent + spec.samples * LEVELS,
        extent=extent,
    )


def _moments(
    field: Field, z: Tensor, sigma: float, rng: SampleRng, cond: Tensor | None, progress: Progress
) -> tuple[Tensor, Tensor, float, int, int]:
    """Return mean and standard deviation of x0 over chains z `(chains, *shape)`, and the latter's error.

    The error is that of a pixel as a share of sigma, root mean square. Then come the number of negative variances, and the
    evaluations. Of several chains the first, or the first two where it is estimated, have their own variance measured.
    """
    levels = torch.full((len(z),), sigma, dtype=torch.float64, device=z.device)
    many = None if cond is None else cond.expand(len(z))
    with torch.no_grad():
        means = denoised_at(field, z, levels, many)
    few = slice(0, 1 if z[0].numel() <= EXACT else 2)  # an exact diagonal is dear
    found = jacobian_diagonal(
        field, z[few], levels[few], rng=rng[few], cond=None if many is None else many[few], progress=progress
    )
    inner = (sigma**2 * found.diagonal).mean(dim=0)
    between = means.var(dim=0) if len(z) > 1 else torch.zeros_like(inner)
    variance = inner.clamp(min=0) + between
    # a small error e of J_ii moves sigma·sqrt(J_ii) by e/(2·sqrt(J_ii))·sigma; of the map's typical J
    typical = float(found.diagonal.clamp(min=0).mean().sqrt())
    error = float(found.standard_error.mean()) / (2 * max(typical, 1e-6))
    return means.mean(dim=0), variance.sqrt(), error, int((inner < 0).sum()), len(z) + found.evaluations * len(z[few])
