"""A model of elsewhere in the letters of this package, and the run that is made of it.

    files -> Checkpoint.read -> Foreign -> write_run -> a run's folder

A model is foreign by its weights alone. The meaning of its noise label and of its output is said by the parts that a
run has anyway: the process (alpha, sigma), the parametrisation (a, c, input scale, noise label), the map from raw values. So
whatever a run can do, an imported one can.

Weights are compared with the architecture by name and shape, in both directions, before anything is written: a tensor that is
missing would be left as the random numbers of a new network, and nothing else would say so.
"""

from __future__ import annotations

import difflib
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as default
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from scorefield import files, registry
from scorefield.config import Optimiser, RunConfig, Training, parsed, to_dict
from scorefield.data import DataConfig, Normaliser
from scorefield.data.base import Kind
from scorefield.data.layout import Layout
from scorefield.errors import ScorefieldError, unknown
from scorefield.models import build_model
from scorefield.nets.base import NetworkConfig
from scorefield.objectives import Denoising
from scorefield.prediction import Parametrisation
from scorefield.process import Process
from scorefield.runs import new_manifest, save_model
from scorefield.samplers import ABM

PIXELS = Normaliser.between(0.0, 255.0)
IMAGE_STD = 0.5  # of pixels in [-1, 1], about: Karras et al. (2022), arXiv 2206.00364, take it for all their data
SAFETENSORS, PICKLED = (".safetensors",), (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, eq=False)
class Foreign:
    """A model of elsewhere.

    Attributes:
        source: its files, as they were named.
        found: what they are, as a phrase: "a diffusers pipeline (DDPMPipeline)".
        network: settings of the architecture.
        weights: state dict of `network.build(shape, len(classes))`, by name; of any type of real numbers.
        parametrisation: what the network's output means, and of its noise label.
        process: how its data were noised.
        shape: of one sample.
        classes: names of the classes that it is conditioned on, at least two, or ().
        unconditional: of a network with classes: whether it knows data without a class, too (cond = None).
        normaliser: how raw values map to those that the network sees.
        kind: of its data.
        data_std: standard deviation of its data in model space, about.
        data_mean: their mean in model space, of that shape; None for zero.
        config: of a model that was a run of this package, its settings; None for those of `config_of`.
        about: of such a model, what else its manifest says of its data.
        clipped: whether its samples are drawn with every denoised one kept in the legal range.
        notes: what was assumed, in sentences.
    """

    source: str
    found: str
    network: NetworkConfig
    weights: Mapping[str, Tensor] = default(repr=False)
    parametrisation: Parametrisation
    process: Process
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    unconditional: bool = False
    normaliser: Normaliser = PIXELS
    kind: Kind = "image"
    data_std: float = IMAGE_STD
    data_mean: Tensor | None = default(default=None, repr=False)
    config: RunConfig | None = None
    about: Mapping[str, Any] = default(default_factory=dict, repr=False)
    clipped: bool = False
    notes: tuple[str, ...] = ()


class Checkpoint(ABC):
    """One layout of files in which models are published.

    A subclass declares:

    Attributes:
        description: what it reads, as a phrase that follows "expected": "a diffusers pipeline".
        settings: what may be said of a model whose files do not say it, by name: `--set name=value`.
    """

    description: ClassVar[str]
    settings: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def claims(self, source: Path) -> bool:
        """Whether a file or folder is of this layout; no tensor is read for it."""

    @abstractmethod
    def read(self, source: Path, settings: Mapping[str, Any]) -> Foreign:
        """Return the model in a file or folder that this layout claims.

        Args:
            source: the file or folder, which is there.
            settings: values of `settings` by name, those that were given.

        Raises:
            ScorefieldError: files that are damaged, or a model of a kind that this package does not have.
        """


