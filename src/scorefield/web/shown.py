"""Shown: what a worker computes for the page beside the verbs: frames of sampling, held-out examples, scores in the plane.

Scores are those of the data with noise of a level in the data's own units. With z = (raw - shift)/scale the data in model
space, x_t = alpha·(z + r·noise) has the score s of the network, so grad_raw log p = alpha·s / scale, where r = level/scale. A
column that is transformed, z = (g(raw) - shift)/scale, has alpha·s·g'/scale + (log g')'. Columns of different scales have noise
of different size: level times scale over their root mean square.
"""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scorefield import pictures, registry
from scorefield.data.planes import PICTURED, planes
from scorefield.data.table.coordinates import decode
from scorefield.drawing import Batch, trained
from scorefield.errors import ScorefieldError
from scorefield.inputs import save_array
from scorefield.runs import Run, open_run
from scorefield.training.reports import Plan, json_values
from scorefield.web.limits import MOST_POINTS

SHOWN = 64  # samples in a frame
LINES = 8


def sources() -> list[dict[str, str]]:
    """Return the built-in data with what they are."""
    return [{"name": name, "about": (make.__doc__ or "").splitlines()[0]} for name, make in registry.every("source").items()]


# --- frames -----------------------------------------------------------------------------------------------------------


def frame(run: Run, job: str, batch: Batch) -> bytes | None:
    """Return what the sampling shows after a step as a message: the length of the header, the header as JSON, numbers.

    Images are bytes `(count, height, width, channels)`, points float32 `(count, 2)`, signals float32 `(count, length)`. Other
    vectors and tables have no picture: None.
    """
    seen = batch.snapshot
    ratio = (
        float(run.config.process.sigma(torch.tensor(seen.t)) / run.config.process.alpha(torch.tensor(seen.t)))
        if seen.t
        else 0.0
    )
    head: dict[str, Any] = {
        "type": "frame",
        "job": job,
        "step": seen.step,
        "steps": seen.steps,
        "level": ratio,
        "evaluations": seen.evaluations,
    }
    head |= {"first": batch.first}
    if run.kind in PICTURED:
        seen_as = planes(run.decode(seen.x[:SHOWN]), run).clamp(0, 1)
        pixels = (seen_as * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        head, body = head | {"kind": "image", "shape": list(pixels.shape)}, pixels.numpy().tobytes()
    elif run.kind == "signal":
        rows = run.decode(seen.x[:LINES])[:, 0].float().contiguous()
        head, body = head | {"kind": "lines", "shape": list(rows.shape)}, rows.numpy().tobytes()
    elif run.kind == "vector" and run.shape == (2,):
        rows = run.decode(seen.x[:MOST_POINTS]).float().contiguous()
        head, body = head | {"kind": "points", "shape": list(rows.shape)}, rows.numpy().tobytes()
    else:
        return None
    head["count"] = head["shape"][0]
    text = json.dumps(head).encode()
    return struct.pack("<I", len(text)) + text + body


def training_event(job: str, event: Any) -> tuple[str, str, Any]:
    """Return what a training reports as an event of the server: its plan, then its states."""
    if not isinstance(event, Plan):
        state = json_values({key: getattr(event, key) for key in event.__dataclass_fields__})
        return "training", job, state
    data = event.data
    about = {"name": data.name, "kind": data.kind, "shape": list(data.shape), "training": len(data.train)}
    about |= {"held_out": len(data.held_out), "notes": list(data.notes), "why": list(event.why)}
    about |= {"warnings": [str(one) for one in event.warnings], "parameters": event.parameters, "recipe": event.config.recipe}
    return "plan", job, about | {"issues": [{"where": one.where, "cause": one.cause} for one in event.issues[:20]]}


# --- held-out examples ------------------------------------------------------------------------------------------------


def _example(run: Run, index: int) -> torch.Tensor:
    held_out = run.data.held_out
    if not 0 <= index < len(held_out):
        raise ScorefieldError(
            f"got held-out:{index} for {run.path.name}, expected a number from 0 to {len(held_out) - 1}: choose one"
        )
    return held_out[index : index + 1]


def held_out_file(path: str, index: int, folder: Path) -> Path:
    """Write a held-out example of a run as a file that the verbs read, and return its path.

    An image of 8 bits is what the page shows of it: a verb reads the greys 0 to 255 as the whole range of the data, whatever
    their own numbers are. Everything else is an array in the data's own units.
    """
    run = open_run(path)
    example = _example(run, index)
    sample = run.to_source(example)[0]
    if run.kind == "image" and sample.dtype.name == "uint8" and run.shape[0] in (1, 3):
        target = folder / f"held-out-{index}.png"
        target.write_bytes(_picture(example, run))
    else:
        target = folder / f"held-out-{index}.npy"
        save_array(target, sample)
    return target


def _picture(example: torch.Tensor, run: Run) -> bytes:
    """Return one image as it is shown, PNG, with its own number of pixels."""
    return pictures.png(pictures.image(pictures.to_pixels(planes(example, run))[0]))


def held_out(run: str, first: int, count: int) -> dict[str, Any]:
    """Return how many held-out examples there are, and the numbers and classes of some.

    They come in steps of a golden section of all, which visits each once: data are often sorted by class.
    """
    data = _opened(run).data
    labels, total = data.held_out_labels, len(data.held_out)
    step = next(step for step in range(round(total * 0.618) or 1, total + 2) if math.gcd(step, total) == 1)
    some = [place * step % total for place in range(first, min(first + count, total))]
    named = [None if labels is None else data.classes[int(labels[index])] for index in some]
    return {"total": total, "items": [{"index": i, "label": name} for i, name in zip(some, named, strict=True)]}


def held_out_picture(run: str, index: int) -> bytes:
    """Return a held-out image as it is shown, PNG, with its own number of pixels: a mask is painted over them."""
    opened = _opened(run)
    if opened.kind not in PICTURED:
        raise ScorefieldError(f"got a run of {opened.kind}s, expected one of images: read held-out.csv")
    return _picture(_example(opened, index), opened)


def held_out_rows(run: str, first: int, count: int) -> str:
    """Return held-out rows of a table, or of vectors, as CSV."""
    opened = _opened(run)
    rows = opened.data.held_out[first : first + count]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = opened.manifest["data"]["columns"]
    if columns:
        table = decode(opened.data.held_out[first : first + count].cpu().double(), columns)
        writer.writerow(table.keys())
        writer.writerows(zip(*(["" if _is_missing(v) else v for v in values] for values in table.values()), strict=True))
    else:
        writer.writerows(rows.flatten(1).tolist())
    return buffer.getvalue()


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


# --- scores in the plane ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _of_weights(path: str, changed: int) -> Run:
    return open_run(path)


def _opened(path: str) -> Run:
    """Return a run, opened anew when its weights have changed."""
    return _of_weights(path, (Path(path) / "manifest.json").stat().st_mtime_ns)


def scores(run: str, level: float, positions: bytes) -> tuple[bytes, dict[str, str]]:
    """Return grad log p of the data with noise at positions in the plane, float32 `(n, 2)`, and headers that describe it.

    Args:
        run: a run of vectors of two numbers.
        level: standard deviation of the noise, in the data's own units, > 0.
        positions: float32 `(n, 2)`, in the data's own units.

    Raises:
        ScorefieldError: another kind of run, a level outside of those that it knows, too many positions, or no numbers.
    """
    opened = trained(_opened(run))
    if opened.kind not in ("vector", "table") or opened.shape != (2,):
        raise ScorefieldError(
            f"got {opened.path.name}, a run of {opened.kind}s of shape {opened.shape}, expected points of the plane"
        )
    if len(positions) % 8 or len(positions) > 8 * MOST_POINTS or not positions:
        raise ScorefieldError(
            f"got {len(positions):,} bytes, expected 8 for each of at most {MOST_POINTS:,} positions: send fewer"
        )
    raw = torch.from_numpy(np.frombuffer(positions, dtype="<f4").reshape(-1, 2).astype(np.float64))
    normaliser, process = opened.normaliser, opened.config.process
    scale = normaliser.units((2,))
    mean = float(scale.square().mean().sqrt())
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    low, high = ((process.sigma(ends) / process.alpha(ends).clamp(min=1e-12)) * mean).tolist()
    if not (math.isfinite(level) and level > 0):
        raise ScorefieldError(f"got level {level!r}, expected a positive standard deviation of noise: correct it")
    ratio = torch.tensor(min(max(level, low), high) / mean, dtype=torch.float64)
    t = process.time_of_sigma(ratio)
    alpha = process.alpha(t)
    x = alpha * normaliser.exactly(raw)
    with torch.no_grad():
        model_scores = opened.field(x, t.expand(len(x)), None).score.double()
    found = alpha * model_scores * normaliser.log_slopes(raw).exp()
    if normaliser.transforms:
        (bend,) = torch.autograd.grad(normaliser.log_slopes(raw.requires_grad_()).sum(), raw)
        found = found + bend
    answer = found.detach().float().contiguous().numpy().astype("<f4").tobytes()
    about = {"X-Step": str(opened.manifest["progress"]["step"]), "X-Level-Low": f"{low:.8g}", "X-Level-High": f"{high:.8g}"}
    return answer, about | {"X-Noise": ",".join(f"{float(one) / mean:.10g}" for one in scale)}
