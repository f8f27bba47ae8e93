"""Classifier guidance: towards a class, by a classifier of noisy data beside a field that knows no classes.

    s = s(x) + g·grad log p_t(c | x)

With the exact classifier and g = 1 that is the conditional field, by Bayes' rule, and for other g what classifier-free guidance
of the same strength gives. The classifier must know noisy data: one of clean data has no useful gradient at a noisy x.
`train_classifier` trains one that does.

    loss = -log p_t(c | x_t),    x_t = alpha·x0 + sigma·noise, log(sigma/alpha) mostly near the spread of the data

Only its gradient is used, which nothing in the loss compares with anything: trained for too long, a classifier keeps good
probabilities while its gradient becomes rough. A field that is conditional itself, with `ClassifierFree`, is the better tool
where it can be trained; this one is for fields that are there already.

Reference: Dhariwal, Nichol (2021), "Diffusion models beat GANs on image synthesis", arXiv 2105.05233, section 4. Song et al.
(2021), arXiv 2011.13456, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield.errors import ScorefieldError
from scorefield.field import EnergyField, Field
from scorefield.guidance.classifier_free import Unconditional
from scorefield.guidance.extrapolation import Extrapolated
from scorefield.levels import LogNormal
from scorefield.nets.classifier import Classifier
from scorefield.noise_label import noise_label_of
from scorefield.prediction import Prediction
from scorefield.process import Process
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.shapes import PerSample, Sample, over

LogClasses = Callable[[Sample, PerSample], Tensor]  # (x_t, t) -> log p_t(class | x_t), (batch, classes), differentiable in x_t


class ByClassifier:
    """The conditional field that a field without classes and a classifier make together: s(x) + grad log p_t(cond | x)."""

    energy: Callable[..., PerSample]

    def __init__(self, field: Field, classifier: LogClasses) -> None:
        """Take a field, asked without a condition, and a classifier of noisy data."""
        self.field, self.classifier = Unconditional(field), classifier
        self.process, self.shape = field.process, field.shape
        self.data_mean, self.data_std = field.data_mean, field.data_std
        if isinstance(field, EnergyField):

            def energy(x: Sample, t: PerSample, cond: Tensor | None = None) -> PerSample:
                return field.energy(x, t) - self.log_class(x, t, cond)

            self.energy = energy

    def log_class(self, x: Sample, t: PerSample, cond: Tensor | None) -> PerSample:
        """Return log p_t(cond | x), `(batch,)`."""
        if cond is None:
            raise ScorefieldError("got no classes for guidance by a classifier, expected one for each sample: pass cond")
        return self.classifier(x, t).gather(1, cond[:, None])[:, 0]

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        score = self.field(x, t).score + self.slope(x, t, cond)
        return Prediction.of_score(self.process, x, t.double(), score)

    def slope(self, x: Sample, t: PerSample, cond: Tensor | None) -> Sample:
        """Return grad log p_t(cond | x), `(batch, *shape)`, differentiable when gradients are on."""
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            inner = x if x.requires_grad else x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.log_class(inner, t, cond).sum(), inner, create_graph=keep)
        return slope


class Classified(Extrapolated):
    """A field without classes, led to the class `cond` by a classifier: any sampler draws from it.

    >>> from scorefield import VE, Gaussian, SampleRng
    >>> from scorefield.exact import Labelled
    >>> from scorefield.samplers import sample
    >>> both = Labelled([0.5, 0.5], [Gaussian([c], [[1.0]], VE(0.01, 50.0)) for c in (-1.0, 1.0)])
    >>> right = torch.ones(500, dtype=torch.int64)
    >>> x = sample(Classified(both, both.classify, 1.0), rng=SampleRng(range(500)), cond=right)
    >>> bool(abs(x.mean() - 1) < 0.2)
    True
    """

    better: ByClassifier

    def __init__(
        self, field: Field, classifier: LogClasses, strength: float = 1.0, interval: tuple[float, float] | None = None
    ) -> None:
        """Take a field and a classifier.

        Args:
            field: any; it is asked without a condition.
            classifier: (x_t, t) -> log p_t(class | x_t), `(batch, classes)`, differentiable in x_t.
            strength: g >= 0: 1 for the conditional field, 0 for `field`.
            interval: (low, high) in sigma/alpha outside which g = 1; None for none.

        Raises:
            ScorefieldError: a strength below 0, an empty interval.
        """
        super().__init__(ByClassifier(field, classifier), Unconditional(field), strength, interval)

    def scores(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> tuple[Sample, Sample]:
        worse = self.worse(x, t).score  # asked once: the other is this and a slope
        return worse, worse + self.better.slope(x, t, cond)

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        score = self.worse(x, t).score + over(self.strengths(t), x) * self.better.slope(x, t, cond)
        return Prediction.of_score(self.process, x, t.double(), score)


class NoisyClassifier(nn.Module):
    """A trained classifier of noisy data: (x_t, t) -> log p_t(class | x_t), `(batch, classes)`, in the dtype of x_t."""

    def __init__(self, network: nn.Module, process: Process, data_std: float) -> None:
        """Hold the parts: a network of (scaled x_t, ln(sigma/alpha)), and what scales its input."""
        super().__init__()
        self.network, self.process, self.data_std = network, process, data_std

    def forward(self, x: Sample, t: PerSample) -> Tensor:
        """Return log-probabilities, `(batch, classes)`."""
        t = t.double()
        spread = torch.hypot(self.process.alpha(t) * self.data_std, self.process.sigma(t))
        label = noise_label_of("log-sigma", self.process, t)
        dtype = next(self.network.parameters()).dtype
        logits: Tensor = self.network((x / over(spread, x)).to(dtype), label.to(dtype))
        return logits.to(x.dtype).log_softmax(dim=1)


def train_classifier(
    x0: Sample,
    labels: Tensor,
    process: Process,
    *,
    steps: int = 1000,
    batch: int = 128,
    seed: int = 0,
    network: nn.Module | None = None,
    progress: Progress = silent,
) -> NoisyClassifier:
    """Train a classifier of noisy data.

    Args:
        x0: clean examples in model space, `(n, *shape)`.
        labels: their classes, `(n,)`, int64, 0-based.
        process: how the field's data are noised.
        steps: of AdamW under a one-cycle learning rate.
        batch: examples a step.
        seed: of the starting weights, the order of the examples and their noise.
        network: of (scaled x_t, ln(sigma/alpha)), giving logits; None for a small one that suits the shape.
        progress: called with the fraction done and words.

    Raises:
        ScorefieldError: labels that do not fit the examples.

    >>> from scorefield import VE
    >>> x0, labels = torch.tensor([[-1.0], [1.0]]).repeat(50, 1), torch.tensor([0, 1]).repeat(50)
    >>> found = train_classifier(x0, labels, VE(0.01, 10.0), steps=30)
    >>> found(torch.tensor([[1.0]]), torch.tensor([0.1])).exp().argmax().item()
    1
    """
    if labels.shape != (len(x0),) or labels.dtype != torch.int64 or not len(x0) or int(labels.min()) < 0:
        raise ScorefieldError(
            f"got labels {labels.dtype} of shape {tuple(labels.shape)}, expected int64 of shape ({len(x0)},), 0-based: give "
            "one for each example"
        )
    std = float((x0.double() - x0.double().mean(dim=0)).square().mean().sqrt())
    if network is None:
        with torch.random.fork_rng(devices=[]):  # torch's initialisers use the global generator: leave it as it was
            torch.manual_seed(stream_of("classifier", seed) >> 1)
            network = Classifier(tuple(x0.shape[1:]), int(labels.max()) + 1)
    found = NoisyClassifier(network, process, std)
    times = LogNormal(mean=math.log(std), std=1.5, spread=0.1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for step in range(steps):
        rng = SampleRng(range(step * batch, (step + 1) * batch), stream=stream_of("classifier", seed), device=x0.device)
        rows = (rng.uniform() * len(x0)).long()
        t = times.quantile(process, rng.even())
        noisy = process.perturb(x0[rows].double(), t, rng.normal(x0.shape[1:])).float()
        loss = F.nll_loss(found(noisy, t), labels[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        progress((step + 1) / steps, "learning classes")
    return found.eval().requires_grad_(False)
