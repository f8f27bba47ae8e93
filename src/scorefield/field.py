"""Fields: the neck of the hourglass. A field maps (x, t) to a `Prediction`; everything else knows only fields.

Trained networks, energies, exact mixtures and guided models are all fields. Objectives, samplers, likelihoods, metrics and
restoration take any field and need nothing else of it, so replacing an exact field by a trained one changes no other line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from scorefield import forks, wrapped  # noqa: F401 - imported for its effect: every forked child that computes imports this module
from scorefield.errors import ScorefieldError
from scorefield.moments import Moments
from scorefield.noise_label import nearest_level, noise_label_of
from scorefield.prediction import Energy, Parametrisation, Prediction
from scorefield.process import Process
from scorefield.shapes import PerSample, Sample, over, total
from scorefield.wrapped import precision_of

if TYPE_CHECKING:
    from abc import ABCMeta as _ProtocolMeta
else:
    _ProtocolMeta = type(Protocol)


class _Constructors(_ProtocolMeta):
    """The constructors of `Field`, which are no members of the protocol: a field need not have them."""

    of_denoiser = staticmethod(wrapped.of_denoiser)
    of_noise = staticmethod(wrapped.of_noise)
    of_score = staticmethod(wrapped.of_score)
    of_velocity = staticmethod(wrapped.of_velocity)


@runtime_checkable
class Field(Protocol, metaclass=_Constructors):
    """A score field: its process, the shape of one sample, the data's first two moments, and (x, t) -> Prediction.

    `Field.of_denoiser`, `.of_noise`, `.of_score` and `.of_velocity` make one of any function, by what its output means
    (`wrapped.py`).

    `data_mean` has the shape of one sample; `data_std` is the root of the variance around it, averaged over coordinates.
    Samplers start from N(alpha·mean, alpha²·std² + sigma²).
    """

    process: Process
    shape: tuple[int, ...]
    data_mean: Tensor
    data_std: float

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction: ...


@runtime_checkable
class EnergyField(Field, Protocol):
    """A field that also knows its energy, -log p_t up to a constant: what a Metropolis test asks for."""

    def energy(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> PerSample: ...


@runtime_checkable
class MomentsField(Field, Protocol):
    """A field that knows the covariance of its data, or the largest part of it."""

    @property
    def moments(self) -> Moments | None: ...


def moments_of(field: Field) -> Moments:
    """Return the mean and covariance of a field's data: those that it knows, else one standard deviation for all directions."""
    known = field.moments if isinstance(field, MomentsField) else None
    return Moments.isotropic(field.data_mean, field.data_std) if known is None else known


def _save_as_own(model: nn.Module, state: dict[str, Tensor], prefix: str, _: object) -> None:
    """Name what an objective learned as if it were the model's own: "learned.chains" is saved as "chains"."""
    for name in [name for name in state if name.startswith(f"{prefix}learned.")]:
        state[prefix + name.removeprefix(f"{prefix}learned.")] = state.pop(name)


