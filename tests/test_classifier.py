"""Classifier guidance: with the exact classifier it is classifier-free guidance, and a trained one comes near the exact one."""

from typing import Any

import pytest
import torch
from helpers import each_case, shaken
from torch import Tensor

from scorefield import VE, VP, Gaussian, GaussianMixture, RectifiedFlow, SampleRng, ScorefieldError
from scorefield.exact import Labelled
from scorefield.field import EnergyField
from scorefield.guidance import Classified, ClassifierFree, train_classifier
from scorefield.nets.classifier import Classifier

PROCESSES = {"ve": VE(0.01, 50.0), "vp": VP(), "rectified-flow": RectifiedFlow()}
each_process = each_case(process=PROCESSES)


def labelled(process: Any, shape: tuple[int, ...] = (2,)) -> Labelled:
    def mixture(*means: float) -> GaussianMixture:
        return GaussianMixture([1.0] * len(means), [torch.full(shape, m).tolist() for m in means], [0.6] * len(means), process)

    return Labelled([0.5, 0.3, 0.2], [mixture(-2.0, 1.0), mixture(0.0), mixture(2.0, 3.0)])


def points(process: Any, shape: tuple[int, ...] = (2,), count: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    rng = SampleRng(range(count), stream=3)
    t = process.t_min + rng.uniform() * (process.t_max - process.t_min)
    return process.perturb(labelled(process, shape).sample(rng), t, rng.normal(shape)), t, torch.arange(count) % 3


# --- the exact classifier ---------------------------------------------------------------------------------------------


@pytest.mark.theorem("classifier-guidance")
@each_process
@each_case(shape=[(2,), (1, 2, 2)])
def test_with_the_exact_classifier_strength_one_is_the_conditional_field(process: Any, shape: tuple[int, ...]) -> None:
    field, (x, t, cond) = labelled(process, shape), points(process, shape)
    guided = Classified(field, field.classify)
    torch.testing.assert_close(guided(x, t, cond).score, field(x, t, cond).score, rtol=1e-8, atol=1e-8)


@pytest.mark.theorem("classifier-free-guidance")
@each_process
@each_case(g=[0.0, 0.5, 3.0])
def test_with_the_exact_classifier_every_strength_is_that_of_classifier_free_guidance(process: Any, g: float) -> None:
    field, (x, t, cond) = labelled(process), points(process)
    for interval in (None, (0.1, 1.0)):
        one, other = Classified(field, field.classify, g, interval), ClassifierFree(field, g, interval)
        torch.testing.assert_close(one(x, t, cond).score, other(x, t, cond).score, rtol=1e-8, atol=1e-8)
        assert isinstance(one, EnergyField)
        difference = one.energy(x, t, cond) - other.energy(x, t, cond)  # energies are known up to a constant of g, t and class
        constant = (one.strengths(t) * -field.weights.log()[cond]).double()
        torch.testing.assert_close(difference, constant, rtol=1e-8, atol=1e-8)


@pytest.mark.theorem("classifier-guidance")
def test_the_exact_classifier_is_bayes_rule_and_knows_less_where_there_is_more_noise() -> None:
    field = labelled(VE(0.01, 50.0))
    x, t, cond = points(field.process)
    chances = field.classify(x, t).exp()
    torch.testing.assert_close(chances.sum(dim=1), torch.ones(len(x), dtype=torch.float64))
    bayes = field.weights[cond] * (field.log_prob(x, t, cond) - field.log_prob(x, t)).exp()
    torch.testing.assert_close(chances[torch.arange(len(x)), cond], bayes, rtol=1e-9, atol=1e-12)
    far = field.classify(x, torch.ones_like(t)).exp()
    assert float((far - field.weights).abs().max()) < 0.2


def test_slopes_of_the_guided_score_can_be_taken() -> None:
    """As a likelihood does; and under no_grad, as a sampler does, nothing is recorded."""
    field = labelled(VP())
    x, t, cond = points(VP())
    guided = Classified(field, field.classify, 2.0)
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(guided(x, t, cond).score.sum(), x)
    assert bool(slope.isfinite().all()) and float(slope.abs().max()) > 0
    with torch.no_grad():
        assert not guided(x.detach(), t, cond).score.requires_grad


def test_guidance_by_a_classifier_without_classes_is_refused() -> None:
    field = labelled(VP())
    x, t, _ = points(VP())
    with pytest.raises(ScorefieldError, match="got no classes for guidance by a classifier"):
        Classified(field, field.classify)(x, t)


# --- a trained one ----------------------------------------------------------------------------------------------------


def test_a_trained_classifier_has_nearly_all_that_the_exact_one_knows_at_every_noise_level() -> None:
    """What a classifier q knows of the class: H(c) - E[-log q(c | x)], which is largest for the exact one (Gibbs)."""
    process = VE(0.01, 20.0)
    field, n = Labelled([0.5, 0.5], [Gaussian([-1.5, 0.0], [[1.0, 0.0], [0.0, 1.0]], process) for _ in range(2)]), 4000
    field = Labelled([0.5, 0.5], [field.fields[0], Gaussian([1.5, 1.0], [[0.5, 0.2], [0.2, 0.5]], process)])
    cond = torch.arange(n) % 2
    found = train_classifier(field.sample(SampleRng(range(n)), cond), cond, process, steps=400, batch=256)
    x0 = field.sample(SampleRng(range(n), stream=1), cond)
    for level in (0.02, 0.5, 1.0, 2.0):
        t = process.time_of_sigma(torch.full((n,), level))
        x = process.perturb(x0, t, SampleRng(range(n), stream=2).normal((2,)))
        exact, learned = field.classify(x, t), found(x, t)
        entropy, excess = float(torch.tensor(2.0).log()), (exact.exp() * (exact - learned)).sum(dim=1)
        known = entropy + float((exact.exp() * exact).sum(dim=1).mean())
        assert bool((excess > -1e-6).all())
        assert float(excess.mean()) + 5 * float(excess.std()) / n**0.5 < 0.05 * known


def test_the_same_seed_trains_the_same_classifier_and_touches_no_global_generator() -> None:
    x0, cond = labelled(VP()).sample(SampleRng(range(60))), torch.arange(60) % 3
    before = torch.get_rng_state()
    one, same, other = (train_classifier(x0, cond, VP(), steps=3, batch=8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    x, t, _ = points(VP())
    assert torch.equal(one(x, t), same(x, t))
    assert not torch.equal(one(x, t), other(x, t))


@pytest.mark.parametrize("shape", [(3,), (1, 7), (2, 9, 12), (1, 4, 4, 5)])
def test_the_network_takes_vectors_signals_images_and_volumes_and_follows_the_noise(shape: tuple[int, ...]) -> None:
    network = shaken(Classifier(shape, 4, width=8)).requires_grad_(False)
    x = SampleRng(range(5)).normal(shape)
    logits = [network(x, torch.full((5,), label).double()) for label in (-1.0, 1.0)]
    assert logits[0].shape == (5, 4)
    assert float((logits[0] - logits[1]).abs().max()) > 1e-6


def test_labels_that_do_not_fit_are_refused() -> None:
    for labels in (torch.zeros(3, dtype=torch.int64), torch.zeros(4), torch.full((4,), -1)):
        with pytest.raises(ScorefieldError, match="0-based: give one for each example"):
            train_classifier(torch.zeros(4, 2), labels, VP())
