"""The page distils as the command does, and a stop keeps what there is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import command
from safetensors.torch import load_file
from web_server import OWNER, Server, serving

from scorefield import app


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    runs = tmp_path_factory.mktemp("web") / "runs"
    tiny = ("network.width=16", "network.depth=1", "training.batch=32", "training.precision=float32", "training.pictures=0")
    app.train("two-moons", out=runs / "moons", steps=8, settings=tiny)
    with serving(runs) as running:
        yield running, runs


def test_the_page_distils_to_the_bytes_of_the_command_and_draws_from_it(server: tuple[Server, Path], tmp_path: Path) -> None:
    page, runs = server
    job = page.do("distill", run="moons", evaluations=2, steps=3, seed=4)
    assert job["state"] == "done", job
    assert job["command"] == "scorefield distill runs/moons --evaluations 2 --steps 3 --seed 4 --out runs/moons-distilled-2"
    assert command("distill", runs / "moons", "--evaluations", 2, "--steps", 3, "--seed", 4, "--out", tmp_path / "own") == 0
    made = runs / "moons-distilled-2" / "generator.safetensors"
    assert made.read_bytes() == (tmp_path / "own" / "generator.safetensors").read_bytes()
    assert page.json("GET", "/api/runs/moons-distilled-2")["distilled"]["evaluations"] == 2
    drawn = page.do("sample", run="moons-distilled-2", n=5)
    assert drawn["report"]["evaluations"] == 2


def test_a_distillation_that_is_stopped_on_the_page_keeps_what_it_has(server: tuple[Server, Path]) -> None:
    page, runs = server
    job = page.start("distill", run="moons", steps=10**6, out="early")
    while page.json("GET", f"/api/jobs/{job['id']}")["fraction"] <= 1 / 12:  # pairs are drawn, nothing is learned yet
        time.sleep(0.05)
    page.json("DELETE", f"/api/jobs/{job['id']}")
    ended = page.wait(job)
    assert ended["state"] == "done" and ended["report"]["stopped"], ended
    made, begun = (load_file(runs / name) for name in ("early/generator.safetensors", "moons/model.safetensors"))
    assert made.keys() == begun.keys() and any(not torch.equal(made[key], begun[key]) for key in made)
    assert page.do("sample", run="early", n=5)["state"] == "done"


@pytest.mark.parametrize(
    ("asked", "field"), [({"out": "../away"}, "out"), ({"out": "moons"}, "out"), ({"evaluations": 3}, "evaluations")]
)
def test_a_distillation_that_cannot_be_is_refused_beside_its_field(
    server: tuple[Server, Path], asked: dict[str, object], field: str
) -> None:
    page, runs = server
    before = sorted(path.name for path in runs.iterdir())
    whole = {"verb": "distill", "arguments": {"run": "moons", "steps": 1} | asked, "owner": OWNER}
    status, _, body = page.ask("POST", "/api/jobs", whole)
    answer = json.loads(body)
    if status == 202:  # it is the verb itself that refuses
        answer = page.wait(answer)
    assert answer["error"].startswith("got ") and answer["field"] == field, answer
    assert sorted(path.name for path in runs.iterdir()) == before
