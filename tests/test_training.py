"""Training: it learns the true score, resumes bit for bit, keeps the last good state, and never uses a damaged checkpoint."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scorefield import VE, Noiseless, NotFinite, Score, ScorefieldError
from scorefield.config import Optimiser, RunConfig, Training
from scorefield.data import DataConfig, Dataset, Normaliser, open_source
from scorefield.levels import Levels
from scorefield.nets.mlp import MLPConfig
from scorefield.objectives import Denoising, Sliced
from scorefield.objectives.weightings import Learned, SigmaSquared
from scorefield.prediction import EDM
from scorefield.randomness import SampleRng
from scorefield.runs import build_model
from scorefield.samplers import Heun
from scorefield.training import checkpoint
from scorefield.training.averages import beta
from scorefield.training.loop import Trainer
from scorefield.training.optimisers import learning_rate

CPU = torch.device("cpu")


def config_of(**changes: object) -> RunConfig:
    """A small, fast, exactly repeatable run."""
    run = RunConfig(
        source="mixture",
        recipe="auto",
        process=VE(0.05, 8.0),
        parametrisation=EDM(data_std=1.0),
        network=MLPConfig(width=32, depth=2),
        objective=Denoising(noise_distribution=Levels(8)),
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


@pytest.mark.theorem("moving-average")
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
    raw = SampleRng(range(2 * n)).normal((1,)).float()
    raw = raw / raw.std()
    normaliser = Normaliser(shift=(0.0,), scale=(1.0,))
    data = Dataset("normal", "vector", raw[:n], raw[n:], None, None, (), normaliser, "", ())
    config = config_of(
        objective=Denoising(noise_distribution=Levels(4)),
        training=Training(steps=300, seconds=None, batch=256, ema=0.98, precision="float32", pictures=0),
    )
    trainer = trainer_of(config, data, tmp_path)
    sigmas = config.process.sigma(torch.linspace(1, 0, 4, dtype=torch.float64))
    best = float((0.5 * v / (v + sigmas**2)).mean())
    before = float(trainer.held_out.losses(trainer.average).mean())
    train(trainer)

    # Paired with the exact score on the same examples and noise, what is left is the Fisher divergence, without noise.
    from scorefield import Gaussian

    field = Gaussian([0.0], [[float((raw[n:].double() ** 2).mean())]], config.process)
    learned, exact = (config.objective(f, raw[n:], rng=SampleRng(range(n), stream=5)) for f in (trainer.average, field))
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
        seen.append(round(learning_rate(trainer.config.optimiser, trainer.clock.step, trainer.fraction), 6))
    assert seen == [0.1, 0.5, 1.0, 1.0, 1.0, 0.5, 0.02]


def gradients_of(trainer: Trainer) -> torch.Tensor:
    trainer._gradient()
    return torch.cat([value.grad.flatten() for value in trainer.model.parameters() if value.grad is not None])


def rounding(gradient: torch.Tensor) -> float:
    """What adding the gradients of 32 examples in another order may change: 32 roundings of the largest number."""
    return 32 * 2**-24 * float(gradient.abs().max())


@pytest.mark.parametrize("pieces", [2, 5, 32])
def test_a_batch_in_pieces_has_the_same_gradient(pieces: int, data: Dataset, tmp_path: Path) -> None:
    whole = gradients_of(trainer_of(config_of(), data, tmp_path))
    config = config_of(training=replace(config_of().training, accumulate=pieces))
    difference = float((gradients_of(trainer_of(config, data, tmp_path)) - whole).abs().max())
    assert difference <= rounding(whole)
    other = gradients_of(trainer_of(config_of(seed=1), data, tmp_path))
    assert float((other - whole).abs().max()) > 100 * rounding(whole)  # of another batch it is another gradient


def out_of_memory_above(trainer: Trainer, examples: int, error: Exception) -> None:
    """Let the network fail on more than so many examples at once, as a small device does."""

    def limit(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > examples:
            raise error

    trainer.model.network.register_forward_pre_hook(limit)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")],
    ids=["gpu", "cpu"],
)
def test_out_of_memory_halves_the_pieces_and_keeps_the_batch(error: Exception, data: Dataset, tmp_path: Path) -> None:
    whole = gradients_of(trainer_of(config_of(), data, tmp_path))
    trainer = trainer_of(config_of(), data, tmp_path)
    out_of_memory_above(trainer, 8, error)
    assert float((gradients_of(trainer) - whole).abs().max()) <= rounding(whole)
    assert trainer.pieces == 4
    assert ["taken in 2 pieces" in trainer.messages[0], "taken in 4 pieces" in trainer.messages[1]] == [True, True]


def test_memory_too_small_for_one_example_is_a_sentence_and_other_errors_stay_themselves(data: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(config_of(), data, tmp_path)
    out_of_memory_above(trainer, 0, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(ScorefieldError, match="too little memory for the gradient of a single example"):
        trainer._step()
    trainer = trainer_of(config_of(), data, tmp_path)
    out_of_memory_above(trainer, 8, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        trainer._step()


def test_float16_is_refused_where_there_is_no_gpu(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ScorefieldError, match=r"got training.precision=float16 on cpu, expected a GPU"):
        trainer_of(config_of(training=replace(config_of().training, precision="float16")), data, tmp_path)


def test_every_image_is_seen_mirrored_half_of_the_time_and_nothing_else_changes(tmp_path: Path) -> None:
    images = open_source("digits", DataConfig())
    from scorefield.nets.unet import UNetConfig

    config = config_of(source="digits", network=UNetConfig(channels=(8,), blocks=1, attention=False))
    as_they_are, flipped = (
        trainer_of(replace(config, data=DataConfig(flip=flip)), images, tmp_path)._batch(SampleRng(range(400)))[0]
        for flip in (False, True)
    )
    mirrored = [not torch.equal(a, b) for a, b in zip(as_they_are, flipped, strict=True)]
    assert all(torch.equal(b, a.flip(-1) if m else a) for a, b, m in zip(as_they_are, flipped, mirrored, strict=True))
    assert abs(sum(mirrored) - 200) < 5 * math.sqrt(400 / 4)


# --- moving averages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.02, 0.05, 0.12, 0.28])
def test_a_width_is_the_standard_deviation_of_an_averages_weights_as_a_share_of_the_training(width: float) -> None:
    """The weight of step i after n is (1 - beta_i)·prod of the later betas; its spread is that of i^gamma up to 1/n."""
    n = 2000
    betas = torch.tensor([beta(width, i) for i in range(1, n + 1)], dtype=torch.float64)
    later = torch.cat([betas.flip(0).cumprod(0).flip(0)[1:], torch.ones(1, dtype=torch.float64)])
    weights, when = (1 - betas) * later, torch.arange(1, n + 1, dtype=torch.float64) / n
    assert abs(float(weights.sum()) - 1) < n * 2**-52
    mean = float((weights * when).sum())
    assert abs(math.sqrt(float((weights * (when - mean) ** 2).sum())) - width) < 1 / n


def test_the_average_with_the_smallest_held_out_loss_is_chosen_at_the_end(data: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(config_of(training=replace(config_of().training, ema=(0.9999, 0.05, 0.5))), data, tmp_path)
    *_, last = trainer.run()
    losses = last.extra["averages"]
    assert losses.keys() == {0.9999, 0.05, 0.5}
    best = min(losses, key=losses.get)
    assert trainer.average is trainer.averages.kept[best]
    assert f"moving average = {best:g}" in last.messages[-1]
    again = trainer_of(trainer.config, data, tmp_path)
    assert again.resume()
    assert same(everything(again), everything(trainer))  # all of them are in the checkpoint


@pytest.mark.parametrize("ema", [0.3, (0.05, 0.05), (0.05, 0.4)])
def test_a_length_that_is_neither_a_width_nor_a_decay_is_refused(ema: object) -> None:
    with pytest.raises(ValueError, match="expected different numbers"):
        Training(ema=ema)


# --- what a run says ----------------------------------------------------------------------------------------------------


def test_reports_of_a_run_of_steps_come_at_fixed_steps_with_the_loss_by_level(data: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(config_of(), data, tmp_path)
    logs = [progress for progress in trainer.run() if progress.event == "log"]
    assert [progress.step for progress in logs] == [25, 30]
    first = logs[0].extra
    assert len(first["sigmas"]) == len(first["losses"]) > 4
    assert first["sigmas"] == sorted(first["sigmas"])
    assert min(first["losses"]) <= logs[0].loss <= max(first["losses"])  # the mean lies among the means of its parts


def test_a_network_that_learns_its_few_examples_by_heart_is_warned_of_and_a_run_with_plenty_is_not(tmp_path: Path) -> None:
    """Eight examples in two dimensions and 150 steps of a fast optimiser, against 400 examples and the same steps."""
    said = {}
    for learned, unseen in ((8, 192), (400, 200)):
        some = DataConfig(examples=learned + unseen, held_out=unseen / (learned + unseen))
        config = config_of(
            data=some,
            network=MLPConfig(width=64, depth=2),
            optimiser=Optimiser(lr=1e-2, warmup=5),
            training=replace(config_of().training, steps=150, batch=64),
        )
        examples = open_source("mixture", some)
        assert len(examples.train) == learned
        reports = train_and_listen(trainer_of(config, examples, tmp_path / str(learned)))
        said[learned] = [sentence for report in reports for sentence in report]
    assert any(sentence.startswith(("memorising:", "over-fitting:")) for sentence in said[8])
    assert not any(sentence.startswith(("memorising:", "over-fitting:")) for sentence in said[400])


def train_and_listen(trainer: Trainer) -> list[tuple[str, ...]]:
    return [progress.messages for progress in trainer.run()]


def test_a_rise_of_the_held_out_loss_is_reported_once_and_only_while_the_other_falls(data: Dataset, tmp_path: Path) -> None:
    losses = SampleRng(range(40)).uniform().double()
    up = losses + 0.1 + 0.01 * SampleRng(range(40), stream=1).normal()
    held = trainer_of(config_of(), data, tmp_path).held_out
    assert held.judge(losses, 10, 1.0, None) == []
    assert held.judge(up, 20, 1.1, None) == []  # training rose, too
    assert held.judge(losses + 0.1 * SampleRng(range(40), stream=2).normal(), 30, 0.9, None) == []  # no more than chance
    (sentence,) = held.judge(up, 40, 0.9, None)
    assert sentence.startswith("over-fitting: the held-out loss rose from") and "at step 10" in sentence
    assert held.judge(up, 50, 0.8, None) == []


# --- not a number ---------------------------------------------------------------------------------------------------------


def test_nan_in_a_gradient_and_in_the_data_are_named_and_never_stored(data: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(config_of(), data, tmp_path / "gradient")
    trainer._step()
    name, weight = list(trainer.model.named_parameters())[2]
    good = everything(trainer)
    weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NotFinite, match=rf"at step 2, .*first in the gradient of {name}"):
        train(trainer)
    assert same(good, everything(trainer))

    assert isinstance(data.train, torch.Tensor)
    raw = data.train.clone()
    raw[::7] = float("nan")
    trainer = trainer_of(config_of(), replace(data, train=raw), tmp_path / "data")
    good = everything(trainer)
    with pytest.raises(NotFinite, match=r"at step 1, .*first in the data"):
        train(trainer)
    assert same(good, everything(trainer))


# --- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(data: Dataset, tmp_path: Path) -> tuple[Path, Trainer]:
    trainer = trainer_of(config_of(), data, tmp_path)
    trainer._step()
    trainer.save()
    trainer._step()
    trainer.save()
    return tmp_path, trainer


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


def test_only_damaged_checkpoints_are_an_error_and_none_is_none(saved: tuple[Path, Trainer], tmp_path: Path) -> None:
    folder, _ = saved
    for path in folder.glob("step-*/model.safetensors"):
        path.unlink()
    with pytest.raises(ScorefieldError, match="only damaged checkpoints"):
        checkpoint.newest(folder)
    assert checkpoint.newest(tmp_path / "nowhere") is None


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
    other = trainer_of(
        config_of(objective=Denoising(noise_distribution=Levels(8), weighting=Learned(SigmaSquared()))), data, folder
    )
    with pytest.raises(ScorefieldError, match=r"got a checkpoint that does not fit the model .*: go on with those"):
        other.resume()


def test_what_an_objective_cannot_learn_from_is_refused_when_the_trainer_is_made(data: Dataset, tmp_path: Path) -> None:
    still = config_of(process=Noiseless(), parametrisation=Score(), objective=Sliced())
    trainer_of(still, data, tmp_path)
    hard = replace(data, normaliser=Normaliser.between(-20.0, 20.0))
    with pytest.raises(ScorefieldError, match="bounded or 8-bit data"):
        trainer_of(still, hard, tmp_path)
    with pytest.raises(ScorefieldError, match="without noise for denoising"):
        trainer_of(replace(still, objective=Denoising()), data, tmp_path)
