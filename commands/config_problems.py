"""What pydantic finds wrong in bench.toml, in words: the key by its place in the file, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from models.tables import suggest

# pydantic puts a union's member into a place, and says so where the key is wrong and not its value
_NO_PLACES = ("nullable", "bool", "int", "float", "str", "[key]")


def explained(path: Path, error: ValidationError, *, root: type[BaseModel]) -> Iterator[str]:
    """A line for everything that is wrong in the file at `path`, whose form is `root`."""
    for problem in error.errors():
        where = tuple(part for part in problem["loc"] if part not in _NO_PLACES)
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
        if problem["type"] == "extra_forbidden":
            near = suggest(str(where[-1]), _known_keys(root, where[:-1]))
            yield f"{path}: unknown key '{dotted}': {near}"
        elif problem["type"] == "missing":
            yield f"{path}: '{dotted}' is missing"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            given = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
            yield f"{path}: {dotted}{given}: {message[0].lower()}{message[1:]}"


def _known_keys(root: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    """The keys of the table at a place in the file; behind a table of tables stands a name of the user's."""
    table, is_name = root, False
    for part in where:
        fields = () if is_name else table.model_fields.items()
        found = next((field for name, field in fields if part in (name, field.alias)), None)
        inner = _table_in(found.annotation) if found is not None else None
        is_name = inner is not None and found is not None and get_origin(found.annotation) is dict
        table = inner or table
    return [field.alias or name for name, field in table.model_fields.items()]


def _table_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_table_in, get_args(annotation))), None)
