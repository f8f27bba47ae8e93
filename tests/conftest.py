"""For every test: shapes are checked at every call, one thread runs, and torch's own generator has a fixed state.

Every training ends with the error by noise level, which takes longer than the few steps of a test: it is short in all tests
but those that ask for `whole_curves`. For tests of the page there is a browser.
"""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import shape_checks
import torch
from PIL import Image

gc.disable()  # until all tests are collected: millions of objects that stay, walked again and again, are a third of that time
os.environ["SCOREFIELD_CACHE"] = "off"  # no test reads what another one decoded, or leaves anything behind
modules = shape_checks.install("scorefield")
assert {"scorefield.samplers.base", "scorefield.field", "scorefield.shapes"} <= modules
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a number that stands: else it follows what other programs leave (cores.py)
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


# Files that take longest begin, so that at the end no core is left with one of them while the other has nothing to do.
LONG = ("test_web_server", "test_web_page", "test_web_field", "test_evaluate", "test_distribution", "test_two_sample")


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def _flushed(handle: int) -> None:
    os.fstat(handle)  # which fails as a flush does where the file is closed


os.fsync = _flushed  # what a power cut would lose is lost; a training flushes 34 files, each as slowly as the disk is


collect_ignore = ["forked_workers.py"]  # it makes evaluations small in whatever process imports it


@pytest.fixture(autouse=True)
def _nothing_global_is_random() -> None:
    """Nothing in scorefield may read torch's global generator; a fixed state keeps a slip from hiding in luck."""
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` formats the call stack for every kind of device: 2 ms a test


@pytest.fixture(scope="session", autouse=True)
def _few_measured() -> Iterator[None]:
    """Every evaluation measures on little, but where a test sets the limits."""
    from helpers import few_measured  # after the shape checks: it imports the package

    with pytest.MonkeyPatch.context() as patch:
        few_measured(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def short_curves() -> Iterator[Callable[[pytest.MonkeyPatch], None]]:
    """At the end of a training, the error by noise level is measured at two levels on eight examples, and its plot is blank.

    Gives a function that makes it whole.
    """
    from scorefield import files, pictures
    from scorefield.training import folder, previews

    def blank(run: Any, *_: Any) -> Path:
        path: Path = run.path / "loss_by_level.png"
        files.write(path, pictures.png(Image.new("RGB", (8, 8)), run.made_from))
        return path

    short = {(previews, "CURVE_LEVELS"): 2, (previews, "CURVE_EXAMPLES"): (8, 8), (folder, "curve"): blank}
    real = {(module, name): getattr(module, name) for module, name in short}

    def make_whole(patch: pytest.MonkeyPatch) -> None:
        for (module, name), value in real.items():
            patch.setattr(module, name, value)

    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in short.items():
            patch.setattr(module, name, value)
        yield make_whole


@pytest.fixture
def whole_curves(short_curves: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The error by noise level as a person gets it."""
    short_curves(monkeypatch)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, for the tests of the page; without it they are skipped."""
    api = pytest.importorskip("playwright.sync_api", reason="needs a browser's driver: pip install playwright")
    path = next((path for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()), None)
    if path is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=str(path), args=["--no-sandbox"])
        yield started
        started.close()
