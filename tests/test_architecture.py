"""Architecture: imports point downward, the broadcast has one home, and nobody asks which process it was given.

The rules are held by reading the source, so a forgotten import inside a function counts as much as one at the top. Each rule is
first shown a line that breaks it.
"""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import each_case
from shape_checks import ShapeError

import scorefield
from scorefield import Process, registry

HOUSE = Path(scorefield.__file__).parent
FLOORS = [  # of DESIGN.md, lowest first; a unit is a file or a folder right under src/scorefield
    {"errors", "renamed"},
    {
        "shapes",
        "registry",
        "files",
        "progress",
        "durations",
        "devices",
        "pictures",
        "fragments",
        "forks",
        "specs",
        "launch",
        "cores",
    },
    {"randomness", "process", "runge_kutta", "conformal", "distribution"},
    {"levels", "ncsnv2", "noise_label", "moments", "mixtures"},
    {"nets"},
    {"data", "metrics", "operators"},
    {"prediction"},
    {"wrapped"},
    {"field"},
    {"exact", "samplers", "bound", "given"},
    {"likelihood", "generator"},
    {"objectives", "guidance", "diagnosis", "denoising"},
    {"config", "conventions"},
    {"models"},
    {"runs"},
    {"recipes", "verification", "drawn_field"},
    {"drawing", "outputs", "inputs", "residuals", "fitting"},
    {"interchange"},
    {"measurements", "sampling"},
    {"training", "answers", "restoration", "imputation", "anomaly"},
    {"evaluation", "interpolation", "noise_removal", "advice", "distillation"},
    {"tuning"},
    {"app", "estimator"},
    {"web"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}


def name_of(path: Path) -> str:
    return ".".join(("scorefield", *path.relative_to(HOUSE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(HOUSE.rglob("*.py"))}
SOURCES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
each_module = each_case(module=[name for name in MODULES if name != "scorefield"])


def imports_of(tree: ast.AST) -> Iterator[str]:
    """The modules of the package that a source imports, at the top or inside a function; the package itself does not count."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import, line {node.lineno}: write the full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            if name.startswith("scorefield."):
                yield name


def unit_of(module: str) -> str:
    return module.split(".")[1]


# --- floors -----------------------------------------------------------------------------------------------------------


def test_every_file_and_folder_has_a_floor() -> None:
    assert {unit_of(module) for module in MODULES if module != "scorefield"} <= set(FLOOR_OF)


@each_module
def test_imports_point_strictly_downward(module: str) -> None:
    here = unit_of(module)
    for imported in imports_of(SOURCES[module]):
        if unit_of(imported) != here:
            assert FLOOR_OF[unit_of(imported)] < FLOOR_OF[here], f"{module} imports {imported}, which is not below it"


def test_there_is_no_loop_among_modules_of_one_folder_either() -> None:
    list(graphlib.TopologicalSorter({name: set(imports_of(tree)) - {name} for name, tree in SOURCES.items()}).static_order())


NEVER = {  # a unit and what it may never import, however the floors move
    "nets": {"process", "levels", "prediction", "field", "exact", "samplers", "objectives"},
    "samplers": {"objectives", "nets", "training"},
    "objectives": {"nets", "samplers", "training"},
    "field": {"nets", "exact"},
    "data": set(FLOOR_OF) - {"errors", "registry", "randomness", "files", "progress", "renamed"},
    "metrics": {"nets", "field", "samplers", "process"},
}


@pytest.mark.parametrize("unit", NEVER)
def test_what_never_needs_to_know_each_other_never_does(unit: str) -> None:
    known = {unit_of(i) for module, tree in SOURCES.items() if module.split(".")[1:2] == [unit] for i in imports_of(tree)}
    assert not (known - {unit}) & NEVER[unit]


def test_only_the_faces_know_the_faces() -> None:
    for module, tree in SOURCES.items():
        if module != "scorefield" and unit_of(module) not in {"app", "cli", "web", "__main__"}:
            assert not {unit_of(imported) for imported in imports_of(tree)} & {"app", "cli", "web"}, module


def test_an_import_is_seen_wherever_it_is_written() -> None:
    source = "def f():\n    if True:\n        from scorefield.samplers.base import simulate\nimport scorefield.field\n"
    assert set(imports_of(ast.parse(source))) == {"scorefield.samplers.base", "scorefield.field"}
    assert set(imports_of(ast.parse("from scorefield import process, __version__"))) == {"scorefield.process"}


# --- nothing is too long to be read -----------------------------------------------------------------------------------

MOST_LINES, MOST_CODE, MOST_PARAMETERS = 400, 60, 8
VERB_LINES = 150  # of a file of app/
MAY_BE_LONG: dict[str, str] = {}  # a file or a function, and why it may be
MAY_TAKE_MANY: dict[str, str] = {}  # a function, and why it may take more parameters


def functions(tree: ast.AST, home: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield (dotted name, function) for functions and methods; those inside a function belong to it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, f"{home}.{node.name}")
        elif isinstance(node, ast.FunctionDef):
            yield f"{home}.{node.name}", node


def code_lines(function: ast.FunctionDef, source: list[str]) -> int:
    """Count the lines of code, signature and functions inside included: no docstring, no comment, no empty line."""
    lines = set(range(function.lineno, (function.end_lineno or 0) + 1))
    for node in ast.walk(function):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return sum(bool((line := source[number - 1].strip()) and not line.startswith("#")) for number in lines)


def parameters(function: ast.FunctionDef) -> int:
    """Count the parameters, without self and cls."""
    taken = function.args
    return len([each for each in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs) if each.arg not in ("self", "cls")])


def test_lines_of_code_and_parameters_are_counted_as_they_are_read() -> None:
    source = """class C:
    def method(self, a, *, b):
        '''Say what.

        And more.
        '''
        # a comment

        def inner(c, d, e):
            return c + (
                d
            )
        return inner
    """
    (name, function), *none = functions(ast.parse(source), "module")
    assert (name, none, code_lines(function, source.split("\n")), parameters(function)) == ("module.C.method", [], 6, 2)


@each_module
def test_no_file_and_no_function_is_too_long(module: str) -> None:
    source = MODULES[module].read_text(encoding="utf-8").splitlines()
    verb = unit_of(module) == "app" and module not in ("scorefield.app", "scorefield.app.arguments")
    if module not in MAY_BE_LONG:
        assert len(source) <= (VERB_LINES if verb else MOST_LINES), f"{module} has {len(source)} lines: divide it"
    for name, function in functions(SOURCES[module], module):
        if name not in MAY_BE_LONG:
            lines = code_lines(function, source)
            assert lines <= MOST_CODE, f"{name} has {lines} lines of code: divide it"


@each_module
def test_no_public_function_takes_too_much(module: str) -> None:
    for name, function in functions(SOURCES[module], module):
        public = not any(part.startswith("_") and part != "__init__" for part in name.split("."))
        if public and name not in MAY_TAKE_MANY:
            assert parameters(function) <= MOST_PARAMETERS, (
                f"{name} takes {parameters(function)} arguments: give it a dataclass"
            )


def test_every_exception_to_a_limit_is_still_needed() -> None:
    found = {name: function for module, tree in SOURCES.items() for name, function in functions(tree, module)}
    assert all(parameters(found[name]) > MOST_PARAMETERS for name in MAY_TAKE_MANY)
    assert set(MAY_BE_LONG) <= found.keys() | MODULES.keys()


# --- nothing is loaded before it is needed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module", ["scorefield", "scorefield.errors", "scorefield.registry", "scorefield.specs", "scorefield.cli"]
)
def test_importing_costs_no_torch(module: str) -> None:
    script = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}} & {{'torch', 'numpy', 'pydantic'}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_worker_that_decodes_images_loads_no_torch() -> None:
    script = "import sys, scorefield.data.image.workers; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split() == [
        "False"
    ]


def test_counting_the_weights_of_a_network_that_may_be_too_large_does_not_load_torch_s_compiler() -> None:
    """Filling weights on the device "meta" does, which takes a second of every training."""
    script = """
import sys, torch
from scorefield.specs import TrainSpec
from scorefield.training.memory import refuse_large_network
from scorefield.training.resolve import resolve
found = resolve("two-moons", TrainSpec(steps=1))
refuse_large_network(found.config, found.data.shape, 3, torch.device("cpu"))
print("sympy" in sys.modules)
torch.nn.Embedding(2, 2, device="meta")
print("sympy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_every_name_of_the_package_can_be_had() -> None:
    for name in scorefield.__all__:
        assert getattr(scorefield, name) is not None
    assert set(scorefield.__all__) <= set(dir(scorefield))
    with pytest.raises(AttributeError, match="no attribute 'scroe'"):
        _ = scorefield.scroe


# --- one broadcast ----------------------------------------------------------------------------------------------------


def broadcasts(tree: ast.AST) -> list[int]:
    """Lines that spell out how many axes a sample has: x[:, None, None], x.view(-1, 1, 1), x.reshape(n, 1, 1)."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
            items, unit = node.slice.elts, None
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"view", "reshape"}:
            items, unit = node.args, 1
        else:
            continue
        if sum(isinstance(item, ast.Constant) and item.value == unit for item in items) >= 2:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "line", ["s[:, None, None, None] * x", "s[:, None, None]", "s.view(-1, 1, 1, 1)", "s.reshape(n, 1, 1)"]
)
def test_a_broadcast_over_a_fixed_number_of_axes_is_recognised(line: str) -> None:
    assert broadcasts(ast.parse(line)) == [1]


@each_module
def test_only_networks_know_how_many_axes_a_sample_has(module: str) -> None:
    if unit_of(module) != "nets":
        assert broadcasts(SOURCES[module]) == [], f"in {MODULES[module]}: use shapes.over"


def test_the_shapes_of_samples_and_of_numbers_per_sample_are_checked_on_every_call() -> None:
    """By the import hook of conftest.py: a wrong shape stops the tests instead of being broadcast."""
    from scorefield.prediction import Prediction
    from scorefield.shapes import over, total

    five, x = torch.ones(5, dtype=torch.float64), torch.ones(5, 1, 2, 2, dtype=torch.float64)
    process = scorefield.VE()
    assert over(five, x).shape == (5, 1, 1, 1)
    for call in (
        lambda: over(five[:, None], x),
        lambda: over(five[:4], x),
        lambda: over(five.long(), x),
        lambda: total(torch.ones(())),
        lambda: process.perturb(x, five, x[:, 0]),
        lambda: process.perturb(x, five[:1], x),
        lambda: Prediction(process, x, five, x[:1], five, five),
        lambda: Prediction.of_score(process, x, five[:, None], x),
        lambda: scorefield.Gaussian([0.0], [[1.0]], process).log_prob(five[:, None], five[:2]),
    ):
        with pytest.raises(ShapeError):
            call()


# --- nobody asks which process or sampler it was given ----------------------------------------------------------------

CONCRETE = {kind.__name__ for name in ("process", "sampler") for kind in registry.every(name).values()}


def questions(tree: ast.AST) -> list[int]:
    """Lines that ask for a concrete process or sampler: isinstance(p, VE), issubclass, type(p) is VE, case VE(), and whether a
    sampler has an order, for `dwells` says what was meant."""
    lines = []
    for node in ast.walk(tree):
        asked: list[ast.AST] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"isinstance", "issubclass"}:
            asked = [node.args[1]]
        elif isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
            if (
                isinstance(node.left, ast.Attribute)
                and node.left.attr == "order"
                and isinstance(node.ops[0], ast.Is | ast.IsNot)
            ):
                lines.append(node.lineno)
        elif isinstance(node, ast.MatchClass):
            asked = [node.cls]
        named = {part.id for one in asked for part in ast.walk(one) if isinstance(part, ast.Name)}
        named |= {part.attr for one in asked for part in ast.walk(one) if isinstance(part, ast.Attribute)}
        if named & CONCRETE:
            lines.append(node.lineno if hasattr(node, "lineno") else 0)
    return lines


def test_the_concrete_processes_and_samplers_are_known_by_name() -> None:
    assert {"VE", "VP", "RectifiedFlow", "LinearVE", "ABM", "Langevin"} <= CONCRETE
    assert Process.__name__ not in CONCRETE


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(p, VE)",
        "isinstance(p, (int, process.VP))",
        "isinstance(s, ABM)",
        "s.order is None",
        "x if sampler.order is not None else y",
        "type(p) is RectifiedFlow",
        "issubclass(k, LinearVE | Cosine)",
        "match p:\n    case VE(): pass",
    ],
)
def test_a_question_for_a_concrete_process_or_sampler_is_recognised(line: str) -> None:
    assert len(questions(ast.parse(line))) == 1


@each_module
def test_nobody_asks_which_process_or_sampler_it_was_given(module: str) -> None:
    if module != "scorefield.process":
        assert questions(SOURCES[module]) == [], f"in {MODULES[module]}: ask the process or the sampler for the fact instead"
