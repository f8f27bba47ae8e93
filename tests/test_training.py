"""Training: it learns the true score, resumes bit for bit, keeps the last good state, and never uses a damaged checkpoint."""

from __future__ import annotations

import copy
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scorefield import VE, NotFinite, Score, ScorefieldError, Still
from scorefield.config import Optimiser, RunConfig, Training
from scorefield.data import Affine, DataConfig, Dataset, open_source
from scorefield.levels import Levels
from scorefield.nets.mlp import MLPConfig
from scorefield.objectives import Denoising, Sliced
from scorefield.objectives.weightings import Learned, SigmaSquared
from scorefield.prediction import EDM
from scorefield.randomness import Noise
from scorefield.runs import build_model
from scorefield.samplers import Heun
from scorefield.training import checkpoint
from scorefield.training.loop import Trainer

CPU = torch.device("cpu")


def config_of(**changes: object) -> RunConfig:
    """A small, fast, exactly repeatable run."""
    run = RunConfig(
        source="mixture",
        recipe="auto",
        process=VE(0.05, 8.0),
        parametrisation=EDM(data_std=1.0),
        network=MLPConfig(width=32, depth=2),
        objective=Denoising(density=Levels(8)),
        sampler=Heun(),
        levels=8,
        data=DataConfig(examples=400),
        optimiser=Optimiser(lr=3e-3, warmup=5),
        training=Training(steps=30, seconds=None, batch=32, ema=0.9, precision="float32", pictures=0),
    )
    return replace(run, **changes)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return open_source("mixture", DataConfig(examples=400))


def trainer_of(config: RunConfig, data: Dataset, folder: Path) -> Trainer:
    return Trainer(config, data, build_model(config, data.shape, 1.0), folder, CPU)


