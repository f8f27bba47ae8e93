"""A run as one ONNX file: the denoiser of `denoiser.py`, weights inside, any batch size, float32 in and out.

The graph is traced from the model itself, so that every process, parametrisation and network comes out as it is. What depends
on the noise level alone, a few numbers for each sample, is float64 as it is here; some functions exist in float32 only where
the graph is run, and a search in a table not at all, so these are written by others. A score that is the gradient of an energy
is first traced to a graph that holds its own backward pass.

Reference: the operators and their types are those of https://onnx.ai/onnx/operators and of onnxruntime's CPU provider.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefield.data.extras import require
from scorefield.errors import ScorefieldError
from scorefield.field import EnergyField
from scorefield.files import write_json
from scorefield.interchange.denoiser import Denoiser, difference, exportable, facts, probes, sigma_range
from scorefield.runs import Run

NAMES, OUTPUT = ("x", "sigma", "label"), "denoised"
TOLERANCE = 1e-4  # between onnxruntime and torch, in float32
PROBES = 7  # levels at which they are compared: at once, and one alone


def _single(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function of float64 that computes in float32; of others it is left as it is."""
    return lambda x: function(x.float()).double() if x.dtype == torch.float64 else NotImplemented


def _input_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, *rest: Any
) -> Any:
    """Return the gradient of a convolution by its input alone, which is a transposed convolution."""
    transposed, _, groups, wanted = rest
    if transposed or list(wanted) != [True, False, False]:
        return NotImplemented
    sizes = zip(x.shape[2:], gradient.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    left = [before - ((after - 1) * step - 2 * pad + wide * (side - 1) + 1) for before, after, side, step, pad, wide in sizes]
    return ATEN.convolution(gradient, weight, None, stride, padding, dilation, True, left, groups), None, None


ATEN = torch.ops.aten
WRITTEN_BY_OTHERS: dict[Any, Callable[..., Tensor]] = {
    ATEN.searchsorted.Tensor: lambda table, values, **_: (table <= values.unsqueeze(-1)).sum(-1),  # of right=True
    ATEN.hypot.default: lambda a, b: (a * a + b * b).sqrt(),
    ATEN.asinh.default: lambda x: (x + (x * x + 1).sqrt()).log(),
    **{getattr(ATEN, name).default: _single(getattr(torch, name)) for name in ("tan", "atan", "sin", "cos")},
}


def to_onnx(run: Run, folder: Path) -> tuple[float | None, int]:
    """Write a run's `model.onnx`, and `model.json` with the numbers that drawing needs beside it.

    Args:
        run: an opened run.
        folder: an empty folder.

    Returns:
        The largest difference between onnxruntime and torch, None where onnxruntime is not installed; and the opset.

    Raises:
        ScorefieldError: a run that cannot be exported, no onnx or onnxscript, a network that torch cannot trace, or outputs
            that differ by more than `TOLERANCE`.
    """
    model = exportable(run, "onnx")
    for library in ("onnx", "onnxscript"):
        require(library, "interchange", str(run.path))
    low, high = sigma_range(run)
    inputs = probes(run, model, low * (high / low) ** torch.linspace(0, 1, PROBES))
    denoiser = Denoiser(model, len(run.classes)).eval()
    path = folder / "model.onnx"
    with _silent():
        program = _program(denoiser, inputs, run)
    opset, about = int(program.model.opset_imports[""]), facts(run, model)
    about = {**about, "opset": opset}
    program.model.metadata_props.update({key: json.dumps(value) for key, value in about.items()})
    program.model.producer_name, program.model.producer_version = "scorefield", about["scorefield"]
    program.save(str(path), external_data=False)
    measured = _compared(path, denoiser, inputs, run)
    write_json(folder / "model.json", about)
    return measured, opset


def _program(denoiser: Denoiser, inputs: tuple[Tensor, ...], run: Run) -> Any:
    """Return a denoiser as torch's ONNX program, for any batch size."""
    batch = torch.export.Dim("batch", min=1)
    try:
        traced: nn.Module = denoiser
        if isinstance(denoiser.model, EnergyField):
            traced = _with_backward(denoiser, inputs)
        graph = torch.export.export(traced, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False)
        return torch.onnx.export(
            graph.run_decompositions(WRITTEN_BY_OTHERS),
            inputs,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=NAMES[: len(inputs)],
            output_names=[OUTPUT],
        )
    except Exception as error:  # of torch's tracer, which raises anything
        raise ScorefieldError(
            f"got the network of {run.path}, which torch cannot trace ({type(error).__name__}: {str(error).splitlines()[0]}), "
            "expected one whose steps do not depend on its numbers: choose --to hub"
        ) from error


def _with_backward(denoiser: Denoiser, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Return the graph of an energy's denoiser, in which the backward pass is written by forward operators."""
    from torch._decomp import decomposition_table
    from torch.fx.experimental.proxy_tensor import make_fx

    table: dict[Any, Any] = {one: how for one, how in decomposition_table.items() if "backward" in str(one)}
    table[ATEN.convolution_backward.default] = _input_gradient
    with torch.no_grad():
        graph: nn.Module = make_fx(denoiser, table, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*inputs)
    return graph


def _compared(path: Path, denoiser: Denoiser, inputs: tuple[Tensor, ...], run: Run) -> float | None:
    """Return the largest difference between a file's outputs and the denoiser's; None where nothing can run the file."""
    try:
        require("onnxruntime", "interchange", str(run.path))
    except ScorefieldError:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (inputs, tuple(part[2:3] for part in inputs)):
        given = {name: part.numpy() for name, part in zip(NAMES, batch, strict=False)}
        with torch.no_grad():
            wanted = denoiser(*batch)
        worst = max(worst, difference(torch.from_numpy(session.run(None, given)[0]), wanted))
    if not worst <= TOLERANCE:
        raise ScorefieldError(
            f"got outputs of onnxruntime that differ by {worst:.2g} from those of {run.path}, expected at most {TOLERANCE:g}: "
            "report it with the run's config.json; nothing was written"
        )
    return worst


@contextmanager
def _silent() -> Iterator[None]:
    """Say nothing of what torch's exporter says of itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
