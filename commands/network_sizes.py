"""Sizes of networks that a plan is narrowed by: counted once per version of timm, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from converters.keys import toolchain
from converters.source_graph import digest_of_sources
from models.spec import ModelSpec, digest
from reports.files import write_text
from reports.formatting import span

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "sizes"
COUNTER = "models.size_worker"
KEPT_EVERY = 50  # networks: some 20 seconds of counting


class SizesError(Exception):
    """The counting process ended before it had counted all."""


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """Millions of parameters and GMACs at the network's own resolution; None where they cannot be counted."""

    params_m: float | None
    gmacs: float | None


def sizes_of(names: Sequence[str], root: Path, tell: Callable[[str], None]) -> dict[str, NetworkSize]:
    """The size of every network, counted now or kept in the artifact cache's folder from an earlier time.

    What is counted is kept as it goes, so that no end loses more than the last few. Raises SizesError, and
    reports.files.OutputError where the folder cannot be written.
    """
    made_by = digest([toolchain("exported_program", _ANY), digest_of_sources([COUNTER])])
    path = root / FOLDER / f"{made_by[:16]}.json"
    known = _read(path)
    missing = [name for name in names if name not in known]
    if missing:
        tell(f"counting {len(missing)} networks, once for this version of timm")
        path.parent.mkdir(parents=True, exist_ok=True)
        begun_ns = time.perf_counter_ns()
        try:
            for done, (name, size) in enumerate(_counted(missing), 1):
                known[name] = size
                if done % KEPT_EVERY == 0 and done < len(missing):
                    _write(path, known)
                    each_ns = (time.perf_counter_ns() - begun_ns) / done
                    left = span(each_ns * (len(missing) - done))
                    tell(f"{done} of {len(missing)} networks counted; about {left} left")
        finally:
            _write(path, known)
    return {name: known[name] for name in names}


_ANY = ModelSpec("timm/any")


def _read(path: Path) -> dict[str, NetworkSize]:
    """What is known; a file that was damaged is counted again."""
    try:
        return {name: NetworkSize(**value) for name, value in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(path: Path, known: Mapping[str, NetworkSize]) -> None:
    write_text(path, json.dumps({name: asdict(size) for name, size in known.items()}))


def _counted(names: Sequence[str]) -> Iterator[tuple[str, NetworkSize]]:
    command = [sys.executable, "-m", COUNTER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for name in names:
                process.stdin.write(f"{name}\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    raise SizesError(
                        f"the process that counts networks ended at {name}: leave it out with --exclude"
                    )
                value = json.loads(line)
                yield name, NetworkSize(value["params_m"], value["gmacs"])
        finally:
            process.kill()
