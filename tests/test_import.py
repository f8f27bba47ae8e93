"""Imports: a pipeline that diffusers' own loop trained is a run here, and says what it said there.

Their tables of betas are float32, so sigma² has an error of about 6e-8 where it is 1e-4: of a sample that is a part in 1e5.
Samplers are compared on the same grid of their index + 1, from the same noise, with the same draws.
"""

import copy
import json
import math
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command, contents, double, each_case
from safetensors.torch import load_file, save_file
from torch import Tensor

from scorefield import SampleRng, ScorefieldError, app
from scorefield.drawn_field import as_drawn, field_of
from scorefield.likelihood import Hutchinson, log_prob
from scorefield.registry import find
from scorefield.runs import open_run
from scorefield.samplers import DDIM, Ancestral, DPMSolver, simulate
from scorefield.specs import SampleSpec

diffusers = pytest.importorskip("diffusers")

SIDES, ROWS = (8, 12), 4
BASE: dict[str, Any] = {
    "sample_size": SIDES,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (4, 8),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 2,
    "layers_per_block": 1,
    "attention_head_dim": 4,
}
FLAT = {"down_block_types": ("AttnDownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (4,)}
DESIGN: list[
    tuple[dict[str, Any], dict[str, Any]]
] = [  # of the network; of the scheduler: every setting twice, all pairs that meet
    ({}, {}),
    ({"num_class_embeds": 3, "layers_per_block": 2}, {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}),
    ({"resnet_time_scale_shift": "scale_shift"}, {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2"}),
    (
        {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4, "num_class_embeds": 2, "act_fn": "gelu"},
        {"prediction_type": "v_prediction", "beta_start": 0.00085, "beta_end": 0.012},
    ),
    (
        {
            "flip_sin_to_cos": False,
            "freq_shift": 1,
            "attention_head_dim": None,
            "time_embedding_dim": 12,
            "in_channels": 2,
            "out_channels": 2,
        },
        {"beta_schedule": "sigmoid"},
    ),
    ({**FLAT, "sample_size": (7, 5), "add_attention": False, "norm_eps": 1e-3}, {"num_train_timesteps": 50}),
    (
        {"downsample_padding": 0, "center_input_sample": True, "mid_block_scale_factor": 1.5},
        {"trained_betas": [0.01, 0.1, 0.2]},
    ),
    ({"out_channels": 2, "act_fn": "relu"}, {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2"}),
]
VIEW: dict[str, Callable[[Any], Tensor]] = {
    "epsilon": lambda seen: seen.noise,
    "sample": lambda seen: seen.denoised,
    "v_prediction": lambda seen: _over(seen.alpha) * seen.noise - _over(seen.sigma) * seen.denoised,
}


def _over(numbers: Tensor) -> Tensor:
    return numbers.reshape(-1, *(1,) * 3)


def network(**settings: Any) -> Any:
    """Theirs, with every weight moved at random, so that none hides a path."""
    torch.manual_seed(0)
    values = {**BASE, **settings}
    model = diffusers.UNet2DModel(**values).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model


def saved(folder: Path, model: Any, **scheduler: Any) -> Path:
    diffusers.DDPMPipeline(model, diffusers.DDPMScheduler(**scheduler)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """A pipeline after a few steps of the loop of their tutorial: the model, its scheduler, and the run that it became here."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(1)
    model = diffusers.UNet2DModel(**BASE)
    scheduler = diffusers.DDPMScheduler(clip_sample=False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(30):
        clean = torch.where(torch.rand(16, 1, *SIDES) < 0.5, -1.0, 1.0)
        noise, steps = torch.randn_like(clean), torch.randint(0, 1000, (16,))
        loss = (model(scheduler.add_noise(clean, noise, steps), steps).sample - noise).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    saved(folder / "pipeline", model.eval(), clip_sample=False)
    return model, scheduler, app.import_(folder / "pipeline", folder / "run").run


# --- equality ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("case", range(len(DESIGN)))
def test_an_imported_network_says_at_time_n_what_theirs_says_at_index_n_minus_1(
    case: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, scheduling = DESIGN[case]
    model = network(**settings)
    saved(tmp_path / "pipeline", model, **scheduling)
    scheduler = diffusers.DDPMScheduler(**scheduling)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "diffusers", None)  # it is not needed to import what it wrote
        run = app.import_(tmp_path / "pipeline", tmp_path / "run").run
    last = len(scheduler.betas)
    n = double(sorted({1, 2, last // 2, last}))
    process, theirs = run.config.process, scheduler.alphas_cumprod[n.long() - 1].double()
    torch.testing.assert_close(process.alpha(n) ** 2, theirs, rtol=1000 * torch.finfo(torch.float32).eps, atol=0)
    x = torch.randn(len(n), *run.shape, generator=torch.Generator().manual_seed(2))
    classes = settings.get("num_class_embeds")
    cond = None if classes is None else torch.arange(len(n)) % classes
    wanted = model(x, n.long() - 1, class_labels=cond).sample[:, : run.shape[0]].double()
    got = VIEW[scheduler.config.prediction_type](run.field(x.double(), n, cond))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
    assert run.classes == tuple(str(number) for number in range(classes or 0))
    if classes:
        with pytest.raises(ScorefieldError, match="knows nothing of data without one"):
            run.field(x.double(), n)


@torch.no_grad()
def test_a_network_that_is_told_sigma_becomes_the_score_of_a_process_that_explodes(tmp_path: Path) -> None:
    model = network(time_embedding_type="fourier")
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_min=0.02, sigma_max=9.0)
    diffusers.ScoreSdeVePipeline(model, scheduler).save_pretrained(tmp_path / "pipeline")
    run = app.import_(tmp_path / "pipeline", tmp_path / "run").run
    scheduler.set_sigmas(8, 0.02, 9.0)
    sigma = scheduler.discrete_sigmas.double()
    t = run.config.process.time_of_sigma(sigma)
    x = torch.randn(8, *run.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(run.config.process.sigma(t), sigma, rtol=1e-6, atol=0)  # their ends are rounded to float32
    # In float64 and at one sigma, for a phase is 2 pi·16·ln sigma times a normal number, and float32 has seven digits of it.
    ours, theirs = copy.deepcopy(run.field).double(), copy.deepcopy(model).double()
    torch.testing.assert_close(
        ours(x.double(), t).score, theirs(x.double(), run.config.process.sigma(t)).sample, rtol=1e-9, atol=1e-9
    )
    assert run.decode(double([0.0, 1.0])).tolist() == [0.0, 255.0]  # as its pipeline clips to [0, 1]


class Given(SampleRng):
    """The draws of a generator, as their schedulers make them."""

    def __init__(self, rows: int, seed: int) -> None:
        super().__init__(range(rows))
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, shape: Any = ()) -> Tensor:
        return torch.randn(len(self), *shape, dtype=torch.float64, generator=self.generator)


SAMPLERS = {
    "ddim": (DDIM(), "DDIMScheduler", {"timestep_spacing": "trailing"}, {}),
    "ddim with noise": (DDIM(eta=0.7), "DDIMScheduler", {"timestep_spacing": "leading"}, {"eta": 0.7}),
    "ddpm": (Ancestral("posterior"), "DDPMScheduler", {"variance_type": "fixed_small"}, {}),
    "ddpm, more noise": (Ancestral("transition"), "DDPMScheduler", {"variance_type": "fixed_large"}, {}),
    "dpm-solver++": (DPMSolver(), "DPMSolverMultistepScheduler", {"solver_type": "heun", "timestep_spacing": "trailing"}, {}),
}


@torch.no_grad()
@pytest.mark.parametrize("name", SAMPLERS)
def test_our_samplers_draw_from_an_imported_model_what_theirs_draw(name: str, trained: tuple[Any, Any, Any]) -> None:
    """In 10 steps, which divide 1,000. DDPM's last one is at index 0, without noise; at any other it would add some.

    DPM-Solver++ of order 2 integrates the line through two values as "heun" does; their "midpoint" differs from it by h³.
    """
    model, scheduler, run = trained
    sampler, kind, settings, how = SAMPLERS[name]
    other = getattr(diffusers, kind).from_config(scheduler.config, **settings)
    other.set_timesteps(10)
    start = torch.randn(ROWS, *run.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    wanted, generator = start, torch.Generator().manual_seed(7)
    how = how | ({} if name == "ddim" else {"generator": generator})
    for t in other.timesteps:
        said = model(wanted.float(), t.expand(ROWS)).sample.double()
        wanted = other.step(said, t, wanted, **how).prev_sample
    *_, last = simulate(run.field, sampler, other.timesteps.double() + 1, start, rng=Given(ROWS, 7))
    scale = max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(last.x / scale, wanted / scale, rtol=0, atol=1e-5)


CLIPPED = {
    "ddpm": (Ancestral("posterior"), "DDPMScheduler", {}),
    "ddim": (DDIM(), "DDIMScheduler", {"use_clipped_model_output": True}),  # without it the noise is that of no clipped image
}


@torch.no_grad()
@pytest.mark.parametrize("name", CLIPPED)
def test_samples_of_a_scheduler_that_clips_are_those_of_the_clipped_field(
    name: str, trained: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    model, scheduler, plain = trained
    run = app.import_(saved(tmp_path / "pipeline", model), tmp_path / "run").run  # clip_sample is their default
    assert run.config.clipped and not plain.config.clipped
    sampler, kind, how = CLIPPED[name]
    other = getattr(diffusers, kind).from_config(scheduler.config, clip_sample=True, timestep_spacing="trailing")
    other.set_timesteps(10)
    start = torch.randn(ROWS, *run.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    wanted, generator, cut = start, torch.Generator().manual_seed(7), 0.0
    for t in other.timesteps:
        said = model(wanted.float(), t.expand(ROWS)).sample.double()
        stepped = other.step(said, t, wanted, generator=generator, **how)
        wanted, cut = stepped.prev_sample, cut + float((stepped.pred_original_sample.abs() == 1).double().mean())
    assert cut > 0.1  # it has something to clip
    field = field_of(run, spec=as_drawn(run))
    *_, last = simulate(field, sampler, other.timesteps.double() + 1, start, rng=Given(ROWS, 7))
    torch.testing.assert_close(last.x, wanted, rtol=0, atol=1e-5)
    assert field_of(run) is run.field and field_of(run, spec=as_drawn(run, SampleSpec(clip_denoised="no"))) is run.field


def test_a_scheduler_that_clips_in_another_way_is_not_followed_and_that_is_said(
    trained: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    for name, settings, said in (
        ("wider", {"clip_sample_range": 2.0}, "clips the denoised image, not at [-1, 1]"),
        ("quantiles", {"clip_sample": False, "thresholding": True}, "clips at quantiles of each image"),
    ):
        run = app.import_(saved(tmp_path / name, trained[0], **settings), tmp_path / f"{name} run").run
        assert not run.config.clipped
        assert any(said in note for note in run.manifest["why"])


# --- closed form ------------------------------------------------------------------------------------------------------


def silenced(model: Any, value: float = 0.0) -> Any:
    """The model whose output is a constant."""
    with torch.no_grad():
        model.conv_out.weight.zero_()
        model.conv_out.bias.fill_(value)
    return model


def test_a_velocity_of_zero_is_imported_as_the_standard_normal_with_its_density(tmp_path: Path) -> None:
    """x0 ~ N(0, I): E[noise | x] = sigma·x and E[x0 | x] = alpha·x, so v = alpha·sigma·x - sigma·alpha·x = 0."""
    scheduler = {"prediction_type": "v_prediction", "num_train_timesteps": 20, "beta_end": 0.9}  # it ends without signal
    saved(tmp_path / "pipeline", silenced(network(**FLAT, sample_size=4)), **scheduler)
    run = app.import_(tmp_path / "pipeline", tmp_path / "run").run
    x = torch.randn(2, *run.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for n in (1.0, 7.5, 20.0):
        torch.testing.assert_close(run.field(x, double([n, n])).score, -x, rtol=1e-12, atol=0)
    found = log_prob(run.field, x, divergence=Hutchinson(), rng=SampleRng(range(2)), tolerance=1e-3)
    d = math.prod(run.shape)
    wanted = -0.5 * x.flatten(1).square().sum(1) - 0.5 * d * math.log(2 * math.pi)
    torch.testing.assert_close(found.value, wanted, rtol=0, atol=1e-3 * d)


def test_the_verbs_work_on_an_imported_run_and_know_a_model_of_one_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """E[x0 | x] = 1/2 everywhere: all data are that picture, 191.25 in pixels of 0 to 255, and so is every answer."""
    source, run = saved(tmp_path / "pipeline", silenced(network(), 0.5), prediction_type="sample"), tmp_path / "run"
    assert command("import", source, "--as", run) == 0
    said = capsys.readouterr().out
    assert "a diffusers pipeline (DDPMPipeline)" in said and f"Now try: scorefield sample {run}" in said
    assert "clips the denoised image at every step" in said
    assert command("sample", run, "-n", 3, "--out", tmp_path / "some.npz") == 0
    drawn = np.load(tmp_path / "some.npz")
    assert (next(iter(drawn.values())) == 191).all()
    assert "20 levels, 20 evaluations" in capsys.readouterr().out
    assert command("inspect", run) == 0
    shown = capsys.readouterr().out
    assert "imported" in shown and "0 steps" not in shown
    picture = tmp_path / "one.npy"
    np.save(picture, np.full(SIDES, 191, dtype=np.uint8))
    operator = ("--operator", "mask:random:0.5", "--simulate", "--noise", "5", "--samples", "2", "--device", "cpu")
    assert command("restore", run, picture, *operator, "--out", tmp_path / "restored") == 0
    answers = [np.load(path) for path in sorted((tmp_path / "restored").rglob("*mean*.npy"))]
    rest = 127.5 * 0.01  # the noise of the last level, which a draw of the posterior keeps
    assert len(answers) == 1 and np.abs(answers[0].astype(float) - 191.25).max() < 5 * rest / math.sqrt(2) + 0.75
    assert command("denoise", run, picture, "--sigma", "10", "--out", tmp_path / "denoised") == 0
    capsys.readouterr()
    for verb in ("evaluate", "tune", "likelihood"):
        assert command(verb, run) == 2
        assert "imported without any, expected some to compare it with: name their place with --data" in capsys.readouterr().err


# --- data that are given later ----------------------------------------------------------------------------------------


def test_an_imported_run_is_measured_by_any_data_of_its_shape_and_range(trained: tuple[Any, Any, Any], tmp_path: Path) -> None:
    run = trained[2]
    pixels = np.random.default_rng(0).integers(0, 256, (60, *SIDES), dtype=np.uint8)
    np.save(tmp_path / "own.npy", pixels)
    data = open_run(run.path, tmp_path / "own.npy").data
    assert data.normaliser == run.normaliser and data.shape == run.shape
    assert float(data.x0(slice(None)).abs().max()) <= 1
    first, second = open_run(run.path, tmp_path / "own.npy"), open_run(run.path, 255 - pixels)
    assert "" != first.fingerprint != second.fingerprint != ""  # what is stored of one is not taken for the other
    assert run.stale({"made_from": first.made_from}) is None  # but either is a measurement of this run
    assert first.stale({"made_from": second.made_from}) is not None
    with pytest.raises(ScorefieldError, match=r"images of shape \(3, 8, 12\) .* expected images of shape \(1, 8, 12\)"):
        _ = open_run(run.path, np.stack([pixels] * 3, axis=-1)).data
    with pytest.raises(ScorefieldError, match=r"got values from 0 to 1 in .*, expected 0 to 255, as the run's: convert them"):
        _ = open_run(run.path, pixels[..., None].astype(np.float32) / 255).data
    with pytest.raises(ScorefieldError, match="trained on, expected the same"):
        app.train(tmp_path / "own.npy", out=run.path, resume=True, steps=1)


# --- other forms of the same weights ----------------------------------------------------------------------------------


@torch.no_grad()
def test_old_names_a_prefix_pickles_of_tensors_parts_and_a_plain_folder_give_the_same_run(tmp_path: Path) -> None:
    source = saved(tmp_path / "pipeline", network(), beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    wanted = contents(app.import_(source, tmp_path / "run").run.path)["model.safetensors"]
    weights = load_file(source / "unet" / "diffusion_pytorch_model.safetensors")
    plain = tmp_path / "plain"
    shutil.copytree(source / "unet", plain)
    (plain / "diffusion_pytorch_model.safetensors").unlink()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = dict(weights)
    for now, before in old.items():
        renamed = {key.replace(f".{now}.", f".{before}."): value for key, value in renamed.items()}
    assert len(renamed.keys() - weights.keys()) >= 4 * 8
    torch.save({f"module.{key}": value for key, value in renamed.items()}, plain / "diffusion_pytorch_model.bin")
    said = ["beta_schedule=squaredcos_cap_v2", "prediction_type=v_prediction"]
    report = app.import_(plain, tmp_path / "of plain", settings=said)
    assert contents(report.run.path)["model.safetensors"] == wanted
    assert report.run.config.process == open_run(tmp_path / "run").config.process
    assert report.found == "a UNet2DModel of diffusers" and "beta_start=0.0001" in report.notes[0]
    assert "beta_schedule" not in report.notes[0]  # what was said is not assumed
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for name, keys in parts.items():
        save_file({key: weights[key] for key in keys}, plain / name)
    index = {"weight_map": {key: name for name, keys in parts.items() for key in keys}}
    (plain / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert contents(app.import_(plain, tmp_path / "of parts", settings=said).run.path)["model.safetensors"] == wanted


def test_names_of_classes_and_the_range_of_the_data_can_be_said(tmp_path: Path) -> None:
    source = saved(tmp_path / "pipeline", network(num_class_embeds=2))
    run = app.import_(source, tmp_path / "run", settings=["classes=cat,dog", "range=0,400"]).run
    assert run.classes == ("cat", "dog")
    assert run.decode(double([-1.0, 1.0, 2.0])).tolist() == [0.0, 400.0, 400.0]
    report = app.sample(run.path, n=2, label="dog", out=tmp_path / "dogs.npz")
    assert report.written


# --- refusals ---------------------------------------------------------------------------------------------------------


class Code:
    def __reduce__(self) -> Any:
        return (print, ("this ran",))


def edit(path: str, **changes: Any) -> Callable[[Path], None]:
    def done(source: Path) -> None:
        values = json.loads((source / path).read_text())
        (source / path).write_text(json.dumps({**values, **changes}))

    return done


def tensors(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def done(source: Path) -> None:
        path = source / "unet" / "diffusion_pytorch_model.safetensors"
        found = load_file(path)
        change(found)
        save_file(found, path)

    return done


def pickled(source: Path) -> None:
    (source / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"conv_in.weight": Code()}, source / "unet" / "diffusion_pytorch_model.bin")


def emptied(source: Path) -> None:
    for path in (source / "model_index.json", source / "unet" / "config.json"):
        path.unlink()


def cut(source: Path) -> None:
    path = source / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


UNET, SCHEDULER = "unet/config.json", "scheduler/scheduler_config.json"
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "latents": (edit("model_index.json", vae=["diffusers", "AutoencoderKL"]), "with 'vae', whose network works on latents"),
    "text": (
        edit("model_index.json", text_encoder=["transformers", "CLIPTextModel"]),
        "'text_encoder', which is conditioned on a text",
    ),
    "another network": (edit(UNET, _class_name="UNet2DConditionModel"), "a UNet2DConditionModel in .* expected a UNet2DModel"),
    "a scheduler": (
        edit(SCHEDULER, _class_name="DPMScheduler"),
        "unknown scheduler 'DPMScheduler': did you mean .*'DDPMScheduler'",
    ),
    "betas": (edit(SCHEDULER, beta_schedule="scaled"), "unknown beta_schedule 'scaled': did you mean 'scaled_linear'"),
    "output": (edit(SCHEDULER, prediction_type="eps"), "unknown prediction_type 'eps': did you mean 'epsilon'"),
    "no signal": (edit(SCHEDULER, rescale_betas_zero_snr=True), "whose last step keeps nothing of the data"),
    "a negative beta": (edit(SCHEDULER, beta_start=-0.1), "got -0.1 for scheduler.beta_first"),
    "a block": (edit(UNET, down_block_types=["DownBlock2D", "AtnDownBlock2D"]), "did you mean 'AttnDownBlock2D'"),
    "a skip block": (
        edit(UNET, up_block_types=["SkipUpBlock2D", "UpBlock2D"]),
        "unknown block of a UNet2DModel 'SkipUpBlock2D'",
    ),
    "a setting": (edit(UNET, gated=True), "unknown setting of config.json 'gated'"),
    "an activation": (edit(UNET, act_fn="sillu"), "did you mean 'silu'"),
    "told what": (edit(UNET, class_embed_type="timestep"), "got class_embed_type='timestep' in config.json, expected None"),
    "no size": (edit(UNET, sample_size=None), "say --set sample_size=32"),
    "an odd size": (edit(UNET, sample_size=7), r"got samples of shape \(1, 7, 7\) .* sides that 2 divides"),
    "channels": (edit(UNET, block_out_channels=[4, 9]), "got 9 channels for norm_num_groups=2, expected a multiple"),
    "fourier": (edit(UNET, time_embedding_type="fourier"), "fourier with ScoreSdeVeScheduler: correct the configs"),
    "more layers": (edit(UNET, layers_per_block=2), r"without 'down_blocks.0.resnets.1.norm1.weight' and \d+ more"),
    "a lost tensor": (
        tensors(
            lambda found: found.update({"mid_block.attentions.0.to_w.bias": found.pop("mid_block.attentions.0.to_q.bias")})
        ),
        r"without 'mid_block.attentions.0.to_q.bias', .* \(nearest: 'mid_block.attentions.0.to_w.bias'\)",
    ),
    "a tensor too many": (
        tensors(lambda found: found.update(ema=torch.zeros(1))),
        "with 'ema', which its architecture does not",
    ),
    "a shape": (
        tensors(lambda found: found.update({"conv_in.bias": torch.zeros(5)})),
        r"got 'conv_in.bias' of shape \(5,\) in .*, expected \(4,\)",
    ),
    "NaN": (tensors(lambda found: found["conv_in.bias"].fill_(math.nan)), "got 'conv_in.bias' in .* with NaN"),
    "code": (pickled, "a pickle of more than tensors, which would be run as code"),
    "a file cut short": (cut, "that cannot be read"),
    "no weights": (
        lambda source: shutil.move(source / "unet" / "diffusion_pytorch_model.safetensors", source / "a"),
        "no diff",
    ),
    "no config": (lambda source: (source / UNET).unlink(), "expected the settings of a part of the pipeline: restore it"),
    "a damaged index": (lambda source: (source / "model_index.json").write_text("[1"), "model_index.json"),
    "nothing known": (emptied, "whose layout is not known, expected .*a diffusers pipeline"),
    "nothing": (lambda source: shutil.rmtree(source), "where nothing is, expected"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("whole") / "pipeline", network())


@each_case(case=list(BAD))
def test_what_cannot_be_imported_is_refused_in_a_sentence_and_nothing_is_written(
    case: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = BAD[case]
    source = tmp_path / "pipeline"
    shutil.copytree(whole, source)
    change(source)
    monkeypatch.chdir(tmp_path)
    assert command("import", source, "--as", "new") == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("scorefield: ") and said.err.count("\n") == 1
    with pytest.raises(ScorefieldError, match=message):
        app.import_(source, "new")
    assert not list(tmp_path.glob("runs*")) and "this ran" not in said.err


def test_wrong_words_are_refused_and_a_bare_name_is_a_folder_of_runs(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for setting, message in {
        "prediction_typ=sample": "unknown setting of diffusers .* did you mean 'prediction_type'",
        "sample": "got --set 'sample', expected name=value",
        "classes=a,b": "got 2 names of classes for a network of 0",
        "range=5,5": "the smallest and the largest value",
    }.items():
        with pytest.raises(ScorefieldError, match=message):
            app.import_(whole, "new", settings=[setting])
    (tmp_path / "network.pkl").write_bytes(pickle.dumps(Code()))
    with pytest.raises(ScorefieldError, match=r"carries code that would be run.*state_dict"):
        app.import_(tmp_path / "network.pkl", "new")
    assert not (tmp_path / "runs").exists()
    run = app.import_(whole, "new").run
    assert run.path == Path("runs/new") and {path.name for path in run.path.iterdir()} == {
        "config.json",
        "manifest.json",
        "model.safetensors",
    }
    before = contents(run.path)
    for name, message in {
        "new": "runs/new is there already",
        "": "expected the name of a new folder",
        ".": "new folder",
    }.items():
        with pytest.raises(ScorefieldError, match=message):
            app.import_(whole, name)
    assert contents(run.path) == before


def test_the_layout_and_the_network_are_known_by_name() -> None:
    assert find("checkpoint", "diffusers").description and find("network", "unet2d")().block_out_channels == (32, 64)
