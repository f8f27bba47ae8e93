"""The shapes of every call: a `Sample` is `(batch, *shape)`, a `PerSample` is `(batch,)`, and one call has one batch and shape.

`install` rewrites the modules that speak of shapes as they are imported: every function with a `Sample` or a `PerSample` among
its arguments or results, and every dataclass with one among its fields, checks what it is given and what it gives. The types of
all else are mypy's to check. A check is a few comparisons, so that all tests can afford it at every call.
"""

import ast
import functools
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

from torch import Tensor

KINDS = ("Sample", "PerSample")


class ShapeError(TypeError):
    """A tensor of another shape than its annotation says."""


class Shapes:
    """The batch and the shape that the tensors of one call have so far."""

    __slots__ = ("batch", "shape", "where")

    def __init__(self, where: str) -> None:
        self.where = where
        self.batch: int | None = None
        self.shape: tuple[int, ...] | None = None

    def check(self, name: str, kind: str, value: Any) -> None:
        """Refuse a value that is no floating tensor of its kind, or that disagrees with one before it."""
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise ShapeError(f"{self.where}: {name} is {value!r}, expected a {kind}: a tensor of floating numbers")
        shape = value.shape
        if len(shape) != 1 if kind == "PerSample" else not shape:
            raise ShapeError(f"{self.where}: {name} has shape {tuple(shape)}, expected that of a {kind}")
        if self.batch is None:
            self.batch = shape[0]
        elif self.batch != shape[0]:
            raise ShapeError(f"{self.where}: {name} has shape {tuple(shape)}, expected a batch of {self.batch} as before it")
        if kind == "Sample":
            if self.shape is None:
                self.shape = shape[1:]
            elif self.shape != shape[1:]:
                raise ShapeError(f"{self.where}: {name} has shape {tuple(shape)}, expected samples of {tuple(self.shape)}")


def function(
    parameters: Sequence[tuple[str, int, str, bool]], results: Sequence[tuple[int | None, str, bool]], length: int
) -> Callable[[Any], Any]:
    """Check the named parameters (name, place, kind, whether it may be no tensor) and the results (place in the tuple, ...)."""

    def decorate(inner: Any) -> Any:
        where = f"{inner.__module__}.{inner.__qualname__}"

        @functools.wraps(inner)
        def checked(*args: Any, **named: Any) -> Any:
            shapes, given = Shapes(where), len(args)
            for name, place, kind, free in parameters:
                if place < given:
                    value = args[place]
                elif name in named:
                    value = named[name]
                else:
                    continue  # its default
                if not (free and (value is None or isinstance(value, float))):
                    shapes.check(name, kind, value)
            result = inner(*args, **named)
            if length and (not isinstance(result, tuple) or len(result) != length):
                raise ShapeError(f"{where}: the result is {result!r}, expected {length} values")
            for place, kind, free in results:
                value = result if place is None else result[place]
                if not (free and (value is None or isinstance(value, float))):
                    shapes.check("the result" if place is None else f"result {place}", kind, value)
            return result

        return checked

    return decorate


def fields(*declared: tuple[str, str, bool]) -> Callable[[Any], Any]:
    """Check the fields (name, kind, whether it may be no tensor) of a dataclass when one is made."""

    def decorate(cls: Any) -> Any:
        if "__dataclass_fields__" not in cls.__dict__:
            return cls
        make = cls.__init__

        @functools.wraps(make)
        def checked(self: Any, *args: Any, **named: Any) -> None:
            make(self, *args, **named)
            shapes = Shapes(f"{cls.__module__}.{cls.__qualname__}")
            for name, kind, free in declared:
                value = getattr(self, name)
                if not (free and (value is None or isinstance(value, float))):
                    shapes.check(name, kind, value)

        cls.__init__ = checked
        return cls

    return decorate


def kind_of(annotation: ast.expr | None) -> tuple[str, bool] | None:
    """Return the kind that an annotation speaks of and whether it allows None or a number too; None if it speaks of none."""
    if isinstance(annotation, ast.Name) and annotation.id in KINDS:
        return annotation.id, False
    if isinstance(annotation, ast.BinOp) and (left := kind_of(annotation.left)):
        return left[0], True
    return None


class Rewriter(ast.NodeVisitor):
    """Adds the checks to a module's functions, innermost of their decorators, and to its dataclasses, outermost."""

    def generic_visit(self, node: ast.AST) -> None:
        for part in ("body", "orelse", "handlers", "finalbody", "cases"):  # statements; an expression defines no function
            for statement in getattr(node, part, ()):
                self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.generic_visit(node)
        places = [*node.args.posonlyargs, *node.args.args]
        named = [(argument, i) for i, argument in enumerate(places)] + [(a, sys.maxsize) for a in node.args.kwonlyargs]
        parameters = [(a.arg, place, *kind) for a, place in named if (kind := kind_of(a.annotation))]
        results: list[tuple[int | None, str, bool]] = []
        length = 0
        if kind := kind_of(node.returns):
            results = [(None, *kind)]
        elif isinstance(node.returns, ast.Subscript) and ast.unparse(node.returns.value) == "tuple":
            elements = getattr(node.returns.slice, "elts", [])
            results = [(i, *kind) for i, element in enumerate(elements) if (kind := kind_of(element))]
            length = len(elements) if results else 0
        if parameters or results:
            node.decorator_list.append(self.call(node, "function", parameters, results, length))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.generic_visit(node)
        lines = [line for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)]
        declared = [(ast.unparse(line.target), *kind) for line in lines if (kind := kind_of(line.annotation))]
        if declared:
            node.decorator_list.insert(0, self.call(node, "fields", *declared))

    @staticmethod
    def call(above: ast.stmt, name: str, *arguments: Any) -> ast.expr:
        decorator = ast.parse(f"__shape_checks__.{name}(*{arguments!r})", mode="eval").body
        for part in ast.walk(decorator):
            ast.copy_location(part, above)
        return decorator


class Loader(SourceFileLoader):
    """Loads a module with its checks; never from nor into the cache of bytecode, which holds the module as it is."""

    def get_code(self, fullname: str) -> Any:
        tree = ast.parse(self.get_data(self.path), self.path)
        Rewriter().visit(tree)
        return compile(tree, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: Any) -> None:
        module.__shape_checks__ = sys.modules[__name__]
        super().exec_module(module)


class Finder:
    """Finds the modules to check where Python finds them, and gives them the loader above."""

    def __init__(self, modules: set[str]) -> None:
        self.modules = modules

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in self.modules else None
        if spec is not None and spec.origin is not None:
            spec.loader = Loader(fullname, spec.origin)
        return spec


def install(package: str) -> set[str]:
    """Check every module of the package that imports the names of shapes; return them. Call it before their first import."""
    found = importlib.util.find_spec(package)
    assert found is not None and found.submodule_search_locations is not None
    root = Path(found.submodule_search_locations[0])
    paths = [path for path in sorted(root.rglob("*.py")) if f"{package}.shapes import" in path.read_text(encoding="utf-8")]
    modules = {".".join(path.relative_to(root.parent).with_suffix("").parts) for path in paths} | {f"{package}.shapes"}
    assert not modules & set(sys.modules), "these modules were imported before their shapes could be checked"
    sys.meta_path.insert(0, Finder(modules))
    return modules