def read_foreign(source: str | Path, settings: Sequence[str] = ()) -> Foreign:
    """Return the model in a file or folder, read by the first registered layout that claims it.

    Args:
        source: the file or folder.
        settings: what the files do not say, or say wrongly, as texts `name=value`.

    Raises:
        ScorefieldError: nothing there, files of no known layout, a setting that the layout does not have.
    """
    given = dict[str, Any]()
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ScorefieldError(f"got --set {setting!r}, expected name=value: for example prediction_type=v_prediction")
        given[name.strip()] = parsed(text.strip())
    path = Path(source).expanduser()
    layouts: dict[str, type[Checkpoint]] = registry.every("checkpoint")
    expected = " or ".join(layout.description for layout in layouts.values())
    if not path.exists():
        raise ScorefieldError(f"got {str(source)!r}, where nothing is, expected {expected}: check its spelling")
    for kind, layout in layouts.items():
        if (one := layout()).claims(path):
            for name in given:
                if name not in one.settings:
                    raise unknown(f"setting of {kind}", name, one.settings)
            return replace(one.read(path, given), source=str(source))
    if (path / "manifest.json").is_file() and (path / "config.json").is_file():
        raise ScorefieldError(f"got {source}, which is a run already, expected a model of elsewhere: use it as it is")
    if path.suffix == ".pkl":
        raise ScorefieldError(
            f"got the pickle {source}, which carries code that would be run, expected tensors alone: where it came from, load "
            "it and save torch.save(network.state_dict(), 'weights.pt'), or wrap the network in Python by Field.of_denoiser"
        )
    raise ScorefieldError(f"got {str(source)!r}, whose layout is not known, expected {expected}: convert it")


def class_names(count: int, given: Any) -> tuple[str, ...]:
    """Return the names of a model's classes: those that were given, as a text with commas or a list, else their numbers.

    Raises:
        ScorefieldError: not one name for each class.

    >>> class_names(2, None), class_names(2, "cat, dog")
    (('0', '1'), ('cat', 'dog'))
    """
    texts = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else [given]
    names = tuple(str(name).strip() for name in (range(count) if given is None else texts))
    if len(names) != count or len(set(names)) != count:
        raise ScorefieldError(
            f"got {len(set(names))} names of classes for a network of {count}, expected one for each: correct them"
        )
    return names


# --- weights ----------------------------------------------------------------------------------------------------------


def read_tensors(path: Path) -> dict[str, Any]:
    """Return what a file of weights holds, on the CPU: tensors by name, or, in files of torch, plain values of them.

    Of a list it returns the entries by their number, "0" for the first.

    Raises:
        ScorefieldError: no such file, a damaged one, or a pickle with other things than tensors in it, which is not run.
    """
    try:
        if path.suffix in SAFETENSORS:
            return dict(load_file(path))
        with warnings.catch_warnings(action="ignore"):  # of torch, about the file: what is wrong with it is said below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise ScorefieldError(
            f"got {path}, a pickle of more than tensors, which would be run as code, expected tensors alone: where it came "
            "from, load it and save its state_dict() by torch.save or safetensors"
        ) from None
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ScorefieldError(f"got a {path} that cannot be read ({reason}), expected weights: download it again") from None
    if isinstance(content, list | tuple):
        return {str(i): entry for i, entry in enumerate(content)}
    if not isinstance(content, Mapping):
        raise ScorefieldError(f"got a {type(content).__name__} in {path}, expected tensors by name: save its state_dict()")
    return dict(content)


def without_prefix(weights: Mapping[str, Tensor], prefix: str = "module.") -> dict[str, Tensor]:
    """Return weights by names without a prefix that all of them have: a model that ran on several devices saves one.

    >>> list(without_prefix({"module.a": torch.zeros(1), "module.b": torch.zeros(1)}))
    ['a', 'b']
    """
    common = bool(weights) and all(name.startswith(prefix) for name in weights)
    return {name.removeprefix(prefix) if common else name: value for name, value in weights.items()}


