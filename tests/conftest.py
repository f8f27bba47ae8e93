"""Shared truth-telling: shapes are checked on every call, and every test runs on at most two threads.

The import hook must come before the first import of scorefield: from then on every annotated call checks that a `Sample` is
`(batch, *shape)`, that a `PerSample` is `(batch,)`, and that they agree on the batch. It is for the modules that speak of
shapes: the types of all others are mypy's to check, and to check them at every call as well took a third of the suite's time.
"""

import importlib.util
from pathlib import Path

import jaxtyping
import pytest
import torch

PACKAGE = Path(str(importlib.util.find_spec("scorefield").submodule_search_locations[0]))  # type: ignore[union-attr, index]
SHAPED = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if "scorefield.shapes import" in path.read_text(encoding="utf-8")
]
assert "scorefield.samplers.base" in SHAPED and "scorefield.field" in SHAPED
jaxtyping.install_import_hook([*SHAPED, "scorefield.shapes"], "beartype.beartype")
torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def _nothing_global_is_random() -> None:
    """Nothing in scorefield may read torch's global generator; a fixed state keeps a slip from hiding in luck."""
    torch.manual_seed(0)
