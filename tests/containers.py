"""What the tests of files of several arrays share: smooth spots, and the examples of a data set as its source held them."""

from pathlib import Path
from typing import Any

import numpy as np

from scorefield.data import DataConfig, Dataset, open_source

N = 40
GENERATOR = np.random.default_rng(0)
MIDDLES = GENERATOR.uniform(4, 12, (N, 2, 1, 1))
SPOTS = np.exp(-((np.mgrid[:16, :16] - MIDDLES) ** 2).sum(1) / 8).astype(np.float32)
KELVIN = 280 + 10 * SPOTS


def opened(path: Path | str, **settings: Any) -> Dataset:
    """The data set of a path."""
    return open_source(str(path), DataConfig(**settings))


def examples(data: Dataset) -> np.ndarray:
    """All examples as the source held them, through model space: the training part, then the held-out one."""
    parts = [data.normaliser.decode(data.normaliser.encode(part[:])) for part in (data.train, data.held_out)]
    return np.concatenate([data.layout.to_source(part.numpy()) for part in parts])


def in_order(array: np.ndarray) -> np.ndarray:
    """Examples sorted by one direction of theirs, since a split moves them."""
    flat = array.reshape(len(array), -1).astype(complex)
    direction = np.random.default_rng(1).normal(size=(flat.shape[1], 2))
    return array[np.argsort(flat.real @ direction[:, 0] + flat.imag @ direction[:, 1])]


def assert_same(data: Dataset, array: np.ndarray, within: float = 0.0) -> None:
    """A data set holds the examples of an array: axes, type, and values within a share of their range."""
    found = examples(data)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    span = float(np.ptp(np.abs(array).astype(float)))
    assert np.abs(in_order(found).astype(complex) - in_order(array)).max() <= within * span


def encrypt(path: Path) -> None:
    """Set the flag by which a .zip says that its members are encrypted."""
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = content.find(mark)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(mark, place + 1)
    path.write_bytes(content)


def samples_of(data: Dataset) -> np.ndarray:
    """The training examples as samples of a run would be written."""
    return data.layout.to_source(data.train[:].numpy())
