"""Shared truth-telling: shapes are checked on every call, and every test runs on at most two threads.

The import hook must come before the first import of scorefield: from then on every annotated call checks that a `Sample` is
`(batch, *shape)`, that a `PerSample` is `(batch,)`, and that they agree on the batch.
"""

import jaxtyping
import pytest
import torch

jaxtyping.install_import_hook("scorefield", "beartype.beartype")
torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def _nothing_global_is_random() -> None:
    """Nothing in scorefield may read torch's global generator; a fixed state keeps a slip from hiding in luck."""
    torch.manual_seed(0)
