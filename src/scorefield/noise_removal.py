"""Noise removal: what a person's noisy file was, from a run: y = x0 + sigma·noise, with sigma stated or estimated.

    files       value                     the noisy numbers, in their own units, in which sigma is stated and reported
    raw         offset + unit·value       the run's units (`inputs.py`)
    model       (raw - shift)/scale       where the field is; sigma·unit/scale there

The mean is Tweedie's. The standard deviation and the 90 % interval of every number are those of draws of x0, started at the
noisy file: between the k-th smallest and the k-th largest of n exact draws, 2k/(n + 1) = 0.1, the truth lies in 90 % of all
cases. The Jacobian of a trained network (`jacobian_diagonal`) gives the variance of an exact field alone: where little doubt is
left, its errors have either sign, and two fifths of the pixels of a digit came out below 0.

Pixels that were clipped, masked or are missing say where the noisy number lies, and `denoising/cuts.py` draws it, in several
chains, from which the draws start in turn. The mean then is that over chains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield.denoising import (
    Seen,
    SigmaEstimate,
    completed,
    cuts_of,
    denoised_at,
    estimate_sigma,
    posterior_draws,
)
from scorefield.denoising.level import LEVELS, lambda_range
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.inputs import Item, read_items
from scorefield.measurements import extent_of
from scorefield.metrics.fidelity import psnr, ssim
from scorefield.progress import Progress, Stages, portion, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.restoration import check_run, check_tiles, conditions, field_for, references_of
from scorefield.runs import Run
from scorefield.specs import DenoiseSpec

CHAINS = 8  # draws of the pixels that are not seen, where there are such
DRAWS, OF_TILES = 39, 19  # of which the 2nd and 38th, or both ends, are the 90 % interval; fewer of what takes long
AT_ONCE = 2**23  # numbers of draws in memory
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
        low, high: ends of the posterior's 90 % interval, `shape`.
        draws: how many draws these are from.
        within: share of the numbers whose interval holds the reference; None without one, and of a clean file.
        samples: draws of x0 given the file, `(n, *shape)`.
        evaluations: of the field, all together.
        extent: the peak of PSNR and SSIM: see `measurements.extent_of`.
    """

    task: Noisy
    sigma: float
    estimate: SigmaEstimate | None
    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor
    draws: int
    within: float | None
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
            "draws": self.draws,
            "samples": len(self.samples),
            "evaluations": self.evaluations,
        }
        if self.task.reference is not None:
            reference = self.task.reference[None]
            for key, image in (("", self.mean), ("_noisy", self.noisy)):
                if bool(image.isfinite().all()):
                    values |= {f"psnr{key}": _finite(psnr(image[None], reference, self.extent))}
                    values |= {f"ssim{key}": _finite(ssim(image[None], reference, self.extent))}
            values |= {"within_90": self.within}
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
    stages = Stages(progress, sigma=1.0 if task.sigma is None else 0.01, unseen=1.0, draws=2.0)
    seen, label = task.seen.to(device), conditions(run, spec.label, 1)
    cond = None if label is None else label.to(device)

    def rng(name: str, n: int = 1) -> SampleRng:
        return SampleRng(range(n), stream=stream_of("denoise", name, spec.seed), device=device)

    estimate = None
    if task.sigma is None:
        estimate = estimate_sigma(field, seen, rng=rng("sigma"), cond=cond, progress=stages("sigma"))
    sigma = task.sigma * task.to_model if estimate is None else float(estimate.sigma)  # type: ignore[operator]
    used = 0 if estimate is None else estimate.evaluations
    extent = extent_of(run, run.shape, task.reference)
    if sigma == 0 and bool(task.item.known.all()):
        raw = task.item.raw
        samples = raw.repeat(spec.samples, *(1,) * raw.ndim)
        return Denoised(task, 0.0, estimate, raw, 0 * raw, raw, raw, 0, None, samples, used, extent)
    level = sigma or lambda_range(field)[0]  # what is missing in a clean file is filled in at the lowest level
    chains = 1 if seen.whole else CHAINS
    z = completed(field, seen, level, rng=rng("unseen"), count=chains, cond=cond, progress=stages("unseen"))
    with torch.no_grad():
        levels = torch.full((chains,), level, dtype=torch.float64, device=device)
        mean = denoised_at(field, z, levels, None if cond is None else cond.expand(chains)).mean(dim=0)
    n = _count(run, task, spec.samples)
    draws = run.decode(_draws(field, z, level, rng("samples", n), cond, stages("draws")))
    ordered, k = draws.sort(dim=0).values, (n + 1) // 20
    return Denoised(
        task=task,
        sigma=sigma / task.to_model,
        estimate=estimate,
        mean=run.decode(mean.cpu()),
        std=draws.std(dim=0),
        low=ordered[k - 1],
        high=ordered[n - k],
        draws=n,
        within=_within(draws, task),
        samples=draws[: spec.samples].clone(),
        evaluations=used + chains + n * LEVELS,
        extent=extent,
    )


def _count(run: Run, task: Noisy, samples: int) -> int:
    """Return how many draws there are: one less than a multiple of 20, so that an interval of 90 % has ends."""
    least = DRAWS if tuple(task.item.raw.shape) == run.shape else OF_TILES
    return 20 * math.ceil((max(samples, least) + 1) / 20) - 1


def _draws(field: Field, z: Tensor, sigma: float, rng: SampleRng, cond: Tensor | None, progress: Progress) -> Tensor:
    """Return a draw of x0 for each seed, `(n, *shape)`, those that memory holds at a time; chains z take turns."""
    n, size = len(rng), max(1, AT_ONCE // z[0].numel())
    parts = []
    for first in range(0, n, size):
        rows = torch.arange(first, min(first + size, n), device=z.device)
        many = None if cond is None else cond.expand(len(rows))
        shown = portion(progress, first / n, len(rows) / n)
        parts.append(posterior_draws(field, z[rows % len(z)], sigma, rng=rng[rows], cond=many, progress=shown).cpu())
    return torch.cat(parts)


def _within(draws: Tensor, task: Noisy) -> float | None:
    """Return the share of numbers whose 90 % interval holds the reference, both as a file would hold them.

    Among n draws and the truth the truth has rank r, and is inside for 0.05 < r/(n + 1) <= 0.95. Of equal numbers, which a cut
    or rounded file has many of, it may be any, and the share of their ranks that lies inside is counted. So exact draws hold
    90 % in the mean, whatever the law of x0 is.

    Reference: Czado, Gneiting, Held (2009), "Predictive model assessment for count data", Biometrics 65.
    """
    if task.reference is None:
        return None
    truth, drawn = (task.item.to_source(raw) for raw in (task.reference[None], draws))
    low, high = (drawn < truth).sum(axis=0) / (len(draws) + 1), ((drawn <= truth).sum(axis=0) + 1) / (len(draws) + 1)
    inside = np.maximum(np.minimum(high, 0.95) - np.maximum(low, 0.05), 0) / (high - low)
    return float(inside.mean())