def _load_as_own(model: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Undo `_save_as_own`, before the tensors are loaded."""
    assert isinstance(model, ScoreModel)
    for name in model.learned.state_dict() if model.learned is not None else ():
        if prefix + name in state:
            state[f"{prefix}learned.{name}"] = state.pop(prefix + name)


class ScoreModel(nn.Module):
    """A network as a field: (input scale, label) -> network -> parametrisation -> Prediction.

    The state stays in the caller's dtype (float64 in samplers) and the network computes in its own, so a float32 network is not
    slowed down and the sum over steps keeps its digits.

    Attributes:
        learned: what an objective learns beside the score (`Objective.prepare`), or None; it is trained, averaged and saved
            with the network.
        moments: mean and covariance of the data, in model space; None where they are not given.

    >>> from scorefield import VE, EDM
    >>> from scorefield.nets.mlp import MLP
    >>> model = ScoreModel(MLP((2,)), EDM(data_std=1.0), VE(0.01, 10.0), (2,))
    >>> model(torch.zeros(5, 2), torch.ones(5)).score.shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        network: nn.Module,
        parametrisation: Parametrisation,
        process: Process,
        shape: tuple[int, ...],
        data_mean: Tensor | None = None,
        data_std: float = 1.0,
        *,
        unconditional: bool = True,
        takes_unknown: bool = False,
    ) -> None:
        """Hold the parts.

        Args:
            network: `network(x, label, cond) -> y`, with x and y `(batch, *shape)` and label `(batch,)`.
            parametrisation: what y means.
            process: how the data are noised.
            shape: shape of one sample.
            data_mean: mean of the data, the shape of one sample; None for zero.
            data_std: root of the data's variance around it, averaged over coordinates.
            unconditional: whether the network learns p(x) too; False where every example is given with its class, so that it
                learns only p(x | class): a call without a class is then refused.
            takes_unknown: whether the network takes NaN for an unknown cell, so that the field is the score of the marginal
                of the known ones (`nets/known_cells.py`); every view is NaN in the others. If its `takes_given` is
                true, it takes cells without noise, too: the field is the score of the others given these.

        Raises:
            ScorefieldError: a parametrisation that is ill-posed on the process, as every one but the score is without noise.
        """
        super().__init__()
        parametrisation.check(process)
        self.unconditional, self.takes_unknown = unconditional, takes_unknown
        self.takes_given: bool = getattr(network, "takes_given", False)
        self.network, self.parametrisation, self.process = network, parametrisation, process
        self.learned: nn.Module | None = None
        self.moments: Moments | None = None
        self.register_state_dict_post_hook(_save_as_own)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_load_as_own)  # type: ignore[no-untyped-call]
        self.shape, self.data_std = tuple(shape), data_std
        self.data_mean: Tensor
        self.register_buffer("data_mean", torch.zeros(shape) if data_mean is None else data_mean.clone())

    def add_learned(self, learned: nn.Module | None) -> None:
        """Take what an objective learns beside the score, if anything.

        Its tensors are saved under the names, and its parameters counted in the order, that they would have as the model's
        own: its parameters before those of the network, those of its parts after.
        """
        if learned is None:
            return
        network = self.network
        if next(learned.parameters(recurse=False), None) is not None:
            del self.network
        self.learned, self.network = learned, network

    def forward(self, x: Sample, t: PerSample, cond: Tensor | None = None, given: Tensor | None = None) -> Prediction:
        """Return the prediction at x_t, `(batch, *shape)`, and times t, `(batch,)`.

        Args:
            x: x_t, NaN in cells that are unknown or given.
            t: times.
            cond: classes, or None.
            given: x0 where a cell is given and NaN elsewhere, for a network that takes such; None for none.

        Raises:
            ScorefieldError: no class, of a network that was never trained without one.
        """
        t, label = t.double(), self.parametrisation.noise_label
        if not isinstance(label, int) or self.process.t_max == self.process.t_min:
            return self._predict(x, t, cond, given)
        # A network that is conditioned on the index of a level knows no level between two of them: evaluate it at the nearer.
        step = nearest_level(label, self.process, t)[1]
        scale = over(self.process.alpha(step) / self.process.alpha(t), x)
        return self._predict(scale * x, step, cond, given).moved(x, t)

    def _predict(self, x: Sample, t: PerSample, cond: Tensor | None, given: Tensor | None) -> Prediction:
        alpha, sigma, _, output = self._evaluate(x, t, cond, given)
        return Prediction(self.process, x, t, output, *self.parametrisation.pair(alpha, sigma))

    def _evaluate(
        self, x: Sample, t: PerSample, cond: Tensor | None, given: Tensor | None = None
    ) -> tuple[PerSample, PerSample, Sample, Tensor]:
        """Return alpha, sigma, the scaled input and the network's output, in the dtype of x."""
        if cond is None and not self.unconditional:
            raise ScorefieldError(
                "got no classes for a field that was trained with the class of every example (training.labels=1) and knows "
                "nothing of data without one, expected a class for each: pass cond, or train with training.labels=0.9"
            )
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        scaled = over(self.parametrisation.input_scale(alpha, sigma), x) * x
        label = noise_label_of(self.parametrisation.noise_label, self.process, t)
        label = label.nan_to_num(nan=0.0, neginf=0.0, posinf=torch.inf)  # ln(0) and 0/0, where there is no noise
        dtype = precision_of(self.network, x.dtype)
        if not self.takes_given:
            return alpha, sigma, scaled, self.network(scaled.to(dtype), label.to(dtype), cond).to(x.dtype)
        guess, pull = self.network.explained(x / over(alpha, x), sigma / alpha, given)  # type: ignore[operator]
        a, c = self.parametrisation.pair(alpha, sigma)
        known = over(a, x) * guess - over(c / alpha, x) * pull  # the output that says what is known without the network
        told = None if given is None else given.to(dtype)
        learned = self.network(scaled.to(dtype), label.to(dtype), cond, told, guess.to(dtype)).to(x.dtype)
        return alpha, sigma, scaled, torch.where(x.isnan(), 0.0, known) + learned


class EnergyModel(ScoreModel):
    """A scalar network as a field: an energy E(x, t), score = -grad E, which has no curl for any weights.

    E = |x|²/(2·r²) + gain·phi(x/r, label) with r and gain of the parametrisation `Energy`; E = -log p_t + a constant that may
    depend on t. An evaluation costs one backward pass more than a score network's, and a training step two.

    >>> from scorefield import VE
    >>> from scorefield.nets.energy import Potential
    >>> from scorefield.nets.mlp import MLP
    >>> from scorefield.prediction import Energy
    >>> model = EnergyModel(Potential(MLP((2,))), Energy(), VE(0.01, 10.0), (2,))
    >>> model.energy(torch.zeros(5, 2), torch.ones(5)).shape, model(torch.zeros(5, 2), torch.ones(5)).score.shape
    (torch.Size([5]), torch.Size([5, 2]))
    """

    parametrisation: Energy

    def __init__(
        self,
        network: nn.Module,
        parametrisation: Energy,
        process: Process,
        shape: tuple[int, ...],
        data_mean: Tensor | None = None,
        data_std: float = 1.0,
        *,
        unconditional: bool = True,
    ) -> None:
        """Hold the parts; as `ScoreModel`, but `network(x, label, cond) -> phi`, `(batch,)`, smooth in x."""
        super().__init__(network, parametrisation, process, shape, data_mean, data_std, unconditional=unconditional)

    def energy(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> PerSample:
        """Return E(x, t) = -log p_t(x) + a constant of t, `(batch,)`, in the dtype of x."""
        alpha, sigma, scaled, phi = self._evaluate(x, t.double(), cond)
        return total(scaled**2) / 2 + self.parametrisation.gain(alpha, sigma).to(x.dtype) * phi

    def forward(  # type: ignore[override]  # an energy takes no given cells
        self, x: Sample, t: PerSample, cond: Tensor | None = None
    ) -> Prediction:
        """Return the prediction whose score is -grad E(x, t), differentiable when gradients are on."""
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            inner = x if x.requires_grad else x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.energy(inner, t, cond).sum(), inner, create_graph=keep)
        return Prediction.of_score(self.process, x, t.double(), -gradient)
