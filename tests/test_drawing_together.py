"""Many processes draw what one draws: the same bytes and the same figures; one prints and writes, and they end together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import contents, each_case, small_evaluations
from test_distribution import benchmark

from scorefield import ScorefieldError, app, drawing
from scorefield.distribution import World, batches_of
from scorefield.errors import NotFinite

SMALL = ("training.precision=float32", "training.pictures=0", "training.batch=16")
IMAGES = (*SMALL, "network.channels=8,16", "network.blocks=1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on images with classes, one on a table, and one on vectors, all of a few steps."""
    folder = tmp_path_factory.mktemp("together")
    rows = [f"{20 + 37 * i % 60},{(31 * i % 100) / 10},{'yes' if i % 3 else 'no'}" for i in range(120)]
    (folder / "people.csv").write_text("\n".join(["age,height,smoker", *rows, ""]))
    app.train("digits", out=folder / "digits", steps=4, settings=IMAGES)
    app.train(str(folder / "people.csv"), out=folder / "people", steps=20, settings=(*SMALL, "network.width=16"))
    app.train("two-moons", out=folder / "moons", steps=20, settings=(*SMALL, "data.examples=400", "network.width=16"))
    return folder


Sitting = Callable[..., tuple[list[int], str]]


@pytest.fixture
def sitting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sitting:
    """Run the command in so many processes; returns their exit codes, and all that they printed."""
    run, log = benchmark(), tmp_path / "printed.txt"
    monkeypatch.setenv("SURVIVAL_LOG", str(log))

    def sat(processes: int, *words: object, arm: Callable[[], None] = lambda: None) -> tuple[list[int], str]:
        log.write_text("")
        codes = run.sitting([str(word) for word in words], processes, arm, who=processes - 1)
        return codes, log.read_text()

    return sat


@each_case(size=[1, 2, 3, 7])
@each_case(n=[1, 2, 9, 40, 41, 64])
def test_batches_are_all_numbers_in_order_in_the_fewest_turns_and_those_of_one_process_while_all_have_work(
    size: int, n: int
) -> None:
    batch = 4
    turns = list(batches_of(n, batch, size))
    alone = [one[0] for one in batches_of(n, batch, 1)]
    assert [i for turn in turns for part in turn for i in part] == list(range(n)) == [i for part in alone for i in part]
    assert len(turns) == -(-n // (size * batch)) and all(len(part) <= batch for turn in turns for part in turn)
    assert all(len(turn) == size and len(turn[0]) for turn in turns)  # the first always knows what a row looks like
    whole = [turn for turn in turns if all(map(len, turn)) and sum(map(len, turn)) > (size - 1) * batch]
    assert all(part in alone for turn in whole for part in turn) and len(whole) >= n // (size * batch)


def test_numbered_work_of_one_process_is_done_in_its_order_and_fails_as_it_fails() -> None:
    def doubled(rows: range) -> Any:
        import torch

        if rows.start >= 4:
            raise ScorefieldError("got 4, expected less: stop")
        return (torch.tensor(rows) * 2.0,)

    done = World().in_order(6, 2, doubled)
    assert [next(done)[1][0].tolist() for _ in range(2)] == [[0, 2], [4, 6]]
    with pytest.raises(ScorefieldError, match="got 4"):
        next(done)


@pytest.mark.parametrize(
    "words",
    [
        ("digits", "-n", 12, "--batch", 8, "--gif", "--guidance", 2, "--steps", 3, "--out", "{}/set.npz"),
        ("digits", "-n", 1, "--sampler", "predictor-corrector", "--steps", 3, "--out", "{}/files"),  # one has nothing to do
        ("people", "-n", 28, "--batch", 8, "--out", "{}/rows.csv"),
        ("people", "-n", 12, "--batch", 8, "--given", "smoker=yes", "--out", "{}/rows.csv"),
    ],
    ids=["images-and-animation", "one-sample", "table", "given"],
)
def test_two_processes_write_the_bytes_of_one(place: Path, tmp_path: Path, sitting: Sitting, words: tuple[Any, ...]) -> None:
    """Their batches have the sizes of those of one process here, so that a network rounds alike."""
    written = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        codes, printed = sitting(processes, "sample", place / words[0], *(str(word).format(folder) for word in words[1:]))
        assert codes == [0] * processes and printed.count(" samples ") == 1, printed
        assert ("by 2 processes" in printed) == (processes == 2)
        written.append(contents(folder))
    assert written[0] == written[1] and len(written[0]) == 2 - (words[0] == "people")


def test_two_processes_measure_what_one_measures_and_draw_a_baseline_together_too(
    place: Path, sitting: Sitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_evaluations(monkeypatch)
    found = []
    for processes in (1, 2):
        words = ("evaluate", place / "moons", "-n", 60, "--batch", 16, "--against", place / "moons", "--steps", 6)
        codes, printed = sitting(processes, *words)
        assert codes == [0] * processes and printed.count("# Quality of 60 samples") == 1, printed
        (path,) = (place / "moons").glob("quality-*.json")
        found.append(json.loads(path.read_text()))
    for one, processes in zip(found, (1, 2), strict=True):
        assert one.pop("processes") == processes and one.pop("seconds") > 0 and one["baseline"].pop("seconds") > 0
        assert ("by 2 processes" in "".join(one.pop("verdict"))) == (processes == 2)
    assert found[0] == found[1]


def test_all_processes_refuse_together_and_one_says_it(place: Path, tmp_path: Path, sitting: Sitting) -> None:
    out = tmp_path / "there.npz"
    out.write_bytes(b"mine")
    codes, printed = sitting(2, "sample", place / "digits", "--out", out)
    assert codes == [2, 2] and printed.count("where there is a file already") == 1 and out.read_bytes() == b"mine"
    for words in (("restore", place / "digits", out, "--operator", "blur"), ("tune", place / "digits")):
        codes, printed = sitting(2, *words)
        assert codes == [2, 2] and printed.count("start it without torchrun") == 1, printed
    codes, printed = sitting(2, "sample", place / "digits", "--nn", "3")
    assert codes == [2, 2] and printed.count("--nn") == sitting(1, "sample", place / "digits", "--nn", "3")[1].count("--nn")


def refuses() -> None:
    """At its third step."""
    raise NotFinite("got NaN at step 3, expected finite numbers: use smaller steps")


def has_a_bug() -> None:
    raise RuntimeError("out of memory")


def is_gone() -> None:
    os._exit(9)


@pytest.mark.parametrize(
    ("trouble", "code", "said"),
    [
        (refuses, 2, "scorefield: process 1: got NaN at step 3"),
        (has_a_bug, 1, "scorefield: process 1: RuntimeError: out of memory"),
        (is_gone, 9, "scorefield: got 2 processes of which one has ended early"),
    ],
)
def test_trouble_in_one_process_ends_all_with_its_sentence_and_nothing_written(
    place: Path, tmp_path: Path, sitting: Sitting, trouble: Callable[[], None], code: int, said: str
) -> None:
    def arm() -> None:
        simulate = drawing.simulate

        def troubled(*arguments: Any, **named: Any) -> Iterator[Any]:
            for snapshot in simulate(*arguments, **named):
                if snapshot.step == 3:
                    trouble()
                yield snapshot

        drawing.simulate = troubled  # type: ignore[assignment]  # in the forked process alone

    codes, printed = sitting(2, "sample", place / "people", "-n", 16, "--out", tmp_path / "rows.csv", arm=arm)
    assert codes == [2, code] and printed.count(said) == 1, printed
    assert not [path for path in tmp_path.iterdir() if path.name != "printed.txt"]
