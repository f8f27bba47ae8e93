"""Denoising held-out digits: against non-local means and total variation, with intervals and the blind noise level checked.

    python benchmarks/denoise.py RUN --data mnist_test.npz --images 40 --out benchmarks/results/denoise.md

RUN is a run of grey images in 0 to 255. To each image noise of .3, .5 and 1 of that range is added, and `app.denoise` is told
nothing but the run. The two classical methods are given what a person does not have: the true sigma, and the setting that has
the smallest error against the clean image, chosen for each image alone. The same images are denoised once more after clipping
and rounding to bytes, with half of their pixels missing, with a black block, and clean. Needs scikit-image.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, estimate_sigma

from scorefield import app

Array = np.ndarray[Any, Any]
SIGMAS = (0.3, 0.5, 1.0)


def psnr(image: Array, clean: Array) -> float:
    """Return decibels against a range of 1."""
    return float(-10 * np.log10(np.mean((image - clean) ** 2)))


def non_local_means(noisy: Array, clean: Array, sigma: float) -> float:
    """Return the best PSNR of non-local means over its settings."""
    settings = [(h, patch, reach) for h in (0.4, 0.6, 0.8, 1.0, 1.3) for patch in (3, 5, 7) for reach in (6, 11)]
    return max(
        psnr(
            denoise_nl_means(noisy, patch_size=p, patch_distance=r, h=h * sigma, sigma=sigma, fast_mode=True).clip(0, 1), clean
        )
        for h, p, r in settings
    )


def total_variation(noisy: Array, clean: Array, sigma: float) -> float:
    """Return the best PSNR of total variation over its weight."""
    weights = sigma * np.geomspace(0.2, 4.0, 16)
    return max(psnr(denoise_tv_chambolle(noisy, weight=w, max_num_iter=500).clip(0, 1), clean) for w in weights)


def theirs(noisy: Array) -> float:
    """Return scikit-image's estimate of sigma."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(estimate_sigma(noisy))
        except ImportError:  # it needs PyWavelets
            return float("nan")


def in_bytes(y: Array) -> Array:
    return np.rint(y.clip(0, 1) * 255) / 255


def with_a_block(y: Array) -> Array:
    y = in_bytes(y).copy()
    y[:, 8:20, 8:20] = 0
    return y


def half_missing(y: Array) -> Array:
    return np.where(np.random.default_rng(5).random(y.shape) < 0.5, np.nan, y)


CASES: dict[str, Callable[[Array], Array]] = {
    "whole": lambda y: y,
    "clipped to bytes": in_bytes,
    "clipped, a black block": with_a_block,
    "half missing": half_missing,
}


def denoised(run: str, y: Array, clean: Array) -> list[dict[str, Any]]:
    """Return what `app.denoise` says of each image."""
    raw = y[:, None] * 255
    report = app.denoise(run, raw, samples=0, reference=clean[:, None] * 255)
    rows = []
    for one, truth in zip(report.answers, clean, strict=True):
        mean, std = one.mean[0].numpy() / 255, one.std[0].numpy() / 255
        error = (mean - truth)[std > 4 / 255]
        rows.append(
            {
                "sigma": one.sigma / 255,
                "psnr": psnr(mean, truth),
                "inside": one.within,
                "doubtful": (std > 4 / 255).mean(),
                "error": np.sqrt(np.mean(error**2)) if len(error) else np.nan,
                "std": np.sqrt(np.mean(std[std > 4 / 255] ** 2)) if len(error) else np.nan,
            }
        )
    return rows


def column(rows: list[dict[str, Any]], key: str) -> Array:
    return np.array([row[key] for row in rows])


