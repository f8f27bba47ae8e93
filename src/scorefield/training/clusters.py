"""Clusters in place of classes: examples without labels are divided by likeness, and the network is given the part of each.

    y = (x - mean)·V        the first COMPONENTS principal components of the training examples, in model space
    k                       the nearest of K centres of k-means in y

p(x) = sum_k p(k)·p(x | k), whatever the parts are. A field of one part is smoother than that of all, and learned sooner;
samples draw k as often as the data have it. Part of the examples are given without k, so that p(x) itself is learned, too.
On MNIST, 300 clusters take samples to a quarter of the Frechet distance of as many training steps without, while p(x) itself,
which denoising, restoration and likelihood ask for, has a squared error that is some per cent larger
(time-to-quality-search.md). So many grey images without classes are clustered by default. Few are not, for there p(x) pays more
and gains less; and colour images are not, whose parts are parts of like colours: on CIFAR-10 they gained nothing.

References: Hu, Zhang, Asano, Burghouts, Snoek (2023), "Self-guided diffusion models", arXiv 2210.06462. Adaloglou, Kaiser,
Iagudin, Kollmann (2024), "Rethinking cluster-conditioned diffusion models", arXiv 2403.00570.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield.config import RunConfig
from scorefield.data import Dataset
from scorefield.data.base import pieces
from scorefield.errors import ScorefieldError
from scorefield.randomness import subsample
from scorefield.recipes import MANY

COMPONENTS, FITTED = 50, 20_000  # principal components, and examples on which the centres are found
NUMBERS = 1 << 24  # on which the components are found: 20,000 images of MNIST, 5,461 of CIFAR-10, in 64 MiB
LEAST = 20  # examples for each centre
EACH = 180  # grey images for each centre, where there are MANY: 300 centres of 54,000 images
MOST = FITTED // LEAST  # centres that nobody asked for
GIVEN = 0.9  # share of the examples whose cluster the network is given, where nothing else is asked for


def number_unasked(data: Dataset) -> int:
    """Return how many clusters a data set has by default: 0 for few, for other things than grey images, and with classes."""
    many = data.kind == "image" and data.shape[0] == 1 and len(data.train) >= MANY and data.normaliser.holes is None
    return min(len(data.train) // EACH, MOST) if many and not data.classes else 0


def with_clusters(config: RunConfig, data: Dataset) -> tuple[RunConfig, Dataset, tuple[str, ...]]:
    """Return a config, its data with clusters as classes, and the reason, where `training.clusters` asks for them.

    Data that have classes keep them. The clusters are no part of the data's fingerprint, for they are made of the data.

    Raises:
        ScorefieldError: a table, cells that are unknown, or too few examples for so many.
    """
    count = config.training.clusters
    if not count or data.classes:
        return config, data, ()
    if data.kind == "table" or data.normaliser.holes is not None:
        what = "a table" if data.kind == "table" else "examples with unknown cells"
        raise ScorefieldError(f"got training.clusters={count} for {what}, expected whole examples of numbers: set it to 0")
    if count < 2 or len(data.train) < LEAST * count:
        most = len(data.train) // LEAST
        raise ScorefieldError(
            f"got training.clusters={count} for {len(data.train):,} examples, expected 2 to {most}, "
            f"for each needs {LEAST}: lower it"
        )
    own, unseen = _clusters(data, count, config.seed)
    named = tuple(f"cluster {k}" for k in range(count))
    made = replace(data, labels=own, held_out_labels=unseen, classes=named, clustered=True)
    labels = config.training.labels or GIVEN
    why = (
        f"clusters = {count}: by k-means on {min(COMPONENTS, len(data.train), math.prod(data.shape))} principal components, "
        f"given to the network for {labels:.0%} of the examples; samples have each as often as the data"
    )
    return replace(config, training=replace(config.training, labels=labels)), made, (why,)


def _clusters(data: Dataset, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the cluster of each training and each held-out example."""
    from sklearn.cluster import MiniBatchKMeans  # slow to import
    from sklearn.decomposition import PCA

    def rows(part: Any) -> Tensor:
        return data.normaliser.encode(torch.as_tensor(part)).flatten(1).float()

    chosen = subsample(len(data.train), FITTED)
    few = subsample(len(chosen), max(1, NUMBERS // math.prod(data.shape)))
    examples = torch.cat([rows(piece) for piece in pieces(data.train[chosen[few]])])
    size = min(COMPONENTS, *examples.shape)
    components = PCA(size, svd_solver="randomized" if size < min(examples.shape) else "full", random_state=seed % 2**32)
    components.fit(examples)
    centres = MiniBatchKMeans(count, random_state=seed % 2**32, n_init=3, batch_size=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of examples that repeat
        centres.fit(np.concatenate([components.transform(rows(piece)) for piece in pieces(data.train[chosen])]))

    def of(part: Any) -> Tensor:
        found = [torch.from_numpy(centres.predict(components.transform(rows(piece)))).long() for piece in pieces(part)]
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.int64)

    return of(data.train), of(data.held_out)
