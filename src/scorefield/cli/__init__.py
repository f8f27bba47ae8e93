"""The command: parses, calls `app`, draws. Nothing slow is imported before a verb runs, so `--help` answers at once.

A person's mistake (`ScorefieldError`) prints one sentence and exits with code 2; an interrupt exits with 130, a
SIGTERM with 143, a pipe whose reader has ended with 141.

Of several processes that `torchrun` started the first alone prints, whatever it is.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import keyword
import operator
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any, NoReturn

import tyro

from scorefield import __version__, launch
from scorefield.cli.plain import plain_where_needed
from scorefield.cli.show import tell
from scorefield.errors import ScorefieldError

DESCRIPTION = """Learn the gradient of a log-density from your own data, and sample from it.

examples:
  scorefield plan photos/                        is my data all right, and how long will it take?
  scorefield train digits --time 3m              learn handwritten digits
  scorefield sample runs/digits -n 64            draw 64 new ones
  scorefield denoise runs/digits noisy.png       remove noise from your own image
  scorefield restore --help                      fill a hole in your own image, sharpen it, enlarge it
  scorefield impute runs/iris measured.csv       fill the holes of a table
  scorefield inspect runs/digits                 what is in that folder
  scorefield evaluate runs/digits                how good they are
  scorefield tune runs/digits                    which sampler to use, in how few steps
  scorefield distill runs/digits                 the same in one evaluation a sample
  scorefield import ./ddpm-church --as church    a model of diffusers becomes a run
  scorefield export runs/digits --to onnx        run it elsewhere: onnx, diffusers, hub
  scorefield likelihood runs/digits              how probable unseen ones are under it
  scorefield serve                               all of this in a browser
  scorefield verify                              every method against closed-form truth
  scorefield verify runs/imported                is that model sound, or was it read wrongly?
  scorefield convert vp --sigma 0.5              a noise level in the letters of every paper
  scorefield list sampler                        what can be named
"""

VERBS = {  # each is the class of its name in the module of its name, imported when it is called
    "plan": "Check your data, and show what training would do with them on this machine.",
    "train": "Learn the score of your data and leave a run folder.",
    "sample": "Draw new samples from a trained run.",
    "denoise": "Remove noise from images or signals, its amount stated or estimated.",
    "restore": "Restore images or signals that a mask, a blur or another known operator damaged.",
    "impute": "Fill the holes of a table, with an interval for each cell.",
    "odd": "Find the rows of a table, or the images, that do not belong.",
    "interpolate": "Go from one image or signal to another through samples of a run.",
    "inspect": "Show what a run's folder holds, and why.",
    "evaluate": "Measure how good the samples of a run are.",
    "import": "Make a run of a model that was trained elsewhere, such as a diffusers pipeline.",
    "distill": "Make a run that draws in 1, 2 or 4 evaluations of one that needs 20.",
    "tune": "Find the cheapest sampler and ladder of a run that lose no quality, and make them the default.",
    "likelihood": "Measure how probable data are under a run.",
    "export": "Write a run for another library (onnx, diffusers), or to share (hub).",
    "serve": "Open the page: see score fields, train, sample and restore in a browser.",
    "verify": "Measure every method against closed-form truth, or whether a run is sound.",
    "convert": "Say a noise level, or a prediction, in the conventions of every paper.",
    "list": "List what can be named: samplers, recipes, sources, ...",
}
DIVIDED = ("train", "sample", "evaluate")  # several processes share their work; of the others each would do all of it


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt("SIGTERM")


def main(arguments: list[str] | None = None) -> None:
    """Run the command with the given arguments (the process's own by default)."""
    _open_output()
    plain_where_needed()
    signal.signal(signal.SIGTERM, _stop)
    try:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show
                _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            _flush()  # here, where a full disk can still be reported in a sentence
    except ScorefieldError as error:
        tell(f"scorefield: {error}")
        if launch.processes() > 1:  # torchrun stops the others as soon as one has ended: all end with this code
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(2) from None
    except BrokenPipeError:  # the reader has ended, as in `scorefield list | head`: the exit code of SIGPIPE
        _forget_output()
        raise SystemExit(141) from None
    except OSError as error:  # the disk is full, a folder may not be written
        _forget_output()
        tell(
            f"scorefield: got an error of the system ({error}), expected to read and write: make room, or choose another place"
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        by_term = stop.args == ("SIGTERM",)
        tell(f"scorefield: stopped by {'SIGTERM' if by_term else 'an interrupt'}")
        raise SystemExit(143 if by_term else 130) from None


def _show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Print a warning as a sentence, without the line of code that warned."""
    tell(f"scorefield: warning: {message}")


def _open_output() -> None:
    """Open an output where Python has none because it was closed: the parser prints to it."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # until the end of the process
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def parsed(arguments: list[str]) -> Any:
    """Return a verb with what its words say, to be run by `.run()`; words that it does not know end with exit code 2.

    Args:
        arguments: the name of a verb, and its words.
    """
    from scorefield import renamed

    name, *rest = renamed.flags(arguments)
    home = f"scorefield.cli.{name}{'_' * keyword.iskeyword(name)}"  # no module can be called "import"
    kind = getattr(importlib.import_module(home), name.capitalize())
    with _quiet_unless_first():  # a verb's own page shows its examples; the list of verbs a line each
        return tyro.cli(kind, prog=f"scorefield {name}", args=rest)


def _run(arguments: list[str]) -> None:
    """Parse, and run a verb."""
    if arguments in (["--version"], ["-V"]):
        if launch.is_first():
            print(f"scorefield {__version__}")
    elif arguments[:1] and arguments[0] in VERBS:
        asked = parsed(arguments)
        if launch.processes() > 1 and arguments[0] not in DIVIDED:
            raise ScorefieldError(
                f"got {launch.processes()} processes for scorefield {arguments[0]}, which uses one, expected one of "
                f"{', '.join(DIVIDED)}: start it without torchrun"
            )
        asked.run()
    else:  # the list, or a word that is no verb: what their flags are is not asked
        each = [
            Annotated[dataclass(type(name, (), {})), tyro.conf.subcommand(name, description=line)]
            for name, line in VERBS.items()
        ]
        one_of: Any = functools.reduce(operator.or_, each)
        with _quiet_unless_first():
            tyro.cli(one_of, prog="scorefield", description=DESCRIPTION, args=arguments or ["--help"])


@contextlib.contextmanager
def _quiet_unless_first() -> Iterator[None]:
    """Drop what the parser prints, unless this is the first process: all of them parse the same words."""
    if launch.is_first():
        yield
        return
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        yield


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _forget_output() -> None:
    """Discard what could not be written: Python would try it again when it ends, and fail."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
