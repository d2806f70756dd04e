"""Which of the project's sources something loads, found by following imports without running any of them.

An import counts wherever it is written, inside functions too, and so does a table's line or a command's
argument that names a module (`"models.nextvit:nextvit_small"`, `"converters.worker"`). Too much may be found
that way, never too little.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("models", "converters")

# All that runs while a file is made: `worker_process` starts the process with its environment.
CONVERSION = ("converters.worker_process", "converters.worker", "converters.conversion")

_NAMED = re.compile(r"""["']((?:models|converters)(?:\.\w+)+)(?::[\w.]+)?["']""")


def digest_of_sources(roots: Sequence[str], project: Path = PROJECT) -> str:
    """sha256 (hex) over names and contents of all that `roots` load."""
    total = hashlib.sha256()
    for path in loaded_sources(roots, project):
        total.update(f"{path.relative_to(project).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def loaded_sources(roots: Sequence[str], project: Path = PROJECT) -> list[Path]:
    """The files of the modules `roots` and of all in PACKAGES that they import, and those in turn, sorted.

    Raises FileNotFoundError for a root that is no module.
    """
    found: set[Path] = set()
    waiting = [path for root in roots for path in _files(root, project)]
    if missing := [root for root in roots if _file(root, project) is None]:
        raise FileNotFoundError(f"no module {missing[0]} in {project}")
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            package = path.parent.relative_to(project).as_posix().replace("/", ".")
            for name in _modules_named(path.read_bytes(), package):
                waiting += _files(name, project)
    return sorted(found)


def _files(name: str, project: Path) -> list[Path]:
    """The files that importing a dotted name runs: its packages' and its own, where it is a module."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return []
    every = (_file(".".join(parts[:end]), project) for end in range(1, len(parts) + 1))
    return [path for path in every if path is not None]


def _file(name: str, project: Path) -> Path | None:
    place = project.joinpath(*name.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@cache
def _modules_named(source: bytes, package: str) -> frozenset[str]:
    """Every dotted name that a source of `package` may import; of `from a import b` both a and a.b."""
    tree = ast.parse(source)
    named = {found[1] for found in _NAMED.finditer(source.decode())}
    return frozenset(named | {name for node in _imports(tree) for name in _imported(node, package)})


def _imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements at any depth; expressions, which can hold none, are passed over."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _imports(node)


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    module = ".".join((*above, *([node.module] if node.module else [])))
    yield module
    yield from (f"{module}.{alias.name}" for alias in node.names)
