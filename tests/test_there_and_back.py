"""A model of diffusers comes back as it was: import, export, import."""

from pathlib import Path
from typing import Any

import pytest
import torch

from scorefield import app
from scorefield.runs import open_run

diffusers = pytest.importorskip("diffusers")

NETWORK: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (4, 8),
    "layers_per_block": 1,
}
NETWORK |= {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
NETWORK |= {"norm_num_groups": 2, "attention_head_dim": 4}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "noise": ({}, {"beta_schedule": "scaled_linear", "beta_start": 0.001, "num_train_timesteps": 100}),
    "classes": ({"num_class_embeds": 3}, {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}),
    "trained": ({}, {"trained_betas": [0.01, 0.1, 0.2], "prediction_type": "sample"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_imported_model_is_exported_as_it_came_and_imported_again_as_it_was(kind: str, tmp_path: Path) -> None:
    settings, schedule = KINDS[kind]
    torch.manual_seed(0)
    theirs = diffusers.UNet2DModel(**NETWORK, **settings).eval()
    scheduler = diffusers.DDPMScheduler(**schedule, clip_sample=False)
    diffusers.DDPMPipeline(theirs, scheduler).save_pretrained(tmp_path / "theirs")
    app.import_(tmp_path / "theirs", tmp_path / "run")
    report = app.export(tmp_path / "run", to="diffusers", out=tmp_path / "out")
    assert report.difference is not None and report.difference < 1e-5
    back = diffusers.DDPMPipeline.from_pretrained(tmp_path / "out")
    state = theirs.state_dict()
    assert back.unet.state_dict().keys() == state.keys()
    assert all(bool((value == state[name]).all()) for name, value in back.unet.state_dict().items())
    torch.testing.assert_close(back.scheduler.betas, scheduler.betas, rtol=1e-5, atol=0)
    assert back.scheduler.config.prediction_type == scheduler.config.prediction_type and not back.scheduler.config.clip_sample
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 2])
    more = {"class_labels": torch.tensor([2, 0, 1])} if settings else {}
    with torch.no_grad():
        assert bool((back.unet(x, t, **more).sample == theirs(x, t, **more).sample).all())
    app.import_(tmp_path / "out", tmp_path / "again")
    first, second = open_run(tmp_path / "run"), open_run(tmp_path / "again")
    assert first.manifest["model_sha256"] == second.manifest["model_sha256"]
    times = torch.arange(1, first.config.process.t_max + 1, dtype=torch.float64)
    for scale in ("alpha", "sigma"):
        ours, again = (getattr(run.config.process, scale)(times) for run in (first, second))
        torch.testing.assert_close(again, ours, rtol=1e-12, atol=0)
