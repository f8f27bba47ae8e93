"""A minimal gradio app that shows what the page shows: 2,000 particles on two moons, and 64 digits while they are drawn.

It needs gradio, numpy and Pillow alone. The digits are noise that fades, at a cost of nothing: how often the browser gets a
picture is what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio
import numpy as np
from PIL import Image

SIDE, SIGMA = 480, 0.2
ANGLES = np.linspace(0, np.pi, 32)
MEANS = np.concatenate([np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1), np.stack([1 - np.cos(ANGLES), 0.5 - np.sin(ANGLES)], 1)])
VARIANCE = 0.1**2 + SIGMA**2


def score(x: Any) -> Any:
    """Return the score of the mixture at positions `(n, 2)`."""
    away = MEANS[None] - x[:, None]
    logs = -0.5 * (away**2).sum(2) / VARIANCE
    shares = np.exp(logs - logs.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return (shares[..., None] * away).sum(1) / VARIANCE


def particles() -> Iterator[Image.Image]:
    """Yield pictures of 2,000 particles after each Langevin step."""
    rng = np.random.default_rng(0)
    x = rng.normal(0.5, 1.5, (2000, 2))
    for _ in range(600):
        x = x + 0.005 * score(x) + np.sqrt(0.01) * rng.normal(size=x.shape)
        pixels = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
        places = np.clip((x + 2) / 5 * SIDE, 0, SIDE - 2).astype(int)
        for down in (0, 1):
            for across in (0, 1):
                pixels[SIDE - 1 - places[:, 1] - down + 1 - 1, places[:, 0] + across] = (180, 70, 10)
        yield Image.fromarray(pixels)


def digits() -> Iterator[Image.Image]:
    """Yield grids of 64 images of 8 x 8."""
    rng = np.random.default_rng(0)
    for step in range(400):
        yield Image.fromarray(rng.integers(0, 256 - step // 2, (64, 64), dtype=np.uint8)).resize((512, 512), 0)


with gradio.Blocks() as blocks:
    picture = gradio.Image(type="pil")
    gradio.Button("particles").click(particles, outputs=picture)
    gradio.Button("digits").click(digits, outputs=picture)

blocks.queue().launch(server_name="127.0.0.1", quiet=False)
