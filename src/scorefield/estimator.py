"""A scikit-learn estimator: `ScoreDensity().fit(X).sample(n)`, `.score_samples(X)`, `.denoise(X)`, `.impute(X)`.

A score of rows of numbers is learned from X as the command learns it from a file, by the recipe `auto` and the same loop.
Columns are moved and scaled to mean 0 and standard deviation 1 first, as by a StandardScaler, z = (X - mean_)/scale_, so that

    samples        leave in X's own units
    log-densities  are nats of X's own units: log p(X) = log p(z) - sum log scale_
    noise          of one level in z is noise of standard deviation level·scale_ in X: another in every column

and X times c changes every log-density by exactly -d·log c, for any c that floats can hold. `score_samples` is the density seen
through noise of the lowest level, `smoothing_` in X's units (1 % of each column's standard deviation): data on a grid or a line
have none of their own, which `fit` warns of. A constant column has none either and is left out of the density: d counts the
columns that vary, and a row with another value there has the log-density -inf.

All randomness comes from `random_state` through one integer. With a budget in steps a fit depends only on the data, the
parameters and that integer; row i of `impute` has a draw of its own, whatever the other rows are.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from scorefield import registry
from scorefield.anomaly.scoring import ScoresOdd
from scorefield.config import from_dict, override, to_dict
from scorefield.data import DataConfig, Normaliser
from scorefield.data.base import LEAST, Examples, build
from scorefield.data.numeric import masked_as_nan, refuse_masked
from scorefield.data.table.groups import Groups
from scorefield.devices import pick_device
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.fitting import Array, as_array, pieces_of, refuse_count, seed_of, single, size_of
from scorefield.guidance.conditional import EXACT
from scorefield.guidance.ways import best_way, draws_by
from scorefield.likelihood import Exact, Hutchinson, Section, data_log_prob, support_of
from scorefield.moments import Moments
from scorefield.randomness import SampleRng, stream_of
from scorefield.recipes import data_stats
from scorefield.runs import UNSURE, build_model
from scorefield.samplers.base import sample
from scorefield.training.covariance import data_moments
from scorefield.training.loop import Trainer
from scorefield.training.reports import TrainingState
from scorefield.training.resolve import learning_given, model_of

SMALL = 16  # columns up to which the trace of the log-density is exact
MEAN_DRAWS = 64  # at least, of which a mean is taken
FAR = 1e6  # standard deviations, beyond which all values are treated alike


class ScoreDensity(ScoresOdd, DensityMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A density of rows of numbers, learned by its score: draw from it, evaluate it, denoise with it, fill gaps with it.

    It follows scikit-learn: it works in a Pipeline, under clone and in GridSearchCV (`score` is the mean log-density, so higher
    is better), takes arrays and data frames, and is saved by joblib or pickle as plain arrays.

    Ctrl-C during `fit` stops the training and keeps what has been learned, with a ConvergenceWarning, as MLPClassifier does.

    Attributes:
        config_: all settings of the fit, a `RunConfig`.
        field_: the learned field of standardised rows, for every function of scorefield that takes one.
        mean_, scale_: of every column, `(n_features,)`; a constant column has scale 1.
        smoothing_: standard deviation of the noise through which the density is seen, per column, in X's units.
        n_iter_: steps taken.
        held_out_loss_: per coordinate, on the tenth of the rows that training did not see.
        n_features_in_, feature_names_in_: as in every estimator of scikit-learn.

    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> density = ScoreDensity(max_steps=20, random_state=0).fit(X)
    >>> density.sample(3).shape, density.score_samples(X[:5]).shape, density.impute([[0.3, np.nan]]).shape
    ((3, 2), (5,), (1, 2))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "max_steps": [Interval(Integral, 1, None, closed="left"), None],
        "max_seconds": [Interval(Real, 0, None, closed="neither"), None],
        "recipe": [str],
        "settings": [list, tuple],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        max_steps: Any = 300,
        max_seconds: Any = None,
        recipe: Any = "auto",
        settings: Any = (),
        device: Any = "cpu",
        random_state: Any = None,
        verbose: Any = False,
    ) -> None:
        """Hold the parameters; by scikit-learn's rule they are checked by `fit` and not here.

        Args:
            max_steps: of the optimiser; the learning rate falls to its end. None needs max_seconds.
            max_seconds: of training, instead of max_steps or with it; two fits then differ, since their times do.
            recipe: name of the recipe that chooses everything else.
            settings: `dotted.key=value` changes to its choices, as in `scorefield train --set`: "process.sigma_min=0.05"
                smooths more, "network.width=64" learns faster.
            device: cpu, cuda, or auto for cuda where there is one; a network of this size is no slower on a CPU.
            random_state: an integer, a numpy RandomState, or None for another result every time.
            verbose: print a line every few seconds of `fit`.
        """
        self.max_steps, self.max_seconds, self.recipe, self.settings = max_steps, max_seconds, recipe, settings
        self.device, self.random_state, self.verbose = device, random_state, verbose

    def fit(self, X: Any, y: Any = None) -> ScoreDensity:
        """Learn the score of the rows of X.

        Args:
            X: `(n, d)`, finite numbers, n >= 8; NaN, or a mask of numpy, where a value is missing. What is learned of such rows
                is right if values are missing at random, given the others of their row. A column of one value is given back
                as it is; one of NaN alone is refused.
            y: ignored.

        Raises:
            ValueError: fewer rows than 8, a column without numbers, infinite ones, parameters that do not fit
                (`InvalidParameterError`, `ScorefieldError`).
            NotFinite: training that diverges.

        Warns:
            UserWarning: columns that have no density, of which `score_samples` then says little.
        """
        self._validate_params()
        if self.max_steps is None and self.max_seconds is None:
            raise ScorefieldError("got neither max_steps nor max_seconds, expected at least one of them: set one")
        if wrong := [setting for setting in self.settings if not isinstance(setting, str)]:
            raise ScorefieldError(f"got {wrong[0]!r} among the settings, expected texts such as 'network.width=64': quote it")
        X = masked_as_nan(X)
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=LEAST, ensure_all_finite="allow-nan", copy=True)
        if len(empty := np.flatnonzero(np.isnan(X).all(axis=0))):
            raise ScorefieldError(f"got column {empty[0]} with NaN alone, expected numbers among them: leave it out")
        size = size_of(X)  # powers of two: dividing by them rounds nothing, and squares of the quotients do not overflow
        rows = torch.from_numpy(X / size)
        device, seed = pick_device(self.device), seed_of(self.random_state)
        normaliser = Normaliser.standard(rows)
        data = build(Examples("X", "vector", rows, lambda train: normaliser), DataConfig(seed=seed))
        stats = data_stats(data)
        chosen = registry.find("recipe", self.recipe)(stats).config
        budget = replace(chosen.training, steps=self.max_steps, seconds=self.max_seconds, precision="float32", pictures=0)
        config = override(replace(chosen, training=budget, seed=seed), list(self.settings))
        config = learning_given(config, data, self.settings)[0]
        model = model_of(config, data, stats, device)
        trainer = Trainer(config, data, model, None, device)
        self.n_iter_, self.held_out_loss_ = 0, math.nan
        try:
            for progress in trainer.run():
                self._report(progress)
        except KeyboardInterrupt:  # the average changes in one call, after the step: it is never half updated
            done = f"fit was interrupted after {trainer.clock.step} steps; what has been learned so far is kept"
            warnings.warn(done, ConvergenceWarning, stacklevel=2)
        self.n_iter_ = trainer.clock.step
        self._varies = np.nanmin(X, axis=0) < np.nanmax(X, axis=0)
        scale = np.where(self._varies, np.array(normaliser.scale) * size, 1.0)
        self.config_, self._std = config, stats.std
        self._normaliser = Normaliser(shift=tuple((np.array(normaliser.shift) * size).tolist()), scale=tuple(scale.tolist()))
        # float64: the result for a row is then the same to a dozen digits in every batch
        self.field_ = trainer.average.double().eval().requires_grad_(False)
        self._moments, self._holes = data_moments(data), data.normaliser.holes
        self._give_moments()
        self._keep_rows(data)
        self._way = best_way(single(self.field_), normaliser.encode(torch.as_tensor(data.held_out[:])), data.groups)
        self._set_attributes()
        try:
            separate = support_of(rows[~rows.isnan().any(dim=1)], torch.from_numpy(self.smoothing_ / size)).separate
            reason = f"column {separate[0]} takes separate values, which have probabilities and no density" if separate else ""
        except ScorefieldError as error:
            reason = str(error) if self._varies.any() else ""
        if reason:
            warnings.warn(f"score_samples is the density of X seen through noise of smoothing_ alone: {reason}", stacklevel=2)
        return self

    def sample(self, n_samples: Any = 1, random_state: Any = None) -> Array:
        """Return draws from the density, `(n_samples, d)`, in X's units.

        Args:
            n_samples: how many, >= 1.
            random_state: as for the estimator; None for another result every time.
        """
        check_is_fitted(self)
        refuse_count(n_samples=n_samples)
        rng = self._rng(n_samples, "sample", seed_of(random_state))
        drawn = [sample(self.field_, rng=rng[piece]) for piece in pieces_of(n_samples)]
        return self._raw(torch.cat(drawn))

    def score_samples(self, X: Any) -> Array:
        """Return the log-density of each row, `(n,)`, in nats of X's own units, by the probability flow.

        Args:
            X: `(n, d)`, finite. Up to 16 columns the trace is exact; above, 8 fixed random probes a row estimate it.

        Returns:
            `(n,)`; for a row a million standard deviations away, or one from which the flow cannot be integrated, the value of
            the Gaussian with X's mean and deviations, very low, and -inf where floats overflow.
        """
        check_is_fitted(self)
        refuse_masked(X, "X")
        X = validate_data(self, X, reset=False, dtype=np.float64)
        with np.errstate(over="ignore"):
            z = ((X - self.mean_) / self.scale_)[:, self._varies]
            far = (np.abs(z) > FAR).any(axis=1)
            wide = 1 + (self.smoothing_ / self.scale_)[self._varies] ** 2
            values = -0.5 * (z**2 / wide + np.log(2 * math.pi * wide)).sum(axis=1)
        near = np.flatnonzero(~far)
        for rows in (near[piece] for piece in pieces_of(len(near))):
            values[rows] = self._log_prob(torch.from_numpy(z[rows]), values[rows])
        values[(X != self.mean_)[:, ~self._varies].any(axis=1)] = -np.inf
        return np.asarray(values - np.log(self.scale_[self._varies]).sum(), dtype=np.float64)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-density of the rows, nats; higher is better. y is ignored."""
        return float(self.score_samples(X).mean())

    def denoise(self, X: Any, noise_std: Any = None) -> Array:
        """Return the mean of the clean row given the noisy one, E[x | x + noise = X], `(n, d)`, in X's units.

        Args:
            X: noisy rows, `(n, d)`, finite.
            noise_std: standard deviation of the noise in X's own units, one number or one per column. The learned noise
                levels are those of standardised columns, so it must be the same multiple of `scale_` in every column, to 1 %:
                `0.1 * density.scale_`, or one number after a StandardScaler. None for 0.1·scale_.

        Raises:
            ScorefieldError: noise of another shape, or of a level that was not learned.
        """
        check_is_fitted(self)
        refuse_masked(X, "X")
        z = self._standard(validate_data(self, X, reset=False, dtype=np.float64))
        try:
            std = 0.1 * self.scale_ if noise_std is None else np.asarray(noise_std, dtype=np.float64)
        except (TypeError, ValueError):
            raise ScorefieldError(
                f"got noise_std {noise_std!r}, expected a positive number or {z.shape[1]} of them: 0.1 * density.scale_, say"
            ) from None
        if std.shape not in ((), (z.shape[1],)) or not bool((np.isfinite(std) & (std > 0)).all()):
            raise ScorefieldError(
                f"got noise_std {std.tolist()}, expected a positive number or {z.shape[1]} of them: 0.1 * density.scale_, say"
            )
        levels = np.broadcast_to(std, self.scale_.shape) / self.scale_
        level = float(np.exp(np.log(levels).mean()))
        if levels.max() > 1.01 * levels.min():
            raise ScorefieldError(
                f"got noise of {levels.min():.3g} to {levels.max():.3g} times the columns' standard deviations, expected the "
                "same multiple in every column: pass multiple * density.scale_, or put a StandardScaler before"
            )
        process = self.field_.process
        ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
        low, high = (process.sigma(ends) / process.alpha(ends)).tolist()
        if not low <= level <= high:
            raise ScorefieldError(
                f"got noise of {level:.3g} times the columns' standard deviations, expected {low:.3g} to {high:.3g}, which was "
                "learned: choose a level between"
            )
        t = process.time_of_sigma(torch.tensor([level], dtype=torch.float64))
        x = process.alpha(t).to(z.device) * z
        clean = [self.field_(x[piece], t.to(z.device).expand(len(x[piece]))).denoised for piece in pieces_of(len(x))]
        return self._raw(torch.cat(clean))

    def impute(self, X: Any, n_draws: Any = 1, *, mean: bool = False, particles: Any = 8, random_state: Any = None) -> Array:
        """Fill missing values by draws given the observed ones, by the way of `guidance/ways.py` that `fit` chose.

        Args:
            X: `(n, d)`, NaN (or a mask of numpy) where a value is missing, any pattern.
            n_draws: draws for each row, >= 1.
            mean: return the mean given the observed values instead, over all particles of a row.
            particles: for each draw, where they were chosen; more are more accurate, and slower. A row has 16 at least.
            random_state: as for the estimator; None for another result every time.

        Returns:
            `(n, d)`, or `(n_draws, n, d)` for several draws, in X's units, observed values untouched; what is drawn is
            computed in single precision.
        """
        check_is_fitted(self)
        raw = validate_data(self, masked_as_nan(X), reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        refuse_count(n_draws=n_draws, particles=particles)
        seed, missing = seed_of(random_state), np.isnan(raw)
        gaps = np.flatnonzero(missing.any(axis=1))
        rng = self._rng(len(raw), "impute", seed)[torch.from_numpy(gaps)]
        how = {"rng": rng, "particles": particles, "way": getattr(self, "_way", EXACT), "groups": Groups.single(raw.shape[1])}
        many = max(n_draws, MEAN_DRAWS) if mean else n_draws
        found = draws_by(field=single(self.field_), known=self._standard(raw[gaps]), draws=many, **how)
        filled = np.repeat(raw[None], 1 if mean else n_draws, axis=0)
        for draw, x in enumerate(found.mean[None] if mean else found.x):
            filled[draw, gaps] = np.where(missing[gaps], self._raw(x), raw[gaps])
        return np.asarray(filled[0] if mean or n_draws == 1 else filled)

    # --- internal ----------------------------------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True  # in `fit` and `impute`
        return tags

    def _set_attributes(self) -> None:
        """Set `mean_`, `scale_` and `smoothing_`."""
        self.mean_, self.scale_ = np.array(self._normaliser.shift), np.array(self._normaliser.scale)
        process = self.field_.process
        low = torch.tensor(process.t_min, dtype=torch.float64)
        self.smoothing_ = float(process.sigma(low) / process.alpha(low)) * self.scale_

    def _give_moments(self) -> None:
        """Tell the field the covariance of the rows, by which missing values are proposed."""
        if self._moments is not None:
            self.field_.moments = self._moments.floored((UNSURE * self.field_.data_std) ** 2).to(self.field_.data_mean.device)

    def _report(self, progress: TrainingState) -> None:
        self.held_out_loss_ = progress.extra.get("held_out", self.held_out_loss_)
        if self.verbose and progress.event in ("log", "done"):
            done = f"[ScoreDensity] {progress.fraction:4.0%}, step {progress.step}, {progress.seconds:.0f} s"
            print(f"{done}, held-out loss {self.held_out_loss_:.4f}")

    def _rng(self, count: int, *purpose: object) -> SampleRng:
        return SampleRng(range(count), stream=stream_of("estimator", *purpose), device=self.field_.data_mean.device)

    def _standard(self, raw: Array) -> Tensor:
        """Return rows in model space, with values clipped at a million standard deviations."""
        with np.errstate(over="ignore"):
            z = np.clip((raw - self.mean_) / self.scale_, -FAR, FAR)
        return torch.from_numpy(z).to(self.field_.data_mean.device)

    def _log_prob(self, z: Tensor, otherwise: Array) -> Array:
        """Return log-densities of the columns that vary, `(n,)`, or `otherwise` where the flow cannot be integrated."""
        device, field = self.field_.data_mean.device, self.field_
        part: Field = (
            field if self._varies.all() else Section(field, torch.from_numpy(self._varies), torch.zeros(len(self._varies)))
        )
        rng = self._rng(1, "probes", 0)  # one seed for all rows: a row's result does not depend on its place
        trace = Exact() if z.shape[1] <= SMALL else Hutchinson()
        try:
            shared = rng[torch.zeros(len(z), dtype=torch.long)]
            return as_array(data_log_prob(part, z.to(device), rng=shared, divergence=trace, within=None).value)
        except ScorefieldError:
            if len(z) == 1:
                return otherwise
            half = len(z) // 2
            return np.concatenate([self._log_prob(z[:half], otherwise[:half]), self._log_prob(z[half:], otherwise[half:])])

    def _raw(self, z: Tensor) -> Array:
        return as_array(self._normaliser.decode(z))

    def __getstate__(self) -> dict[str, Any]:
        """Return plain values and arrays, so that a pickle holds no tensor, no device and no class but this one."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "field_" in state:
            weights = {name: value.cpu().numpy() for name, value in state.pop("field_").state_dict().items()}
            known: Moments | None = state.pop("_moments")
            moments = known and (*(part.cpu().numpy() for part in (known.mean, known.vectors, known.variances)), known.rest)
            state["_kept"] = to_dict(state.pop("config_")), to_dict(state.pop("_normaliser")), weights, moments
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        kept = state.pop("_kept", None)
        super().__setstate__(state)
        if kept is not None:
            config, normaliser, weights, *more = kept
            self.config_, self._normaliser = from_dict(config), Normaliser(**normaliser)
            model = build_model(self.config_, (self.n_features_in_,), self._std, holes=getattr(self, "_holes", None)).double()
            model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
            self.field_ = model.eval().requires_grad_(False)
            moments = more[0] if more else None  # an older version kept none
            arrays = [torch.from_numpy(part.copy()) for part in moments[:3]] if moments else []
            self._moments = Moments(arrays[0], arrays[1], arrays[2], moments[3]) if moments else None
            self._give_moments()
