"""Built-in data: real, small, and already on the machine."""

from __future__ import annotations

import numpy as np
import torch

from scorefield.data.base import DataConfig, Dataset, Examples, Normaliser, build
from scorefield.data.image.decode import fitted
from scorefield.registry import register


@register("source", "digits")
def digits(config: DataConfig) -> Dataset:
    """Handwritten digits: 1,797 grey images of 8 x 8 pixels with 17 levels, ten classes (Alpaydin and Kaynak 1998, UCI).

    Args:
        config: how it is read; a third is held out unless it says otherwise.

    Returns:
        The data set, raw values 0 to 16.

    >>> digits(DataConfig()).shape
    (1, 8, 8)
    """
    from sklearn.datasets import load_digits  # slow to import, so only when asked for

    bunch = load_digits()
    raw = bunch.images.astype(np.uint8)[:, None]
    if config.size is not None:
        raw = np.stack([fitted(image, config.size, config.fit) for image in raw]).clip(0, 16)
    examples = Examples(
        "digits",
        "image",
        torch.from_numpy(raw),
        normaliser=lambda train: Normaliser.between(0.0, 16.0),
        labels=torch.from_numpy(bunch.target.astype(np.int64)),
        classes=tuple("0123456789"),
        held_out=1 / 3,
    )
    return build(examples, config)
