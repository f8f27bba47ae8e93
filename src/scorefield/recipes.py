"""Recipes: named functions from the statistics of a data set to a whole run, with the reason for every number.

    auto    what works best here: the range of noise measured on the data, EDM's preconditioning and weight, training at the
            noise levels where there is most to learn, Adams-Bashforth-Moulton
    ncsnv2  Song and Ermon (2020), arXiv 2006.09011: the five techniques
    ncsn    Song and Ermon (2019), arXiv 1907.05600: ten levels, fixed numbers
    ddpm    Ho, Jain, Abbeel (2020), arXiv 2006.11239: a chain of 1,000 steps, the noise predicted
    edm     Karras et al. (2022), arXiv 2206.00364: sigma = t, preconditioning, log-normal levels, Heun's method

`data_stats` computes the statistics. Any setting that a recipe chose can be changed afterwards: `--set dotted.key=value`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorefield import renamed
from scorefield.config import Optimiser, RunConfig, Training
from scorefield.data import Dataset
from scorefield.data.base import pieces
from scorefield.errors import ScorefieldError
from scorefield.levels import Levels, LogNormal
from scorefield.ncsnv2 import largest_distance, level_ratio, number_of_levels, reachable_ratio, step_size
from scorefield.nets.mlp import MLPConfig
from scorefield.nets.residual import ResidualConfig
from scorefield.nets.unet import UNetConfig
from scorefield.objectives.denoising import Denoising
from scorefield.objectives.diffusion import Simple
from scorefield.objectives.weightings import EDMWeight
from scorefield.prediction import EDM, NoisePrediction, ScaledScore, Score
from scorefield.process import VE, DDPMChain, LinearVE
from scorefield.randomness import subsample
from scorefield.registry import register
from scorefield.samplers import ABM, Ancestral, Annealed, Heun

MANY = 10_000  # images from which on samples have autoguidance, and grey ones without classes clusters
PRINCIPAL = 1024  # examples from which the principal directions are computed
COARSE = 1.3  # how far above ln(std) the centre of the noise levels of pictures may lie
VOXELS = 2**18  # in a training step on volumes, as many as in 64 images of 64 x 64 pixels
KEPT = 2**27  # numbers of volumes from which the largest distance is measured
LEAST_STEPS, MOST_STEPS = 300, 3000  # of a training on tables
ATTENDED = 1024  # places at the coarsest resolution of volumes, above which attention between all pairs costs too much


@dataclass(frozen=True)
class DataStats:
    """Statistics of a data set's training part, in model space: all that a recipe knows of the data.

    Attributes:
        source: name of the data set.
        kind: "image", "signal", "volume", "vector" or "table".
        shape: of one example.
        examples: how many there are.
        mean: of the examples, `shape`, float64.
        std: root of the variance around the mean, averaged over coordinates.
        distance: the largest pairwise distance.
        detail: mean of ln(standard deviation) over the principal directions, each weighted by its variance: ln of the noise
            level at which, as the noise decreases, most of the differences between examples become visible.
        classes: number of named classes, 0 for none.
    """

    source: str
    kind: str
    shape: tuple[int, ...]
    examples: int
    mean: Tensor
    std: float
    distance: float
    detail: float
    classes: int

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return math.prod(self.shape)

    @property
    def pictures(self) -> bool:
        """Whether examples are pictures, of two axes or of three: model space is the range [-1, 1], and noise hides shapes."""
        return self.kind in ("image", "volume")


@dataclass(frozen=True)
class Recipe:
    """A run and the sentences that say why."""

    config: RunConfig
    why: tuple[str, ...]


def data_stats(data: Dataset) -> DataStats:
    """Return the statistics of a data set's training part in model space; it is read a few thousand examples at a time."""
    if data.normaliser.holes is not None:
        return _stats_of_known(data)
    n, encode = len(data.train), data.normaliser.encode
    zero = torch.zeros(data.shape, dtype=torch.float64)
    mean = sum((encode(piece).double().sum(dim=0) for piece in pieces(data.train)), zero) / n
    square = sum(float((encode(piece).double() - mean).square().sum()) for piece in pieces(data.train))
    most = max(256, KEPT // math.prod(data.shape)) if data.kind == "volume" else n
    for_distance, for_directions = (encode(data.train[subsample(n, min(count, most))]) for count in (4096, PRINCIPAL))
    std = math.sqrt(square / (n * math.prod(data.shape)))
    centred = (for_directions.double() - for_directions.double().mean(dim=0)).flatten(1)
    # Both products have the same non-zero eigenvalues: take the smaller one.
    gram = centred.mT @ centred if centred.shape[1] < len(centred) else centred @ centred.mT
    variances = torch.linalg.eigvalsh(gram / len(for_directions)).clamp(min=1e-12)
    detail = float((variances * variances.log()).sum() / variances.sum()) / 2
    distance = largest_distance(for_distance)
    return DataStats(data.name, data.kind, data.shape, n, mean, std, distance, detail, len(data.classes))


def _stats_of_known(data: Dataset) -> DataStats:
    """Return the same of data with unknown cells, where a sum over two examples, or two cells, is over what both know.

    A sum over the k cells that both know stands for one over all d cells that any example knows, times k/d. A matrix of such
    sums may have a few negative eigenvalues, which count as 0. The largest distance is that of examples filled with the mean,
    times the root of d over the mean number of known cells: the mean square distance is right then.
    """
    n, encode, mean = len(data.train), data.normaliser.encode, data.cell_means
    assert data.normaliser.holes is not None
    d = math.prod(data.shape) - data.normaliser.holes.absent_cells
    square = sum(float((encode(piece).double() - mean).square().nansum()) for piece in pieces(data.train))
    std = math.sqrt(square / (n * data.cells))
    for_distance, for_directions = (
        (encode(data.train[subsample(n, count)]).double() - mean).flatten(1) for count in (4096, PRINCIPAL)
    )
    known = (~for_directions.isnan()).double()
    centred = for_directions.nan_to_num(nan=0.0)
    if centred.shape[1] < len(centred):
        gram = centred.mT @ centred / (known.mT @ known).clamp(min=1)
    else:
        gram = centred @ centred.mT / (known @ known.mT).clamp(min=1) * (d / len(centred))
    variances = torch.linalg.eigvalsh(gram).clamp(min=1e-12)
    detail = float((variances * variances.log()).sum() / variances.sum()) / 2
    distance = largest_distance(for_distance.nan_to_num(nan=0.0)) * math.sqrt(d / data.cells)
    return DataStats(data.name, data.kind, data.shape, n, mean, std, distance, detail, len(data.classes))


def measured_settings(stats: DataStats) -> dict[str, dict[str, Any]]:
    """Return the settings that are computed from the data, for components that are chosen by name in place of the recipe's.

    Numbers that a paper gives for data of standard deviation 0.5 are scaled to the data's own.

    Args:
        stats: of the data.

    Returns:
        "kind/name" of a component -> setting -> value.
    """
    scale, std = stats.std / 0.5, {"data_std": stats.std}
    return {
        **{f"parametrisation/{name}": std for name in ("edm", "denoised", "energy")},
        "weighting/edm": std,
        "noise_distribution/log-normal": {"mean": round(-1.2 + math.log(scale), 3)},
        "process/ve": {"sigma_min": lowest_noise(stats), "sigma_max": round(stats.distance, 4)},
        "process/linear-ve": {"sigma_min": 0.002 * scale, "sigma_max": 80.0 * scale},
    }


def lowest_noise(stats: DataStats) -> float:
    """Return the smallest noise level that NCSNv2's choices begin with: 1 % of the range of a pixel, or of a column's std."""
    return 0.02 if stats.pictures else 0.01


def _levels_from_data(stats: DataStats, steps: int, reachable: bool) -> tuple[VE, int, Annealed, tuple[str, ...]]:
    """NCSNv2's techniques 1, 2 and 4: sigma_max, number of levels and eps, with their reasons.

    With `reachable`, the ratio of levels is also small enough for the Langevin steps to keep the variance within 10 %.
    """
    low = lowest_noise(stats)
    if stats.distance <= 2 * low:
        raise ScorefieldError(
            f"got examples that differ by at most {stats.distance:.3g}, expected more than twice the smallest noise level, "
            f"{low:g}: they are all nearly the same, so add examples that differ"
        )
    process = VE(low, round(stats.distance, 4))
    overlap = level_ratio(stats.dimension)
    gamma = min(overlap, reachable_ratio(steps)) if reachable else overlap
    levels = number_of_levels(process.sigma_min, process.sigma_max, gamma)
    real = (process.sigma_max / process.sigma_min) ** (1 / (levels - 1))
    eps = step_size(real, steps, low)
    unit = "1 % of the range of a pixel, [-1, 1]" if stats.pictures else "1 % of the data's standard deviation"
    why = (
        f"sigma_max = {process.sigma_max:.4g}: the largest distance between two examples (NCSNv2, technique 1)",
        f"sigma_min = {low:g}: {unit}",
        f"levels = {levels}: in {stats.dimension} dimensions neighbouring levels overlap by half at a ratio of {overlap:.4g} "
        f"(technique 2)" + (f", but {steps} steps follow a ratio of at most {gamma:.4g}" if gamma < overlap else ""),
        f"eps = {eps:.3g}, {eps / low**2:.3g}·sigma² on every level: keeps the variance right "
        f"after {steps} Langevin steps (technique 4)",
    )
    return process, levels, Annealed(steps_per_level=steps), why


def _network(stats: DataStats) -> UNetConfig | MLPConfig:
    """Return a U-Net for images, signals and volumes, an MLP for vectors and tables."""
    makes = {"volume": _volume_unet, "image": _unet, "signal": _unet}
    return makes[stats.kind](stats) if stats.kind in makes else MLPConfig()


def _unet(stats: DataStats) -> UNetConfig:
    """Return a U-Net with two resolutions up to 16 pixels, else three; pixels are folded 2x2 above 24 pixels, 4x4 above 96."""
    side = max(stats.shape[1:])
    patch = 1 if side <= 24 else 2 if side <= 96 else 4
    depth = 2 if side / patch <= 16 else 3
    dropout = 0.1 if stats.examples < 20_000 else 0.0
    channels = (32, 64, 128)[:depth] if patch == 1 else (32, 96, 128)[:depth]
    return UNetConfig(channels=channels, blocks=2 if patch == 1 else 1, patch=patch, dropout=dropout)


def _volume_unet(stats: DataStats) -> UNetConfig:
    """Return a U-Net of three axes: as many voxels cost as much as pixels do, so they are folded from a smaller side on.

    A side here is that of a cube of as many voxels. They are folded 2x2x2 above 16, 4x4x4 above 64.
    """
    sizes = stats.shape[1:]
    side = math.prod(sizes) ** (1 / 3)
    patch = 1 if side <= 16 else 2 if side <= 64 else 4
    depth = 2 if side / patch <= 12 else 3
    channels = ((64, 96, 128) if patch == 4 else (32, 64, 128) if patch == 1 else (32, 96, 128))[:depth]
    places = math.prod(-(-size // (patch * 2 ** (depth - 1))) for size in sizes)
    dropout = 0.1 if stats.examples < 20_000 else 0.0
    return UNetConfig(channels=channels, blocks=1, attention=places <= ATTENDED, patch=patch, dropout=dropout)


def _batch(stats: DataStats) -> int:
    """Return the examples of a training step: 64 images, fewer volumes of many voxels, 512 of everything else."""
    if stats.kind == "volume":
        return max(4, min(64, VOXELS // math.prod(stats.shape[1:])))
    return 64 if stats.kind == "image" else 512


def _published(stats: DataStats, config: RunConfig, why: tuple[str, ...]) -> Recipe:
    """Return a paper's recipe; its batch is of small images, so that of volumes is another, and the last reason says so."""
    if stats.kind != "volume":
        return Recipe(config, why)
    training = replace(config.training, batch=_batch(stats))
    return Recipe(
        replace(config, training=training),
        (*why, f"batch {training.batch}, for volumes of this size: the paper's is for images"),
    )


def table_steps(rows: int) -> int:
    """Return the steps after which a table is learned: on 105 to 309 rows more find hidden cells worse (results/tables.md)."""
    return min(MOST_STEPS, max(LEAST_STEPS, round(0.75 * rows)))


@register("recipe", "auto")
def auto(stats: DataStats) -> Recipe:
    """The default: a range of noise from the data, EDM's preconditioning and weight, levels where there is most to learn."""
    (process, *_, why), pictures = _levels_from_data(stats, steps=10, reachable=True), stats.pictures
    # Train between noise that hides all but the mean and noise that hides nothing: vectors by EDM's distribution for std 0.5,
    # shifted to theirs and wider; pictures, judged by shapes, where the coarse directions become visible.
    centre = min(stats.detail, math.log(stats.std) + COARSE) if pictures else math.log(stats.std) - 0.5
    where = LogNormal(mean=round(centre, 3), std=0.8, spread=0.05) if pictures else LogNormal(mean=round(centre, 3), std=1.4)
    config = RunConfig(
        source=stats.source,
        recipe="auto",
        process=process,
        parametrisation=EDM(data_std=stats.std),
        network=_network(stats),
        objective=Denoising(noise_distribution=where, weighting=EDMWeight(data_std=stats.std)),
        sampler=ABM(),
        levels=ABM.levels,
        optimiser=Optimiser(method="muon", warmup=100, decay=0.6) if pictures else Optimiser(),
        training=Training(batch=_batch(stats), labels=0.9 if stats.classes > 1 else 0.0),
        autoguidance=1.5 if stats.kind == "image" and stats.examples >= MANY else 1.0,
    )
    why = (
        *why[:2],
        f"data_std = {stats.std:.4g}: measured; it sets EDM's preconditioning",
        f"noise levels of the training around sigma = {math.exp(centre):.3g}: "
        + ("where the principal directions become visible" if pictures else "the data's std, and a little below"),
        f"sampler = abm on {ABM.levels} levels: on a field like this it has converged by then",
    )
    if stats.kind == "table" and (steps := table_steps(stats.examples)) < MOST_STEPS:
        config = replace(config, training=replace(config.training, steps=steps))
        why += (f"steps = {steps}: more would learn {stats.examples:,} rows by heart",)
    if stats.classes > 1:
        why += (f"labels: {stats.classes} classes, given to the network 9 times of 10, so that it learns each and all of them",)
    if config.autoguidance != 1:
        why += ("autoguidance = 1.5: after minutes of training samples are nearer to real images by it (Karras et al. 2024)",)
    return Recipe(config, why)


@register("recipe", "ncsnv2")
def ncsnv2(stats: DataStats) -> Recipe:
    """NCSNv2 (2020): levels and step from the data, a network that is not given sigma, divided by it, EMA 0.999, Adam 1e-4."""
    process, levels, sampler, why = _levels_from_data(stats, steps=5, reachable=False)
    network = _network(stats)
    config = RunConfig(
        source=stats.source,
        recipe="ncsnv2",
        process=process,
        parametrisation=ScaledScore(noise_label="none"),
        network=network,
        objective=Denoising(noise_distribution=Levels(levels)),
        sampler=sampler,
        levels=levels,
        optimiser=Optimiser(lr=1e-4, betas=(0.9, 0.999), clip=0.0, warmup=0, decay=0.0),
        training=Training(ema=0.999),
    )
    return _published(
        stats,
        config,
        (
            *why,
            "s(x, sigma) = y(x)/sigma (technique 3), EMA 0.999 (technique 5), Adam at 1e-4, batch 128",
            "network: a U-Net or an MLP; the paper's is a RefineNet",
        ),
    )


@register("recipe", "ncsn")
def ncsn(stats: DataStats) -> Recipe:
    """NCSN (2019): ten levels from 1 to 0.01 of the pixel range, eps 2e-5 of it squared, 100 steps a level, Adam 1e-3."""
    unit = 2.0 if stats.pictures else 1.0
    process = VE(0.01 * unit, 1.0 * unit) if stats.pictures else VE(0.01, max(1.0, round(stats.distance, 4)))
    network = ResidualConfig(levels=10) if stats.pictures else MLPConfig()
    config = RunConfig(
        source=stats.source,
        recipe="ncsn",
        process=process,
        parametrisation=Score(noise_label=10),  # trained on ten levels, the network knows no label between them
        network=network,
        objective=Denoising(noise_distribution=Levels(10)),
        sampler=Annealed.from_ncsn(step_lr=2e-5 * unit**2, steps=100),
        levels=10,
        optimiser=Optimiser(lr=1e-3, betas=(0.9, 0.999), clip=0.0, warmup=0, decay=0.0),
        training=Training(ema=0.0),
    )
    why = (
        f"ten geometric levels from {process.sigma_max:g} to {process.sigma_min:g}: the paper's 1 to 0.01, for pixels in [0, 1]"
        if stats.pictures
        else f"ten geometric levels from {process.sigma_max:g} (the spread of the data) to {process.sigma_min:g}",
        f"eps = {2e-5 * unit**2:g}, 100 steps a level; weight sigma²; Adam at 1e-3, batch 128, no EMA: the paper's numbers",
        "network: a stack of noise-conditioned residual blocks; the paper's is a RefineNet",
        "final denoising step: not in the paper; most of its FID gap was the missing step (arXiv 2009.05475)",
    )
    return _published(stats, config, why)


@register("recipe", "ddpm")
def ddpm(stats: DataStats) -> Recipe:
    """DDPM (2020): 1,000 linear betas, L_simple on the predicted noise, EMA 0.9999, Adam 2e-4, ancestral sampling."""
    config = RunConfig(
        source=stats.source,
        recipe="ddpm",
        process=DDPMChain(1000),
        parametrisation=NoisePrediction(),
        network=_network(stats),
        objective=Simple(),
        sampler=Ancestral(),
        levels=1000,
        ladder="uniform",
        optimiser=Optimiser(lr=2e-4, betas=(0.9, 0.999), warmup=500, decay=0.0),
        training=Training(ema=0.9999),
    )
    why = (
        "1,000 steps, beta from 0.0001 to 0.02; the network predicts the noise; all steps weigh the same in that loss",
        "Adam at 2e-4, batch 128, gradient clipped at 1, EMA 0.9999: the paper's numbers; warm-up 500 steps, not 5,000",
        "samples: ancestral, through all 1,000 steps; --sampler abm --steps 20 is fifty times faster",
    )
    return _published(stats, config, why)


@register("recipe", "edm")
def edm(stats: DataStats) -> Recipe:
    """EDM (2022): sigma from 0.002 to 80, preconditioning by the data's std, levels log-normal around 0.3, Heun in 18 steps."""
    scale = stats.std / 0.5  # the paper's numbers are for data of std 0.5
    config = RunConfig(
        source=stats.source,
        recipe="edm",
        process=LinearVE(0.002 * scale, 80.0 * scale),
        parametrisation=EDM(data_std=stats.std),
        network=_network(stats),
        objective=Denoising(
            noise_distribution=LogNormal(mean=round(-1.2 + math.log(scale), 3), std=1.2),
            weighting=EDMWeight(data_std=stats.std),
        ),
        sampler=Heun(),
        levels=18,
        ladder="karras",
        optimiser=Optimiser(lr=1e-3, betas=(0.9, 0.999), clip=0.0, decay=0.0),
        training=Training(ema=0.9999),
    )
    why = (
        f"sigma from {0.002 * scale:.3g} to {80 * scale:.3g}, levels around {0.3 * scale:.3g}: the paper's, times {scale:.3g}, "
        f"for data of std {stats.std:.3g} instead of 0.5",
        "Adam at 1e-3, EMA 0.9999; samples by Heun's method on 18 levels, 35 evaluations",
        "network: ours, of a size for this machine; the paper's has 56 million parameters",
    )
    return _published(stats, config, why)


__getattr__ = renamed.attributes(__name__)
