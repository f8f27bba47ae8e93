"""For every test: shapes are checked at every call, at most two threads run, and torch's own generator has a fixed state."""

import os

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
