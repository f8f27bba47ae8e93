"""For every test: shapes are checked at every call, at most two threads run, and torch's own generator has a fixed state.

For those of the page: a browser.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shape_checks
import torch

os.environ["SCOREFIELD_CACHE"] = "off"  # no test reads what another one decoded, or leaves anything behind
modules = shape_checks.install("scorefield")
assert {"scorefield.samplers.base", "scorefield.field", "scorefield.shapes"} <= modules
torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def _nothing_global_is_random() -> None:
    """Nothing in scorefield may read torch's global generator; a fixed state keeps a slip from hiding in luck."""
    torch.manual_seed(0)


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
