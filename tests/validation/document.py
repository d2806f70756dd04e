"""docs/validation.md: tables of counted outcomes, one JSON file per section, so that parts run apart.

A part that validates the instrument makes a Section, `store` writes it to docs/results/validation/NAME.json,
and `render` writes the whole document from the files that are there. Nothing in the document is typed.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runners import environment

SCHEMA = 1
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results" / "validation"
DOCUMENT = ROOT / "docs" / "validation.md"

Cell = str | int | float | bool | None

# The order of the sections in the document; the file of each is NAME.json.
ORDER = (
    *("coverage", "disturbed", "same_artifact", "power", "family", "gate", "tails", "sabotage"),
    *("real_same_artifact", "real_under_load", "real_power", "real_loop", "real_cross_check"),
)

_HEAD = """# Validation

How the harness itself is tested, like an instrument: against known truth, with counts. This file is generated
from `docs/results/validation/` by `python -m tests.validation.document`; `make validate` takes all of it
anew. A row without a bar is there to be read: it says what happens outside of what is promised.
"""


@dataclass(frozen=True, slots=True)
class Section:
    """One table. `about` says what was done and how is counted; rows have a cell for every column.

    `met` of a row is its last cell: whether its bar holds, None where it has none. `seconds` is how long the
    section took, `taken_at` its end in UTC.
    """

    name: str
    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    command: str
    seconds: float
    taken_at: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M", time.gmtime()))
    machine: dict[str, Any] = field(default_factory=lambda: machine())
    schema: int = SCHEMA

    @property
    def missed(self) -> list[tuple[Cell, ...]]:
        """The rows whose bar does not hold."""
        return [row for row in self.rows if row[-1] is False]


@functools.cache
def machine() -> dict[str, Any]:
    """What a reader wants to know of the machine and the versions; no name or path of it.

    As the process finds them first: what it stores itself is no local change.
    """
    told = environment.describe_machine()
    return {
        "cpu": told["cpu"]["model"],
        "cores": told["cpu"]["logical_cores"],
        "system": told["system"]["os"],
        "python": told["python"]["version"],
        "numpy": told["packages"]["numpy"],
        "commit": told["revision"]["commit"],
        "dirty": told["revision"]["dirty"],
    }


def store(section: Section, folder: Path = RESULTS) -> Path:
    """Writes the section's file. Raises ValueError for a name that the document has no place for."""
    if section.name not in ORDER:
        raise ValueError(f"section '{section.name}' has no place; add it to ORDER in {Path(__file__).name}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{section.name}.json"
    path.write_text(json.dumps(asdict(section), indent=1, ensure_ascii=False) + "\n")
    return path


def read(folder: Path = RESULTS) -> list[Section]:
    """The stored sections in the document's order. Raises ValueError for a newer schema."""
    found = []
    for name in ORDER:
        path = folder / f"{name}.json"
        if path.exists():
            value = json.loads(path.read_text())
            if value["schema"] != SCHEMA:
                raise ValueError(f"{path.name} has schema {value['schema']}, this version reads {SCHEMA}")
            value["columns"] = tuple(value["columns"])
            value["rows"] = tuple(tuple(row) for row in value["rows"])
            found.append(Section(**value))
    return found


def render(sections: Sequence[Section]) -> str:
    return "\n".join([_HEAD, *(render_section(section) for section in sections)])


def render_section(section: Section) -> str:
    head = f"| {' | '.join(section.columns)} |"
    rule = f"|{'---|' * len(section.columns)}"
    rows = [f"| {' | '.join(_cell(value) for value in row)} |" for row in section.rows]
    return "\n".join(
        [f"## {section.title}\n", f"{section.about}\n", head, rule, *rows, "", _footer(section), ""]
    )


def _footer(section: Section) -> str:
    m = section.machine
    revision = (
        f"{m['commit'][:12]}{' with local changes' if m['dirty'] else ''}" if m["commit"] else "unknown"
    )
    return (
        f"{section.taken_at} UTC, {section.seconds:.0f} s on {m['cores']} cores of {m['cpu']}, {m['system']};"
        f" Python {m['python']}, NumPy {m['numpy']}, revision {revision}. Again: `{section.command}`."
    )


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    DOCUMENT.write_text(render(read()))


if __name__ == "__main__":
    main()
