"""The terminal: what it cannot show is shown plainly, and what it no longer reads ends no work and leaves no traceback."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import each_case

from scorefield import app
from scorefield.cli import VERBS, main
from scorefield.cli.plain import plain, plain_where_needed
from scorefield.cli.show import tell

COMMAND = [sys.executable, "-m", "scorefield"]


def run(*words: object, **how: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **how.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.run([*COMMAND, *map(str, words)], text=True, env=environment, errors="replace", check=False, **how)  # type: ignore[call-overload]


PAGES = [("ascii", words) for words in ("--help", *(f"{verb} --help" for verb in VERBS), "list")]


@each_case(page=[*PAGES, *((encoding, "list") for encoding in ("cp1252", "cp437", "latin-1"))])
def test_every_page_can_be_shown_in_every_encoding(monkeypatch: pytest.MonkeyPatch, page: tuple[str, str]) -> None:
    """Ascii has the fewest characters: a page that it can show differs from that of another encoding by its signs alone."""
    encoding, words = page
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    with contextlib.suppress(SystemExit):  # a page ends so
        main(words.split())
    shown.flush()
    assert len(shown.buffer.getvalue().decode(encoding)) > 100  # type: ignore[attr-defined]


def test_a_character_that_an_encoding_has_is_shown_as_it_is_and_another_as_what_stands_for_it(monkeypatch) -> None:
    for encoding, seen in (("utf-8", "1 ± 2, σ², 数"), ("cp1252", "1 ± 2, ?², ?"), ("ascii", "1 +- 2, ?^2, ?")):
        shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", shown)
        plain_where_needed()
        print("1 ± 2, σ², 数", end="")
        shown.flush()
        assert shown.buffer.getvalue().decode(encoding) == seen  # type: ignore[attr-defined]
    assert plain("├─┤ 50 % … naïve · 3 × 2 → \udcff") == "+-+ 50 % ... naive * 3 x 2 -> ?"


def test_a_terminal_that_knows_ascii_only_gets_a_report_and_a_refusal(tmp_path: Path) -> None:
    done = run(
        "inspect", "Schrödinger", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, capture_output=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_ends_the_command_in_silence() -> None:
    for words in (["--help"], ["sample", "--help"]):
        with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141  # as the shell says of a program that was ended by a broken pipe


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_report_for_which_there_is_no_room_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = run("--help", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith("scorefield: got an error of the system") and done.stderr.count("\n") == 1


def test_a_command_works_where_output_is_closed() -> None:
    done = subprocess.run(
        f'"{sys.executable}" -m scorefield --help >&-', shell=True, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_progress_that_nobody_reads_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    tell("step 10 of 100")


def test_an_interrupt_is_one_line_and_exit_code_130_and_leaves_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32))
    small = ("network.width=8", "training.precision=float32", "training.pictures=0")
    app.train(str(tmp_path / "x.npy"), out=tmp_path / "run", steps=1, settings=small)
    words = ["sample", tmp_path / "run", "-n", 10**7, "--batch", 64, "--out", tmp_path / "x.npz"]
    with subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not any(tmp_path.glob(".*.partial")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    lines = [line for line in said.splitlines() if not line.startswith("sampling ")]
    assert (process.returncode, lines) == (130, ["scorefield: stopped by an interrupt"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "x.npy"]