def everything(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {f"{part}/{name}": value.clone() for part, tensors in trainer.parts().items() for name, value in tensors.items()}


def train(trainer: Trainer) -> Trainer:
    for _ in trainer.run():
        pass
    return trainer


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("stop", [1, 13, 29])
def test_stop_and_resume_is_the_uninterrupted_run_bit_for_bit(stop: int, data: Dataset, tmp_path: Path) -> None:
    whole = train(trainer_of(config_of(), data, tmp_path / "whole"))
    part = trainer_of(config_of(), data, tmp_path / "part")
    *_, last = part.run(stop=lambda: part.clock.step == stop)
    assert last.event == "stopped"
    later = trainer_of(config_of(seed=0), data, tmp_path / "part")
    assert later.resume()
    assert later.clock.step == stop
    train(later)
    assert same(everything(whole), everything(later))


def test_dropout_is_a_function_of_seed_and_step_too(tmp_path: Path) -> None:
    """Dropout draws from torch's global generator, so it is the first thing that breaks exact resumption."""
    images = open_source("digits", DataConfig())
    from scorefield.nets.unet import UNetConfig

    config = config_of(
        source="digits",
        network=UNetConfig(channels=(8,), blocks=1, attention=False, dropout=0.5),
        training=Training(steps=4, seconds=None, batch=8, ema=0.9, precision="float32", pictures=0),
    )
    before = torch.random.get_rng_state()
    whole = train(trainer_of(config, images, tmp_path / "whole"))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(1234)
    again = train(trainer_of(config, images, tmp_path / "again"))
    assert same(everything(whole), everything(again))


def test_another_seed_is_another_run(data: Dataset, tmp_path: Path) -> None:
    one = train(trainer_of(config_of(), data, tmp_path / "one"))
    other = train(trainer_of(config_of(seed=1), data, tmp_path / "other"))
    assert not same(everything(one), everything(other))


def test_the_moving_average_follows_its_recursion_with_warm_up(data: Dataset, tmp_path: Path) -> None:
    """average_n = beta_n·average + (1 - beta_n)·weights, beta_n = min(0.9, (1 + n)/(10 + n)), followed here in float64."""
    trainer = trainer_of(config_of(), data, tmp_path)
    name, weights = next(iter(trainer.model.named_parameters()))
    expected = weights.detach().double().clone()
    for n in range(1, 31):
        trainer._step()
        beta = min(0.9, (1 + n) / (10 + n))
        expected = beta * expected + (1 - beta) * weights.detach().double()
    average = dict(trainer.average.named_parameters())[name].double()
    # 30 float32 updates, each rounding by at most one part in 2^24 of the largest weight.
    assert float((average - expected).abs().max()) <= 30 * 2**-24 * float(weights.detach().abs().max())


def test_on_gaussian_data_training_reaches_the_loss_of_the_true_score(tmp_path: Path) -> None:
    """For N(0, v): E 1/2‖sigma·s* + noise‖² = 1/2·v/(v + sigma²) at the true score, averaged here over the levels."""
    v, n = 1.0, 4000
    raw = Noise(range(2 * n)).normal((1,)).float()
    raw = raw / raw.std()
    affine = Affine(shift=(0.0,), scale=(1.0,))
    data = Dataset("normal", "vector", raw[:n], raw[n:], None, None, (), affine, "", ())
    config = config_of(
        objective=Denoising(density=Levels(4)),
        training=Training(steps=600, seconds=None, batch=256, ema=0.99, precision="float32", pictures=0),
    )
    trainer = trainer_of(config, data, tmp_path)
    sigmas = config.process.sigma(torch.linspace(1, 0, 4, dtype=torch.float64))
    best = float((0.5 * v / (v + sigmas**2)).mean())
    before = float(trainer.held_out.losses(trainer.average).mean())
    train(trainer)

    # Paired with the exact score on the same examples and noise, what is left is the Fisher divergence, without noise.
    from scorefield import Gaussian

    field = Gaussian([0.0], [[float((raw[n:].double() ** 2).mean())]], config.process)
    learned, exact = (config.objective(f, raw[n:], noise=Noise(range(n), stream=5)) for f in (trainer.average, field))
    error = 5 * float(exact.double().std()) / math.sqrt(n)
    assert abs(float(exact.double().mean()) - best) < error
    excess = float((learned.double() - exact.double()).mean())
    spread = 5 * float((learned.double() - exact.double()).std()) / math.sqrt(n)
    assert excess < 0.01 * (before - best) + spread  # 99 % of what there was to learn is learned
    assert excess > -spread  # and nothing beats the true score


def test_nan_stops_and_names_step_level_and_parameter_and_keeps_the_last_good_state(data: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(config_of(), data, tmp_path)
    for _ in range(3):
        trainer._step()
    good = everything(trainer)

    def poison(_: object, inputs: tuple[torch.Tensor, ...], y: torch.Tensor) -> torch.Tensor:
        return torch.where(inputs[1][:, None] > math.log(7), y * float("nan"), y)  # only the noisiest level, sigma = 8

    trainer.model.network.register_forward_hook(poison)
    with pytest.raises(NotFinite, match=r"step 4, sigma = 8, .*the loss itself"):
        train(trainer)
    assert same(good, everything(trainer))
    fresh = trainer_of(config_of(), data, tmp_path)
    assert fresh.resume()
    assert same(good, everything(fresh))


def test_a_diverging_run_never_stores_weights_that_are_not_finite(data: Dataset, tmp_path: Path) -> None:
    config = config_of(optimiser=Optimiser(lr=1e30, warmup=0, clip=0.0), training=replace(config_of().training, steps=200))
    trainer = trainer_of(config, data, tmp_path)
    with pytest.raises(NotFinite, match="got a NaN or infinite loss at step"):
        train(trainer)
    found = checkpoint.newest(tmp_path)
    assert found is None or all(bool(value.isfinite().all()) for value in found.parts["model"].values())


def test_the_learning_rate_warms_up_stays_and_decays(data: Dataset, tmp_path: Path) -> None:
    config = config_of(optimiser=Optimiser(lr=1.0, warmup=10, decay=0.5), training=replace(config_of().training, steps=100))
    trainer, seen = trainer_of(config, data, tmp_path), []
    for step in (0, 4, 9, 30, 50, 75, 99):
        trainer.clock.step = step
        seen.append(round(trainer._learning_rate(), 6))
    assert seen == [0.1, 0.5, 1.0, 1.0, 1.0, 0.5, 0.02]


# --- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(data: Dataset, tmp_path: Path) -> tuple[Path, Trainer]:
    trainer = trainer_of(config_of(), data, tmp_path)
    trainer._step()
    trainer.save()
    trainer._step()
    trainer.save()
    return tmp_path, trainer


def test_every_flipped_bit_is_found_and_the_older_checkpoint_used(saved: tuple[Path, Trainer], tmp_path: Path) -> None:
    folder, _ = saved
    content = (folder / "step-00000002" / "model.safetensors").read_bytes()
    for position in range(0, len(content), max(1, len(content) // 40)):
        copied = tmp_path / f"copy-{position}"
        shutil.copytree(folder, copied, ignore=shutil.ignore_patterns("copy-*"))
        flipped = content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :]
        (copied / "step-00000002" / "model.safetensors").write_bytes(flipped)
        found = checkpoint.newest(copied)
        assert found is not None
        assert found.clock.step == 1
        assert "step-00000002 is damaged" in found.damaged[0]


def test_a_damaged_checkpoint_does_not_stand_in_the_way_of_a_good_one(saved: tuple[Path, Trainer], data: Dataset) -> None:
    folder, trainer = saved
    (folder / "step-00000002" / "model.safetensors").write_bytes(b"")
    later = trainer_of(config_of(), data, folder)
    assert later.resume()
    later._step()
    later.save()
    found = checkpoint.newest(folder)
    assert found is not None
    assert found.clock.step == 2
    assert same(everything(later), everything(trainer))


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_every_truncation_is_found(name: str, saved: tuple[Path, Trainer], tmp_path: Path) -> None:
    folder, _ = saved
    content = (folder / "step-00000002" / name).read_bytes()
    for length in [0, 1, len(content) // 2, len(content) - 3]:
        copied = tmp_path / f"copy-{length}"
        shutil.copytree(folder, copied, ignore=shutil.ignore_patterns("copy-*"))
        (copied / "step-00000002" / name).write_bytes(content[:length])
        found = checkpoint.newest(copied)
        assert found is not None
        assert found.clock.step == 1


def test_only_damaged_checkpoints_are_an_error_and_none_is_none(saved: tuple[Path, Trainer], tmp_path: Path) -> None:
    folder, _ = saved
    for path in folder.glob("step-*/model.safetensors"):
        path.unlink()
    with pytest.raises(ScorefieldError, match="only damaged checkpoints"):
        checkpoint.newest(folder)
    assert checkpoint.newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("call", ["os.replace", "os.fsync"])
def test_a_failing_disk_leaves_the_previous_checkpoint_and_no_debris(
    call: str, saved: tuple[Path, Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, trainer = saved
    trainer._step()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        with pytest.raises(OSError, match="No space left"):
            trainer.save()
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000001", "step-00000002"]
    found = checkpoint.newest(folder)
    assert found is not None
    assert found.clock.step == 2
    assert found.damaged == []


def test_a_checkpoint_returns_what_was_put_in(saved: tuple[Path, Trainer], data: Dataset) -> None:
    folder, trainer = saved
    other = trainer_of(config_of(seed=9), data, folder)
    assert not same(everything(other), everything(trainer))
    assert other.resume()
    assert same(everything(other), everything(trainer))
    assert copy.deepcopy(other.clock) == trainer.clock


def test_a_checkpoint_of_another_objective_is_refused_with_a_sentence(saved: tuple[Path, Trainer], data: Dataset) -> None:
    """One that learned nothing besides the score, for one that learns a weight for every level."""
    folder, _ = saved
    other = trainer_of(config_of(objective=Denoising(density=Levels(8), weighting=Learned(SigmaSquared()))), data, folder)
    with pytest.raises(ScorefieldError, match=r"got a checkpoint that does not fit the model .*: go on with those"):
        other.resume()


def test_what_an_objective_cannot_learn_from_is_refused_when_the_trainer_is_made(data: Dataset, tmp_path: Path) -> None:
    still = config_of(process=Still(), parametrisation=Score(), objective=Sliced())
    trainer_of(still, data, tmp_path)
    hard = replace(data, affine=Affine.between(-20.0, 20.0))
    with pytest.raises(ScorefieldError, match="bounded or 8-bit data"):
        trainer_of(still, hard, tmp_path)
    with pytest.raises(ScorefieldError, match="without noise for denoising"):
        trainer_of(replace(still, objective=Denoising()), data, tmp_path)
