"""Exports: what another library computes from the files is what the run computes; a shared folder tells nothing of a machine.

The runs are tiny and have random weights, every one of them moved, so that no zero hides a path. What is wanted is computed
from the run's field at its own times; what is exported is asked at sigma/alpha, which undoes the process another way.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import between, command, contents, each_case, shaken
from safetensors.torch import load_file, save_file
from torch import Tensor

from scorefield import SampleRng, ScorefieldError, app, files
from scorefield.config import to_dict
from scorefield.interchange import to_diffusers, to_onnx
from scorefield.interchange.denoiser import Denoiser, exportable, facts, probes
from scorefield.interchange.portable import without_paths
from scorefield.interchange.self_contained import source_of
from scorefield.levels import ladder_of
from scorefield.models import build_model, classes_of
from scorefield.runs import Run, manifest_of, open_run, save_model
from scorefield.samplers import DDIM, Euler, Heun, simulate
from scorefield.shapes import over
from scorefield.specs import TrainSpec
from scorefield.training.resolve import resolve

OLD = Path(__file__).parent / "runs"
WEIGHTS = Path("unet") / "diffusion_pytorch_model.safetensors"
DOCS = Path(__file__).parents[1] / "docs" / "guides" / "interchange.md"
UNET = ("network=unet", "network.blocks=1")
MLP = ("network.width=16", "network.depth=1", "data.examples=200")
NUMBERS = np.random.default_rng(0)
RUNS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "image": ("digits", (*UNET, "network.channels=[8]", "autoguidance=1.5")),
    "signal": (
        NUMBERS.normal(size=(60, 2, 13)),
        (*UNET, "network.channels=8,16", "network.attention=false", "network.patch=2", "process=cosine", "parametrisation=v"),
    ),
    "vector": ("two-moons", (*MLP, "process=ddpm-chain", "parametrisation=noise")),
    "energy": ("two-moons", (*MLP, "process=ddpm-chain", "parametrisation=energy")),
    "levels": (
        "digits",
        (
            *("network=residual", "network.width=8", "network.blocks=2", "network.levels=10", "training.labels=1"),
            *("parametrisation=scaled-score", "parametrisation.noise_label=10", "ladder=geometric"),
        ),
    ),
    "time": ("two-moons", (*MLP, "process=vp", "parametrisation=velocity", "parametrisation.noise_label=t")),
    "named signal": (
        {"signals": NUMBERS.normal(size=(60, 13, 2)), "labels": np.arange(60) % 3},
        (*UNET, "network.channels=[8]", "network.attention=false", "network.patch=1", "process=sub-vp", "data.axes=tc"),
    ),
    "named vector": (
        {"vectors": NUMBERS.normal(3, 2, size=(60, 4)), "labels": np.array(["a", "b"])[np.arange(60) % 2]},
        (*MLP[:2], "parametrisation=denoised", "training.labels=1"),
    ),
}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run of a name, made when it is asked for first."""
    place = tmp_path_factory.mktemp("runs")

    @functools.cache
    def made(name: str) -> Run:
        source, settings = RUNS[name]
        if isinstance(source, dict):
            np.savez(place / f"{name}.npz", **source)
            source = str(place / f"{name}.npz")
        elif not isinstance(source, str):
            np.save(place / f"{name}.npy", source)
            source = str(place / f"{name}.npy")
        asked = resolve(source, TrainSpec(steps=1, settings=settings))
        classes = classes_of(asked.config, asked.data.classes)
        model = build_model(asked.config, asked.data.shape, asked.stats.std, asked.stats.mean, classes=classes)
        manifest = manifest_of(asked.data, asked.stats.std, asked.reasons, 1, str(place / "secret" / f"{name}.npy"))
        manifest["progress"]["step"] = 1
        (place / name).mkdir()
        shaken(model.network).float()
        save_model(place / name, model, manifest)
        files.write_json(place / name / "config.json", to_dict(asked.config))
        return open_run(place / name)

    return made


@pytest.fixture(scope="module")
def exported(run_of: Any) -> Any:
    """The folder of a run's export, made when it is asked for first."""

    @functools.cache
    def made(name: str, to: str) -> Path:
        pytest.importorskip({"onnx": "onnxscript", "diffusers": "diffusers"}.get(to, "torch"))
        report = app.export(run_of(name).path, to)
        assert report.difference is None or report.difference < 1e-5
        return report.folder

    return made


