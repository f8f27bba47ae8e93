"""What the page is shown: scores in the data's own units are those of the closed form, for every process and both scales."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import double, each_case

from scorefield import VE, VP, Gaussian, Process, RectifiedFlow, ScorefieldError, registry
from scorefield.data import Normaliser
from scorefield.data.layout import Layout
from scorefield.drawing import Batch
from scorefield.samplers import Snapshot
from scorefield.web import shown

SCALES = {"one scale": (2.0, 2.0), "two scales": (0.5, 3.0)}
PROCESSES = {"ve": VE(0.01, 20.0), "vp": VP(), "flow": RectifiedFlow()}
MEAN, COVARIANCE = double([0.3, -0.2]), double([[1.0, 0.6], [0.6, 0.8]])  # of the data in model space


@pytest.fixture
def run_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make runs whose field is exact."""

    def make(process: Process, scale: tuple[float, float]) -> None:
        run = SimpleNamespace(
            kind="vector",
            shape=(2,),
            path=Path("runs/exact"),
            normaliser=Normaliser(shift=(1.0, -4.0), scale=scale),
            config=SimpleNamespace(process=process),
            field=Gaussian(MEAN, COVARIANCE, process),
            manifest={"progress": {"step": 7}},
        )
        monkeypatch.setattr(shown, "_opened", lambda path: run)

    return make


@each_case(process=PROCESSES, scale=SCALES, level=(0.1, 1.0, 3.0))
def test_scores_are_those_of_the_data_with_noise_in_their_own_units(
    run_of: Any, process: Any, scale: Any, level: float
) -> None:
    run_of(process, scale)
    positions = np.random.default_rng(0).normal(0.0, 4.0, (50, 2)).astype("<f4")
    found, headers = shown.scores("runs/exact", level, positions.tobytes())
    scales = double(scale)
    # raw = shift + scale·z, and noise of standard deviation level·scale/(root mean square of both) in each column.
    noise = double([float(one) for one in headers["X-Noise"].split(",")])
    assert float((noise**2).mean()) == pytest.approx(1.0)
    assert torch.allclose(noise / noise[0], scales / scales[0])
    mean = double([1.0, -4.0]) + scales * MEAN
    covariance = scales[:, None] * COVARIANCE * scales + torch.diag((level * noise) ** 2)
    truth = -torch.linalg.solve(covariance, (torch.from_numpy(positions.astype(float)) - mean).T).T
    scores = torch.from_numpy(np.frombuffer(found, dtype="<f4").reshape(50, 2).astype(float))
    assert float((scores - truth).abs().max()) < 2e-6 * float(truth.abs().max())  # float32 is sent
    assert headers["X-Step"] == "7"


@each_case(process=PROCESSES)
def test_the_levels_that_a_run_knows_are_said_in_the_units_of_the_data(run_of: Any, process: Any) -> None:
    run_of(process, (2.0, 2.0))
    _, headers = shown.scores("runs/exact", 1.0, np.zeros((1, 2), dtype="<f4").tobytes())
    low, high = (float(headers[f"X-Level-{end}"]) / 2.0 for end in ("Low", "High"))
    ends = double([process.t_min, process.t_max])
    known = process.sigma(ends) / process.alpha(ends)
    assert low == pytest.approx(float(known[0]), rel=1e-6)
    assert high == pytest.approx(min(float(known[1]), 1e12), rel=1e-6)


@each_case(name=registry.names("process"), kind=("vector", "image", "signal"), end=("start", "end", "clean"))
def test_a_frame_has_a_header_of_json_and_the_numbers_drawn_for_every_process(name: str, kind: str, end: str) -> None:
    process = registry.find("process", name).example()
    shape = {"vector": (2,), "image": (1, 4, 5), "signal": (1, 7)}[kind]
    normaliser = Normaliser(shift=(0.0,), scale=(1.0,))
    config, layout = SimpleNamespace(process=process), Layout.plain(kind, shape)
    run = SimpleNamespace(kind=kind, shape=shape, config=config, normaliser=normaliser, decode=normaliser.decode, layout=layout)
    x = 2 * torch.rand(3, *shape, dtype=torch.float64) - 1
    t = {"start": process.t_max, "end": process.t_min, "clean": 0.0}[end]
    message = shown.frame(run, "job", Batch(0, Snapshot(x, t, 4, 9, 5)))
    assert message is not None
    (length,) = struct.unpack_from("<I", message)
    head = json.loads(message[4 : 4 + length], parse_constant=pytest.fail)  # a browser knows no Infinity
    assert (head["step"], head["steps"], head["evaluations"], head["count"]) == (4, 9, 5, 3)
    if kind == "image":
        pixels = np.frombuffer(message, dtype=np.uint8, offset=4 + length).reshape(head["shape"])
        assert np.abs(pixels[..., 0] / 127.5 - 1 - x[:, 0].numpy()).max() <= 0.5 / 127.5 + 1e-9
    else:
        numbers = np.frombuffer(message, dtype="<f4", offset=4 + length).reshape(head["shape"])
        assert np.abs(numbers - x.reshape(numbers.shape).numpy()).max() < 1e-7
    if end == "clean":
        assert head["level"] == 0


def test_what_is_no_question_about_the_plane_is_refused(run_of: Any) -> None:
    run_of(VE(0.01, 20.0), (1.0, 1.0))
    for level, body in (
        (0.0, b"0" * 8),
        (-1.0, b"0" * 8),
        (math.nan, b"0" * 8),
        (1.0, b""),
        (1.0, b"0" * 9),
        (1.0, b"0" * 8 * 20_001),
    ):
        with pytest.raises(ScorefieldError, match="expected"):
            shown.scores("runs/exact", level, body)


@each_case(total=(1, 2, 7, 20, 599, 600))
def test_each_held_out_example_is_listed_once(monkeypatch: pytest.MonkeyPatch, total: int) -> None:
    data = SimpleNamespace(held_out=range(total), held_out_labels=None)
    monkeypatch.setattr(shown, "_opened", lambda path: SimpleNamespace(data=data))
    pages = [shown.held_out("runs/a", first, 24)["items"] for first in range(0, total, 24)]
    assert sorted(item["index"] for page in pages for item in page) == list(range(total))