def check_weights(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are not exactly those of an architecture.

    Args:
        weights: by name.
        wanted: state dict of the architecture.
        source: where the weights are, for the message.

    Raises:
        ScorefieldError: a tensor that is missing, left over, of another shape, no real number, or not finite.
    """
    missing, extra = ([key for key in one if key not in other] for one, other in ((wanted, weights), (weights, wanted)))
    if missing:
        raise ScorefieldError(
            f"got weights in {source} without {_some(missing)}, which its architecture has{_near(missing[0], extra or weights)}"
            f", expected all {len(wanted)} tensors: restore the file, or correct the settings beside it"
        )
    if extra:
        raise ScorefieldError(
            f"got weights in {source} with {_some(extra)}, which its architecture does not have{_near(extra[0], wanted)}, "
            f"expected its {len(wanted)} tensors alone: correct the settings beside it"
        )
    for name, tensor in wanted.items():
        value = weights[name]
        if value.shape != tensor.shape:
            raise ScorefieldError(
                f"got {name!r} of shape {tuple(value.shape)} in {source}, expected {tuple(tensor.shape)} by its settings: "
                "correct the settings beside it"
            )
        if tensor.is_floating_point() and not (value.is_floating_point() and bool(value.isfinite().all())):
            raise ScorefieldError(f"got {name!r} in {source} with NaN, or no real numbers, expected weights: download it again")


def _some(names: list[str]) -> str:
    return f"{names[0]!r}" + (f" and {len(names) - 1} more" if names[1:] else "")


def _near(name: str, others: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(others), n=1, cutoff=0.5)
    return f" (nearest: {close[0]!r})" if close else ""


# --- the run ----------------------------------------------------------------------------------------------------------


def run_folder(name: str | Path) -> Path:
    """Return the folder of an imported run: runs/NAME for a bare word, else the path itself.

    Raises:
        ScorefieldError: no name, or something that is there already.

    >>> run_folder("church"), run_folder("./church")
    (PosixPath('runs/church'), PosixPath('church'))
    """
    text = os.fspath(name)
    bare = os.path.basename(text) == text and text not in ("", ".", "..")
    folder = Path(os.path.normpath(Path("runs") / text if bare else Path(text).expanduser()))
    if not text or folder == Path("."):
        raise ScorefieldError(f"got --as {text!r}, expected the name of a new folder: write one")
    if os.path.lexists(folder):
        raise ScorefieldError(f"got --as {text}, but {folder} is there already, expected a new folder: choose another name")
    return folder


def config_of(foreign: Foreign) -> RunConfig:
    """Return the settings of the run that a model becomes: its own, or else those of 20 evaluations of `abm`."""
    if foreign.config is not None:
        return replace(foreign.config, source=foreign.source)
    process, parametrisation, network, size = foreign.process, foreign.parametrisation, foreign.network, foreign.shape[1:]
    pictured = foreign.kind == "image" and len(size) == 2
    return RunConfig(
        source=foreign.source,
        recipe="imported",
        process=process,
        parametrisation=parametrisation,
        network=network,
        objective=Denoising(),
        sampler=ABM(),
        levels=ABM.levels,
        data=DataConfig(size=(size[0], size[1])) if pictured else DataConfig(),
        optimiser=Optimiser(),
        training=Training(labels=(0.9 if foreign.unconditional else 1.0) if foreign.classes else 0.0, ema=0.0),
        clipped=foreign.clipped,
    )


def write_run(foreign: Foreign, out: str | Path) -> Path:
    """Write the run's folder of a model of elsewhere, whole or not at all.

    Args:
        foreign: the model.
        out: its name, as `run_folder` takes it.

    Returns:
        The folder, which `open_run` opens.

    Raises:
        ScorefieldError: weights that are not those of the architecture, a network that does not take the shape, one class, a
            folder in use; nothing is written then.
    """
    if len(foreign.classes) == 1:
        raise ScorefieldError(f"got {foreign.found} with one class, expected none, or two at least: import it without classes")
    folder, config = run_folder(out), config_of(foreign)
    model = build_model(config, foreign.shape, foreign.data_std, foreign.data_mean, classes=len(foreign.classes))
    check_weights(foreign.weights, model.network.state_dict(), foreign.source)
    model.network.load_state_dict(dict(foreign.weights))
    layout = Layout.plain(foreign.kind, foreign.shape)
    if foreign.kind == "image" and foreign.normaliser.high != 255:
        layout = replace(layout, dtype="float32")
    about: dict[str, Any] = {"name": foreign.found, "path": None, "kind": foreign.kind, "shape": list(foreign.shape)}
    about |= {"std": foreign.data_std, "examples": 0, "held_out": 0, "classes": list(foreign.classes)}
    about |= {"class_counts": [1] * len(foreign.classes), "normaliser": to_dict(foreign.normaliser), "fingerprint": ""}
    about |= {"notes": list(foreign.notes), "columns": None, "layout": layout.to_dict(), "style": None, **foreign.about}
    why = (f"imported from {foreign.source}: {foreign.found}", *foreign.notes)
    manifest = new_manifest(about, why, sum(weight.numel() for weight in model.parameters()))
    manifest |= {"imported": {"from": os.path.abspath(foreign.source), "found": foreign.found}}
    manifest["progress"]["finished"] = True
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.placing(folder) as place:
        place.mkdir()
        save_model(place, model.eval(), manifest)
        files.write_json(place / "config.json", to_dict(config))
    return folder