def asked(run: Run, count: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Noisy samples z = x_t/alpha, their sigma/alpha, classes of which one is none, and the run's denoised samples."""
    process, field = run.config.process, run.field
    t = torch.tensor([between(process, share) for share in np.linspace(0.02, 0.97, count)], dtype=torch.float64)
    t = t.round() if process.discrete else t
    lam = process.sigma(t) / process.alpha(t)
    z = torch.randn((count, *run.shape), generator=torch.Generator().manual_seed(1))
    z = field.data_mean + over((field.data_std**2 + lam**2).sqrt(), z) * z
    classes = len(run.classes)
    labels = torch.arange(count) % (classes + field.unconditional) - int(field.unconditional) if classes else None
    cond = None if labels is None else torch.where(labels < 0, classes, labels)
    with torch.no_grad():
        return z, lam, labels, field(over(process.alpha(t), z) * z, t, cond).denoised


# --- ONNX -------------------------------------------------------------------------------------------------------------


def session_of(folder: Path) -> Any:
    return pytest.importorskip("onnxruntime").InferenceSession(str(folder / "model.onnx"))


@pytest.mark.parametrize("name", ["image", "signal", "energy"])
def test_onnxruntime_computes_the_runs_denoised_samples_at_any_batch_size(name: str, run_of: Any, exported: Any) -> None:
    run, folder = run_of(name), exported(name, "onnx")
    session = session_of(folder)
    for count in (1, 9):
        z, lam, labels, wanted = asked(run, count)
        given = {"x": z.numpy(), "sigma": lam.float().numpy()} | ({} if labels is None else {"label": labels.numpy()})
        (got,) = session.run(["denoised"], given)
        assert got.dtype == np.float32 and np.abs(got - wanted.numpy()).max() < 1e-5 * max(1.0, float(wanted.abs().max()))
    assert [one.type for one in session.get_inputs()] == ["tensor(float)", "tensor(float)", "tensor(int64)"][: len(given)]
    assert set(contents(folder)) == {"model.onnx", "model.json"}  # no weights beside it


def test_an_onnx_file_says_what_is_needed_to_use_it(run_of: Any, exported: Any) -> None:
    run, folder = run_of("image"), exported("image", "onnx")
    about, meta = json.loads((folder / "model.json").read_text()), session_of(folder).get_modelmeta()
    assert {key: json.loads(value) for key, value in meta.custom_metadata_map.items()} == about
    (opset,) = (one.version for one in pytest.importorskip("onnx").load(folder / "model.onnx").opset_import if not one.domain)
    assert about["opset"] == opset and meta.producer_name == "scorefield"
    assert about["classes"] == list("0123456789") and about["unconditional"] and about["kind"] == "image"
    x = torch.linspace(-1.2, 1.2, 64).reshape(1, 1, 8, 8)
    raw = np.clip(x.numpy() * np.array(about["scale"]) + np.array(about["shift"]), about["low"], about["high"])
    assert np.abs(raw - run.decode(x).numpy()).max() < 1e-5


def test_the_sampler_of_the_docs_needs_only_onnxruntime_and_draws_what_euler_draws_here(run_of: Any, exported: Any) -> None:
    text = DOCS.read_text(encoding="utf-8")
    (source,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "onnxruntime" in block)
    assert len(source.splitlines()) <= 30 and set(re.findall(r"^(?:import|from) (\w+)", source, re.M)) == {
        "json",
        "numpy",
        "onnxruntime",
    }
    run, names = run_of("image"), dict[str, Any]()
    exec(source, names)
    labels = np.array([-1, 3, 9])
    got = names["draw"](str(exported("image", "onnx")), labels, seed=2)
    about = json.loads((exported("image", "onnx") / "model.json").read_text())
    ladder = run.config.process.time_of_sigma(torch.tensor(about["sigmas"], dtype=torch.float64))
    noise = np.random.default_rng(2).standard_normal((3, 1, 8, 8))
    start = np.array(about["mean"]) + np.hypot(about["std"], about["sigmas"][0]) * noise
    cond = torch.tensor([10, 3, 9])
    *_, last = simulate(run.field, Euler(), ladder, torch.tensor(start), rng=SampleRng(range(3)), cond=cond)
    assert np.abs(got - run.decode(last.x).numpy()).max() < 1e-4 * 16


def test_of_a_distilled_run_the_generator_is_exported(run_of: Any, tmp_path: Path) -> None:
    run = run_of("vector")
    fast = tmp_path / "fast"
    shutil.copytree(run.path, fast)
    other = build_model(run.config, run.shape, 1.0)
    shaken(other.network, seed=5).float()
    manifest = run.manifest | {"distilled": {"evaluations": 2, "from": str(run.path)}}
    save_model(fast, other, manifest)
    (fast / "model.safetensors").rename(fast / "generator.safetensors")
    shutil.copy(run.path / "model.safetensors", fast)
    manifest |= {"generator_sha256": manifest["model_sha256"], "model_sha256": run.manifest["model_sha256"]}
    files.write_json(fast / "manifest.json", manifest)
    opened = open_run(fast)
    model = exportable(opened, "onnx")
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())
    about = facts(opened, model)
    assert about["output"] == "a draw of x0 given x" and len(about["sigmas"]) == 2
    with pytest.raises(ScorefieldError, match="a generator, which no scheduler of diffusers draws with"):
        app.export(fast, "diffusers")
    assert app.sample(app.export(fast, "hub").folder, n=2, out=tmp_path / "two.npy").evaluations == 2


