"""What a run becomes in diffusers: a model, and a pipeline that draws with any of its schedulers.

Their schedulers of variance-preserving form have a table sigma_n, n = 0..T-1, of lambda = sigma/alpha, find the time of any
other level by interpolating n in ln lambda, and take from the network v = alpha·noise - sigma·x0 at x = alpha·x0 + sigma·noise
with alpha² + sigma² = 1 (Salimans, Ho 2022, arXiv 2202.00512). Every process has that form in z = x_t/alpha, and every
parametrisation's v is a sum of the input and of the network's output y, with factors of the level alone:

    v = by_x·x + by_y·y(scale·x, label)          x = z/sqrt(1 + lambda²)

The model holds the four numbers, and ln lambda, at every time n and at points between. This file is the source of what is
exported (`to_diffusers.py`), with the run's network in place of `Network`; nothing else here imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

Network = nn.Module


@dataclass
class ModelOutput(BaseOutput):  # type: ignore[misc]
    """What the model returns: `sample` is v, `(batch, *shape)`."""

    sample: Tensor


class ScorefieldModel(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A score network as a diffusers model: `model(sample, timestep, class_labels).sample` is v.

    Labels are numbers of classes, and -1, or None for the whole batch, for no class.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, shape: list[int], settings: dict[str, Any], rows: int, rows_per_time: int, about: dict[str, Any]
    ) -> None:
        super().__init__()
        self.network = Network(tuple(shape), **{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
        self.register_buffer("data_mean", torch.zeros(shape))
        self.register_buffer("table", torch.zeros(rows, 5))  # ln lambda, scale, label, by_x, by_y

    def at(self, timestep: Any, batch: int) -> tuple[Tensor, ...]:
        """Return lambda, scale, label, by_x and by_y at a time, or one for each sample, each `(batch,)`."""
        place = torch.as_tensor(timestep, device=self.table.device, dtype=torch.float64).expand(batch)
        place = (place * self.config.rows_per_time).clamp(0, len(self.table) - 1)
        below = place.floor().long().clamp(max=len(self.table) - 2)
        share = (place - below)[:, None]
        row = (1 - share) * self.table[below].double() + share * self.table[below + 1].double()
        log_level, *rest = row.to(self.data_mean.dtype).unbind(1)
        return (log_level.exp(), *rest)

    def forward(
        self, sample: Tensor, timestep: Any, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> ModelOutput | tuple[Tensor]:
        """Return v at samples of variance-preserving form, `(batch, *shape)`, and their times, one or `(batch,)`."""
        _, scale, label, by_x, by_y = self.at(timestep, len(sample))
        about = self.config.about
        classes = len(about["classes"])
        if classes and class_labels is None and not about["unconditional"]:
            raise ValueError("expected class_labels: the network accepts no example without a class")
        cond = None if class_labels is None or not classes else torch.where(class_labels < 0, classes, class_labels)
        axes = (-1, *(1,) * (sample.ndim - 1))
        y = self.network(scale.reshape(axes) * sample, label, cond)
        v = by_x.reshape(axes) * sample + by_y.reshape(axes) * y
        return ModelOutput(sample=v) if return_dict else (v,)


@dataclass
class SamplesOutput(BaseOutput):  # type: ignore[misc]
    """What the pipeline returns: `samples`, `(batch, *shape)`, in the data's own units."""

    samples: np.ndarray[Any, Any]


class ScorefieldPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Draws samples: `pipeline(64, num_inference_steps=20).samples`."""

    def __init__(self, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        num_inference_steps: int = 20,
        class_labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        sigmas: list[float] | None = None,
    ) -> SamplesOutput:
        """Return new samples.

        Args:
            batch_size: how many.
            num_inference_steps: of the scheduler.
            class_labels: a class for each; None for classes as often as in the training data.
            generator: of the noise, and of the classes.
            noise: N(0, I) to start from, `(batch, *shape)`; None to draw it.
            sigmas: levels, noisiest first and 0 last, in place of a number of steps, for schedulers that take them.
        """
        unet, about, device = self.unet, self.unet.config.about, self._execution_device
        if sigmas is None:
            self.scheduler.set_timesteps(num_inference_steps, device=device)
        else:
            self.scheduler.set_timesteps(sigmas=sigmas, device=device)
        if noise is None:
            noise = randn_tensor((batch_size, *unet.config.shape), generator=generator, device=device, dtype=unet.dtype)
        if class_labels is None and about["classes"]:
            often = torch.tensor(about["class_counts"], dtype=torch.float64, device=device)
            class_labels = torch.multinomial(often, batch_size, replacement=True, generator=generator)
        top = float(unet.at(self.scheduler.timesteps[0], 1)[0])
        x = unet.data_mean + (about["std"] ** 2 + top**2) ** 0.5 * noise  # of the prior, with the data's own mean and variance
        if float(self.scheduler.init_noise_sigma) == 1.0:  # a scheduler whose state is of variance-preserving form
            x = x / (1 + top**2) ** 0.5
        for t in self.progress_bar(self.scheduler.timesteps):
            seen = unet(self.scheduler.scale_model_input(x, t), t, class_labels).sample
            x = self.scheduler.step(seen, t, x, return_dict=False)[0]
        raw = x.double().cpu().numpy() * np.array(about["scale"]) + np.array(about["shift"])
        bounded = about["low"] is not None or about["high"] is not None
        return SamplesOutput(samples=raw.clip(about["low"], about["high"]) if bounded else raw)