def gains(run: str, clean: Array, sigmas: tuple[float, ...]) -> list[str]:
    """Return the table of PSNR and intervals."""
    lines = [
        "| sigma | noisy | non-local means, oracle | total variation, oracle | scorefield, blind | gain | standard error | "
        "90 % intervals hold | error of doubtful pixels | their std | their share |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for sigma in sigmas:
        y = clean + sigma * np.random.default_rng(1).normal(size=clean.shape)
        rows = denoised(run, y, clean)
        nlm = np.array([non_local_means(a, b, sigma) for a, b in zip(y, clean, strict=True)])
        tv = np.array([total_variation(a, b, sigma) for a, b in zip(y, clean, strict=True)])
        ours, noisy = column(rows, "psnr"), np.array([psnr(a.clip(0, 1), b) for a, b in zip(y, clean, strict=True)])
        gain = ours - np.maximum(nlm, tv)
        lines.append(
            f"| {sigma:g} | {noisy.mean():.2f} | {nlm.mean():.2f} | {tv.mean():.2f} | {ours.mean():.2f} | {gain.mean():.2f} | "
            f"{gain.std() / np.sqrt(len(gain)):.2f} | {column(rows, 'inside').mean():.1%} | "
            f"{np.nanmean(column(rows, 'error')):.3f} | {np.nanmean(column(rows, 'std')):.3f} | "
            f"{column(rows, 'doubtful').mean():.0%} |"
        )
    return lines


def levels(run: str, clean: Array, sigmas: tuple[float, ...]) -> list[str]:
    """Return the table of blind noise levels."""
    lines = [
        "| image | sigma | scorefield, median | middle half | within 5 % of the truth | scikit-image, median |",
        "|---|---|---|---|---|---|",
    ]
    for name, change in CASES.items():
        for sigma in (0.0, *sigmas):
            y = change(clean + sigma * np.random.default_rng(2).normal(size=clean.shape))
            rows = denoised(run, y, clean)
            ours = column(rows, "sigma")
            low, median, high = np.quantile(ours, [0.25, 0.5, 0.75])
            other = np.median([theirs(one) for one in y])
            near = f"{np.mean(np.abs(ours / sigma - 1) < 0.05):.0%}" if sigma else "-"
            lines.append(f"| {name} | {sigma:g} | {median:.3f} | {low:.3f} to {high:.3f} | {near} | {other:.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", required=True, help="a .npz with images the run was not trained on, uint8 (n, height, width)")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--sigmas", type=float, nargs="+", default=SIGMAS)
    parser.add_argument("--cases", type=int, default=8, help="images of the table of blind noise levels; 0 for none")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    start = time.perf_counter()
    archive = np.load(given.data)
    images = archive[next(key for key in archive.files if archive[key].ndim == 3)]
    evenly = np.linspace(0, len(images) - 1, given.images).astype(int)  # a file may be sorted by class
    clean = images[evenly].astype(float) / 255
    first = gains(given.run, clean, tuple(given.sigmas))
    head = [
        "# Denoising held-out digits",
        "",
        f"{len(clean)} images of {Path(given.data).name}, run {Path(given.run).name}, scikit-image {skimage.__version__}, "
        f"{(time.perf_counter() - start) / 60:.0f} minutes. PSNR in decibels against a range of 1; sigma in the same unit.",
        "",
        *first,
        "",
        "An interval is that between the 2nd and the 38th of 39 draws in order; a pixel that is equal to some of them, as "
        "black ones are, counts with the share of its possible ranks that lies inside. A pixel is doubtful where its "
        "standard deviation over the draws exceeds 4 grey levels of 255: root mean square of its error and of that.",
        "",
    ]
    _keep(head, given.out)
    if given.cases:
        few = np.linspace(0, len(clean) - 1, given.cases).astype(int)
        second = levels(given.run, clean[few], tuple(given.sigmas))
        _keep([*head, f"Blind noise level, {given.cases} images", "", *second, ""], given.out)


def _keep(lines: list[str], out: Path | None) -> None:
    """Print what there is, and write it."""
    print("\n".join(lines))
    if out:
        out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