# --- diffusers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipeline_of(exported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The pipeline of a run as diffusers loads it."""
    diffusers = pytest.importorskip("diffusers")
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    def loaded(name: str) -> Any:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(exported(name, "diffusers"), trust_remote_code=True)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return loaded


@pytest.mark.parametrize("name", ["image", "signal", "vector", "levels", "time"])
def test_the_model_of_a_pipeline_computes_v_of_the_runs_denoised_samples(name: str, run_of: Any, exported: Any) -> None:
    """D = alpha·x - sigma·v of x = alpha·z, alpha² + sigma² = 1, at the run's own levels, between those of the table."""
    model, run = to_diffusers.loaded(exported(name, "diffusers")), run_of(name)
    z, lam, labels, wanted = asked(run, 9)
    table = model.table[:: model.config.rows_per_time, 0].double().numpy()
    time = torch.tensor(np.interp(lam.log().numpy(), table, np.arange(len(table))))  # as their schedulers find it
    alpha, sigma = (over(part, z) for part in (1 / (1 + lam**2).sqrt(), lam / (1 + lam**2).sqrt()))
    with torch.no_grad():
        v = model(alpha * z, time, labels).sample
    assert float((alpha**2 * z - sigma * v - wanted).abs().max()) < 1e-5 * max(1.0, float(wanted.abs().max()))


def test_eulers_scheduler_takes_our_euler_steps_on_the_runs_own_ladder(run_of: Any, pipeline_of: Any) -> None:
    run, pipeline = run_of("image"), pipeline_of("image")
    noise = torch.randn((4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([-1, 0, 5, 9])
    got = pipeline(4, num_inference_steps=10, class_labels=labels, noise=noise).samples
    ladder = ladder_of(run.field, run.config.sampler.ladder, 10)
    cond, rng = torch.where(labels < 0, 10, labels), SampleRng(range(4))
    top = float(run.config.process.sigma(ladder[0]))
    start = run.field.data_mean + (run.field.data_std**2 + top**2) ** 0.5 * noise
    *_, last = simulate(run.field, Euler(), ladder, start, rng=rng, cond=cond)
    assert np.abs(got - run.decode(last.x).numpy()).max() < 1e-4 * 16  # of 17 levels
    drawn = pipeline(8, num_inference_steps=3, generator=torch.Generator().manual_seed(1)).samples
    assert drawn.shape == (8, 1, 8, 8) and 0 <= drawn.min() and drawn.max() <= 16


@pytest.mark.parametrize("name", ["vector", "signal"])
def test_euler_heun_and_ddim_of_the_library_draw_what_ours_draw_on_their_levels(
    name: str, run_of: Any, pipeline_of: Any
) -> None:
    """DDIM's own levels are right at numbers of steps that divide 1,000, "trailing"."""
    import diffusers

    run, pipeline = run_of(name), pipeline_of(name)
    noise, levels = torch.randn((4, *run.shape), generator=torch.Generator().manual_seed(0)), pipeline.scheduler.alphas_cumprod
    spaced = {"DDIMScheduler": {"timestep_spacing": "trailing"}}
    for kind, sampler in {"DDIMScheduler": DDIM(), "HeunDiscreteScheduler": Heun(), "EulerDiscreteScheduler": Euler()}.items():
        scheduler = getattr(diffusers, kind).from_config(pipeline.scheduler.config, **spaced.get(kind, {}))
        assert not getattr(scheduler.config, "clip_sample", False)
        pipeline.scheduler = scheduler
        got = pipeline(4, num_inference_steps=10, noise=noise).samples
        times = torch.tensor(list(dict.fromkeys(scheduler.timesteps.tolist())), dtype=torch.float64)
        lam = np.interp(times.numpy(), np.arange(len(levels)), (0.5 * ((1 - levels.double()) / levels.double()).log()).numpy())
        ladder = run.config.process.time_of_sigma(torch.tensor(lam).exp())
        alpha, sigma = run.config.process.alpha(ladder[0]), run.config.process.sigma(ladder[0])
        start = alpha * run.field.data_mean + ((alpha * run.field.data_std) ** 2 + sigma**2) ** 0.5 * noise
        *_, last = simulate(run.field, sampler, ladder, start, rng=SampleRng(range(4)))
        wanted = run.decode(last.x).numpy()
        assert np.abs(got - wanted).max() < 1e-4 * max(1.0, np.abs(wanted).max()), kind


@each_case(name=["image", "signal", "vector", "levels", "time", "named signal", "named vector"])
def test_an_exported_pipeline_comes_back_as_the_run_that_it_was(
    name: str, run_of: Any, pipeline_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the library itself, which loads it and saves it again; nothing of its source is executed here."""
    run = run_of(name)
    pipeline_of(name).save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").rglob("*.py"):
        path.write_text("raise AssertionError('executed')")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "diffusers", None)
        back = app.import_(tmp_path / "saved", tmp_path / "back").run
    z, _, _, wanted = asked(run, 9)
    assert torch.equal(asked(back, 9)[0], z)  # the same process and moments
    assert float((asked(back, 9)[3] - wanted).abs().max()) < 1e-5 * max(1.0, float(wanted.abs().max()))
    assert (back.kind, back.shape, back.classes, back.layout) == (run.kind, run.shape, run.classes, run.layout)
    assert back.normaliser == run.normaliser and back.manifest["data"]["std"] == run.manifest["data"]["std"]
    assert back.config == replace(run.config, source=back.config.source, autoguidance=1.0)  # its early weights stay behind
    assert any("without autoguidance" in why for why in back.manifest["why"]) == (name == "image")
    drawn = [np.load(app.sample(one.path, n=3, out=tmp_path / f"{i}.npz").written[0]) for i, one in enumerate((run, back))]
    for one, other in zip(drawn[0].values(), drawn[1].values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_pipeline_that_learned_elsewhere_comes_back_with_its_new_weights(
    run_of: Any, pipeline_of: Any, tmp_path: Path
) -> None:
    run, pipeline = run_of("image"), pipeline_of("image")
    shaken(pipeline.unet.network).float()
    pipeline.save_pretrained(tmp_path / "saved")
    back = app.import_(tmp_path / "saved", tmp_path / "back").run
    z, lam, labels, before = asked(run, 9)
    got = asked(back, 9)[3]
    assert float((got - before).abs().max()) > 0.1
    table = pipeline.unet.table[:: pipeline.unet.config.rows_per_time, 0].double().numpy()
    time = torch.tensor(np.interp(lam.log().numpy(), table, np.arange(len(table))))
    alpha, sigma = (over(part, z) for part in (1 / (1 + lam**2).sqrt(), lam / (1 + lam**2).sqrt()))
    with torch.no_grad():
        wanted = alpha**2 * z - sigma * pipeline.unet(alpha * z, time, labels).sample
    assert float((got - wanted).abs().max()) < 1e-5 * max(1.0, float(wanted.abs().max()))


def test_a_pipeline_whose_parts_disagree_does_not_come_back(
    exported: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, path = exported("vector", "diffusers"), Path("unet") / "config.json"
    config = json.loads((whole / path).read_text())

    def said(**changes: Any) -> dict[str, Any]:
        about = config["about"]
        return {**config, "about": {**about, "run": {**about["run"], "config": {**about["run"]["config"], **changes}}}}

    def without(name: str, **more: Any) -> dict[str, Any]:
        about = config["about"]
        data = {key: value for key, value in about["run"]["data"].items() if key != name} | more
        return {**config, "about": {**about, "run": {**about["run"], "data": data}}}

    other = said(network={**config["about"]["run"]["config"]["network"], "width": 8})
    old = {**config, "about": {key: value for key, value in config["about"].items() if key != "run"}}
    for number, (message, values) in enumerate(
        {
            "without the settings of its run ('run'), expected them in its config.json: export the run again": old,
            "got a table of noise levels in": said(process={"name": "cosine"}),
            "table of": said(parametrisation={"name": "v"}),
            "of shape": other,
            "unknown process 'vpp': did you mean 'vp'": said(process={"name": "vpp"}),
            "without the settings of its run ('std')": without("std"),
            "without the settings of its run (could not convert": without("std", std="wide"),
            "without the settings of its run (kind 'table'": without("kind", kind="table"),
            "without the settings of its run (kind 'vector' with Energy": said(parametrisation={"name": "energy"}),
            "(torch.float16) that differs from that of its settings": config,
        }.items()
    ):
        source = tmp_path / str(number)
        shutil.copytree(whole, source)
        files.write_json(source / path, values)
        if values is config:
            weights = load_file(source / WEIGHTS)
            save_file({key: value.half() for key, value in weights.items()}, source / WEIGHTS)
        assert command("import", source, "--as", tmp_path / "new") == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert command("import", whole, "--as", tmp_path / "new", "--set", "prediction_type=epsilon") == 2
    assert "was exported from here and says all itself" in " ".join(capsys.readouterr().err.split())
    assert command("import", exported("vector", "hub"), "--as", tmp_path / "new") == 2
    assert "is a run already, expected a model of elsewhere: use it as it is" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()
    weights = load_file(whole / WEIGHTS)
    source = Path(shutil.copytree(whole, tmp_path / "prefixed"))
    save_file({f"module.{key}": value for key, value in weights.items()}, source / WEIGHTS)  # of training on several devices
    assert torch.equal(app.import_(source, tmp_path / "new").run.field.data_mean.float(), weights["data_mean"])


def test_a_run_of_an_older_version_comes_back_from_an_exported_pipeline(tmp_path: Path) -> None:
    """It records no layout of its data, and has no autoguidance."""
    pytest.importorskip("diffusers")
    run = open_run(Path(shutil.copytree(OLD / "0.4" / "flow", tmp_path / "old")))
    back = app.import_(app.export(run.path, "diffusers").folder, tmp_path / "back").run
    assert (back.kind, back.shape, back.layout, back.config.autoguidance) == (run.kind, run.shape, run.layout, 1.0)
    torch.testing.assert_close(asked(back, 5)[3], asked(run, 5)[3], rtol=1e-5, atol=1e-5)


def test_an_exported_file_of_source_imports_nothing_of_scorefield(exported: Any) -> None:
    for path in ("unet/model.py", "pipeline.py"):
        tree = ast.parse((exported("image", "diffusers") / path).read_text())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in imported} <= {
            *("__future__", "dataclasses", "diffusers", "math", "numpy", "torch", "typing")
        }


def test_a_source_that_defines_one_name_twice_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(
        "from scorefield.nets.embeddings import NoiseEmbedding as Other\n\n\nclass NoiseEmbedding(Other):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ScorefieldError, match="got NoiseEmbedding in two modules"):
        source_of("ours", "NoiseEmbedding")


# --- hub --------------------------------------------------------------------------------------------------------------


def test_a_shared_folder_opens_again_and_draws_the_same_bytes(run_of: Any, exported: Any, tmp_path: Path) -> None:
    drawn = [
        app.sample(path, n=3, steps=3, out=tmp_path / f"{i}.npy")
        for i, path in enumerate((run_of("image").path, exported("image", "hub")))
    ]
    assert drawn[0].written and (tmp_path / "0.npy").read_bytes() == (tmp_path / "1.npy").read_bytes()


def test_a_shared_folder_holds_no_path_of_the_machine(run_of: Any, tmp_path: Path) -> None:
    run = run_of("signal")
    own = tmp_path / "own folder"
    shutil.copytree(run.path, own)
    manifest = json.loads((own / "manifest.json").read_text())
    manifest["why"] += [f"read from {manifest['data']['path']}", f"distilled from {own} to 1 evaluations", "ratio a/b = 2"]
    manifest["distilled"] = {"evaluations": 1, "from": str(own)}
    files.write_json(own / "manifest.json", manifest)
    made = {"made_from": open_run(own).made_from, "baseline": {"name": "/data/of others/x.npy"}}
    files.write_json(own / "quality.json", made | {"figures": {}, "labels": {}, "floor": {}, "samples": 1, "reference": 1})
    folder = app.export(own, "hub", out=tmp_path / "shared").folder
    text = {name: content.decode() for name, content in contents(folder).items() if not name.endswith(".safetensors")}
    assert set(text) == {"README.md", "config.json", "manifest.json", "quality.json"}
    for one in text.values():
        assert str(tmp_path) not in one and str(run.path.parent) not in one and "secret" not in one and "/data" not in one
    assert "ratio a/b = 2" in text["manifest.json"] and "distilled from own folder to 1" in text["manifest.json"]
    assert (
        json.loads(text["config.json"])["source"] == "signal.npy" and json.loads(text["manifest.json"])["data"]["path"] is None
    )
    assert open_run(folder).field is not None


@each_case(
    pair={
        "home": ("~/runs/cats of mine", "cats of mine"),
        "absolute": ("from /a/b/c.csv, d", "from c.csv, d"),
        "windows": (r"C:\data\x.npy", "x.npy"),
        "ratio": ("km/h and/or 1/2", "km/h and/or 1/2"),
        "address": ("https://example.org/a/b", "https://example.org/a/b"),
    }
)
def test_only_paths_are_shortened(pair: tuple[str, str]) -> None:
    assert without_paths([pair[0]]) == [pair[1]]


def test_a_model_card_is_read_by_the_hub_and_renders(run_of: Any, exported: Any, tmp_path: Path) -> None:
    hub, markdown = pytest.importorskip("huggingface_hub"), pytest.importorskip("markdown_it")
    card = hub.ModelCard((exported("image", "hub") / "README.md").read_text())
    assert card.data.library_name == "scorefield" and card.data.pipeline_tag == "unconditional-image-generation"
    assert card.data.license is None and "No licence was chosen" in card.text and "Not measured" in card.text
    own = tmp_path / "a|b`c"
    shutil.copytree(run_of("image").path, own)
    figures = {"fd": {"value": 1.25, "standard_error": 0.1}}
    quality = {"figures": figures, "floor": figures, "labels": {"fd": "Frechet distance"}, "better": {"fd": "lower"}}
    quality |= {"samples": 100, "reference": 50, "verdict": ["Close to real."], "made_from": open_run(own).made_from}
    files.write_json(own / "quality.json", quality)
    folder = app.export(own, "hub", out=tmp_path / "new", license="My own terms").folder
    card = hub.ModelCard((folder / "README.md").read_text())
    assert (card.data.license, card.data.license_name) == ("other", "My own terms")
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("fd", 1.25, "digits")
    html = markdown.MarkdownIt("commonmark").enable("table").render(card.text)
    assert html.count("<table>") == 3 and "<td>Frechet distance</td>" in html and "<code>a|b'c</code>" in html
    assert "|" not in re.sub(r"<code.*?</code>", "", html, flags=re.S)  # every table was read as one
    quality["made_from"] |= {"model_sha256": "of others"}
    files.write_json(own / "quality.json", quality)
    folder = app.export(own, "hub", out=tmp_path / "stale", license="MIT").folder
    card = hub.ModelCard((folder / "README.md").read_text())
    assert card.data.license == "mit" and card.data.eval_results is None and not (folder / "quality.json").exists()


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_exported_is_refused_in_a_sentence_and_nothing_is_written(
    run_of: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("vector")
    table, single, fresh, bare = (tmp_path / name for name in ("table", "single", "fresh", "bare"))
    for folder in (table, single, fresh, bare):
        shutil.copytree(run.path, folder)
    manifest = json.loads((run.path / "manifest.json").read_text())
    of_table = manifest | {"data": manifest["data"] | {"kind": "table", "columns": []}}
    files.write_json(table / "manifest.json", of_table)
    files.write_json(fresh / "manifest.json", manifest | {"progress": manifest["progress"] | {"step": 0}})
    (bare / "model.safetensors").unlink()
    config = json.loads((run.path / "config.json").read_text())
    files.write_json(single / "config.json", config | {"process": {"name": "noiseless"}, "parametrisation": {"name": "score"}})
    (tmp_path / "full").mkdir()
    for path, words, said in (
        (run.path, ("--to", "onx"), "unknown export target 'onx': did you mean 'onnx'? Known: diffusers, hub, onnx."),
        (run.path, ("--to", "hub", "--out", str(tmp_path / "full")), "which is there already"),
        (run.path, ("--to", "hub", "--out", str(tmp_path / "no" / "place")), "in one that exists"),
        (run.path, ("--to", "onnx", "--license", "mit"), "which has no model card"),
        (table, ("--to", "onnx"), "a run of a table, whose columns scorefield alone turns into a row and back"),
        (table, ("--to", "diffusers"), "a run of a table"),
        (single, ("--to", "onnx"), "a run of one noise level"),
        (fresh, ("--to", "hub"), "which has learned nothing yet"),
        (bare, ("--to", "hub"), "got no readable"),
        (bare, ("--to", "onnx"), "got no readable"),
        (run_of("energy").path, ("--to", "diffusers"), "choose --to onnx"),
        (tmp_path / "nowhere", ("--to", "hub"), "which is no folder"),
    ):
        others = sorted(tmp_path.iterdir())
        out = () if "--out" in words else ("--out", str(tmp_path / "new"))
        assert command("export", path, *words, *out) == 2
        assert said in " ".join(capsys.readouterr().err.split())
        assert sorted(tmp_path.iterdir()) == others and not list((tmp_path / "full").iterdir())
    for library, to in (("onnxscript", "onnx"), ("diffusers", "diffusers"), ("huggingface_hub", "hub")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            assert command("export", run.path, "--to", to, "--out", tmp_path / "new") == 2
        assert 'pip install "scorefield[interchange]"' in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()


def test_an_export_that_gives_other_numbers_is_not_put_in_place(
    run_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffusers")
    table = to_diffusers.table_of
    monkeypatch.setattr(to_diffusers, "table_of", lambda *given: table(*given) * 1.001)
    with pytest.raises(ScorefieldError, match=r"differ by .* nothing was written"):
        app.export(run_of("vector").path, "diffusers", out=tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_an_onnx_file_of_other_numbers_and_a_network_that_cannot_be_traced_are_refused(
    run_of: Any, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = run_of("image"), exported("image", "onnx") / "model.onnx"
    inputs = probes(run, run.field, torch.tensor([0.1, 0.5, 2.0]))
    denoiser = Denoiser(run.field, len(run.classes))
    measured = to_onnx._compared(path, denoiser, inputs, run)
    assert measured is not None and measured < 1e-5
    monkeypatch.setattr(denoiser, "classes", 4)  # none is asked as the fifth class
    with pytest.raises(ScorefieldError, match=r"differ by .* nothing was written"):
        to_onnx._compared(path, denoiser, inputs, run)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        assert to_onnx._compared(path, denoiser, inputs, run) is None  # which the report says

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("a step that depends on numbers\nand more")

    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(ScorefieldError, match=r"cannot trace \(RuntimeError: a step that depends on numbers\), expected"):
        app.export(run.path, "onnx", out=tmp_path / "new")
    assert not list(tmp_path.iterdir())
