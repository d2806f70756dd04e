"""A stored run as one file for another machine's store: everything but statistics, with a sha256 over it.

    {"format": "deploybench records", "schema": 1, "sha256": "...", "content": {"run": ..., "sessions": [...],
     "cases": [{"id", "case", "artifact", "rounds": [...], "failure"}]}}

Times are integer nanoseconds: `samples_ns` and `warmup_ns` of every round in order, and its `parts`, as they
were taken. A number that JSON has no text for is written as `{"$float": "nan"}`. The sha256 is over the
content's canonical text: it finds damage and names the content; it does not say who wrote it. Run and session
numbers belong to a store and are left out, so the same run gives the same file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from converters.artifact import Artifact
from models.spec import Case, is_deeper
from reports.codec import decode, encode
from reports.files import write_text
from reports.records import IMPORTED, SUITE_NAME, CaseResult, RunInfo, Session, StoredRun
from reports.run_config import check_config
from reports.strict import FormError, built, check, member
from runners.measurement import Failure, Round, Samples, misfit

FORMAT = "deploybench records"
SCHEMA = 1
MAX_BYTES = 2 << 30
MAX_LEVELS = 64  # of lists and tables; a run has about ten
MAX_SAMPLE_NS = 10**15  # eleven days: no inference, and sums of samples stay far below what 64 bits hold
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_ARRAYS = ("samples_ns", "warmup_ns", "parts")


class RecordsError(Exception):
    """A file of records that cannot be used; the message names it, what is wrong and what to do."""


def write(run: StoredRun, path: Path) -> str:
    """Write the records of a run, whole or not at all, and return the sha256 that names their content.

    Raises reports.files.OutputError.
    """
    content = encode(content_of(run))
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    head = json.dumps({"format": FORMAT, "schema": SCHEMA, "sha256": sha256})
    write_text(path, f'{head[:-1]}, "content": {content}}}\n')
    return sha256


def read(path: Path) -> tuple[StoredRun, str]:
    """The run in a file, with number 0, and the sha256 that names its content.

    Raises RecordsError for a file that is none of ours, of a newer schema, truncated or changed, and for one
    whose values cannot have been measured: samples that are missing or not positive, parts of another length,
    a case whose id is not that of its facts.
    """
    try:
        return _checked(path, _loaded(path))
    except RecursionError:
        raise _too_deep(path) from None


def _checked(path: Path, value: Mapping[str, Any]) -> tuple[StoredRun, str]:
    content, sha256 = value["content"], value["sha256"]
    if hashlib.sha256(encode(content).encode()).hexdigest() != sha256:
        raise RecordsError(f"{path} is not as it was written (its sha256 differs): copy it again")
    try:
        return run_of(content), sha256
    except FormError as error:
        raise RecordsError(f"{path}: {error}; nothing was imported") from None


def is_records_file(path: Path) -> bool:
    """Does the file begin as `write` begins one?"""
    with path.open("rb") as file:
        return file.read(64).startswith(f'{{"format": "{FORMAT}"'.encode())


def content_digest(run: StoredRun) -> str:
    """The sha256 that `write` would give the run."""
    return hashlib.sha256(encode(content_of(run)).encode()).hexdigest()


def results_digest(run: StoredRun) -> str:
    """A sha256 over what was measured: every case with its artifact, rounds and failure."""
    return hashlib.sha256(encode(content_of(run)["cases"]).encode()).hexdigest()


def content_of(run: StoredRun) -> dict[str, Any]:
    """A run as plain values; one that was imported is written as it came, so that its sha256 stays."""
    info = {name: value for name, value in asdict(run.info).items() if name not in ("run_id", "case_ids")}
    origin = run.info.config.get(IMPORTED)
    if isinstance(origin, Mapping):
        config = {name: value for name, value in run.info.config.items() if name != IMPORTED}
        info |= {"plan_digest": origin["plan_digest"], "config": config}
    return {
        "run": info,
        "sessions": [
            {"started_at_ns": s.started_at_ns, "wall_ns": s.wall_ns, "ledger": dict(s.ledger)}
            for s in run.sessions
        ],
        "cases": [_case_content(result) for result in run.results],
    }


def run_of(content: object) -> StoredRun:
    """The run of plain values. Raises FormError."""
    if not isinstance(content, dict):
        raise FormError("the content is no object")
    results = tuple(
        _case_result(entry, f"cases[{i}]") for i, entry in enumerate(_list(content, "cases", "content"))
    )
    ids = tuple(result.case.id for result in results)
    if len(set(ids)) != len(ids):
        raise FormError("a case is listed twice")
    fields = member(content, "run", dict, "content")
    info = built(lambda value: RunInfo(**{**value, "run_id": 0, "case_ids": ids}), fields, "run")
    check_config(info)
    check_suite(info.suite, "run.suite")
    if info.started_at_ns < 0 or (info.finished_at_ns or 0) < 0:
        raise FormError("run: started_at_ns and finished_at_ns cannot be negative")
    sessions = [_session(entry) for entry in _list(content, "sessions", "content")]
    return StoredRun(info, results, tuple(sessions))


def check_suite(name: str, what: str) -> None:
    """Raises FormError for a name that no suite of bench.toml can have: it becomes part of a path."""
    if not SUITE_NAME.fullmatch(name):
        raise FormError(f"{what}: {name[:60]!r} is no suite's name: letters, digits, _ and - only")


def case_of(value: Mapping[str, Any], what: str) -> Case:
    """The case of an entry with `id` and `case`. Raises FormError, also where the two contradict."""
    case = built(Case.from_dict, value.get("case"), f"{what}.case")
    try:
        known = case.id
    except ValueError as error:  # a NaN among the options
        raise FormError(f"{what}.case: {error}") from None
    if not all(word.isprintable() for word in _words(case.to_dict())):
        raise FormError(f"{what}.case: a name holds characters that cannot be printed")
    if value.get("id") != known:
        raise FormError(f"{what}: the id {str(value.get('id'))[:40]} is not that of its facts, {known}")
    return case


def _words(value: object) -> Iterator[str]:
    """Every text of a case: all are names, which reports draw and files are named after."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _words(item)
    elif isinstance(value, str):
        yield value


def _loaded(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecordsError(f"{path} is larger than {MAX_BYTES} bytes: no file of records is")
        text = path.read_bytes().decode()
        value = json.loads(text, parse_constant=_refuse_constant)
        if is_deeper(value, MAX_LEVELS):
            raise _too_deep(path)
        if _HALF_CHARACTER.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # a ValueError where its other half is missing
    except OSError as error:
        raise RecordsError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RecordsError(
            f"{path} is no file of records, or was cut short ({error}): copy it again"
        ) from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise RecordsError(
            f"{path} is no file of records: `run-bundle` and `export --format records` make one"
        )
    schema = value.get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise RecordsError(
            f"{path} has schema {schema}, newer than the {SCHEMA} that this version reads: update the project"
        )
    if schema != SCHEMA or value.keys() != {"format", "schema", "sha256", "content"}:
        raise RecordsError(f"{path} is not as it was written: copy it again")
    return {**value, "content": decode(json.dumps(value["content"]))}


def _too_deep(path: Path) -> RecordsError:
    return RecordsError(f"{path} is nested deeper than any file of records: copy it again")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of standard JSON")


def _case_content(result: CaseResult) -> dict[str, Any]:
    """Rounds of the protocol that counts come last, as they were taken last."""
    counted = result.measurement.rounds if result.measurement else ()
    return {
        "id": result.case.id,
        "case": result.case.to_dict(),
        "artifact": _artifact_content(result.artifact) if result.artifact else None,
        "rounds": [_round_content(taken) for taken in (*result.other_protocol_rounds, *counted)],
        "failure": result.failure.to_dict() if result.failure else None,
    }


def _artifact_content(artifact: Artifact) -> dict[str, Any]:
    """Without the folder that the file lies in on this machine."""
    names = {"path": artifact.path.name, "tensors": artifact.tensors.name}
    return {**artifact.to_dict(), **names}


def _round_content(taken: Round) -> dict[str, Any]:
    return {
        **taken.to_dict(),
        "samples_ns": taken.samples_ns.tolist(),
        "warmup_ns": taken.warmup_ns.tolist(),
        "parts": {name: values.tolist() for name, values in taken.parts.items()},
    }


def _case_result(value: object, what: str) -> CaseResult:
    if not isinstance(value, dict):
        raise FormError(f"{what} is no object")
    case = case_of(value, what)
    artifact, failure = value.get("artifact"), value.get("failure")
    entries = _list(value, "rounds", what)
    rounds = tuple(_round(entry, f"{what}.rounds[{i}]") for i, entry in enumerate(entries))
    if len({(taken.round_index, taken.attempt) for taken in rounds}) != len(rounds):
        raise FormError(f"{what}: a round is listed twice")
    return CaseResult(
        case,
        artifact=built(Artifact.from_dict, artifact, f"{what}.artifact") if artifact is not None else None,
        rounds=rounds,
        failure=built(Failure.from_dict, failure, f"{what}.failure") if failure is not None else None,
        last_protocol_id=rounds[-1].protocol.id if rounds else "",
    )


def _round(value: object, what: str) -> Round:
    if not isinstance(value, dict):
        raise FormError(f"{what} is no object")
    facts = {name: item for name, item in value.items() if name not in _ARRAYS}
    samples = _samples(value.get("samples_ns"), f"{what}.samples_ns", least=1)
    warmup = _samples(value.get("warmup_ns"), f"{what}.warmup_ns", least=1)
    if not samples.size:
        raise FormError(f"{what}.samples_ns: no samples: a process that measured nothing is a failure")
    parts = {
        name: _samples(item, f"{what}.parts.{name}", least=0)
        for name, item in member(value, "parts", dict, what).items()
    }
    if wrong := misfit(samples.size, parts):
        raise FormError(f"{what}: {wrong}")
    taken = built(lambda given: Round.from_dict(given, samples, warmup, parts), facts, what)
    check(taken.protocol, f"{what}.protocol")
    if taken.loop_count < 1 or taken.round_index < 0 or taken.attempt < 0 or taken.started_at_ns < 0:
        raise FormError(f"{what}: loop_count, round_index, attempt or started_at_ns is out of range")
    return taken


def _samples(value: object, what: str, *, least: int) -> Samples:
    """Integer nanoseconds, each from `least` to MAX_SAMPLE_NS."""
    if not isinstance(value, list):
        raise FormError(f"{what}: a list of whole numbers is missing")
    for index, number in enumerate(value):
        if type(number) is not int or not least <= number <= MAX_SAMPLE_NS:
            raise FormError(
                f"{what}[{index}] = {str(number)[:40]} is no whole number of nanoseconds from {least} to"
                f" {MAX_SAMPLE_NS:.0e}"
            )
    samples = np.array(value, dtype=np.int64)
    samples.flags.writeable = False
    return samples


def _session(value: object) -> Session:
    def make(given: Mapping[str, Any]) -> Session:
        return Session(session_id=0, run_id=0, **given)

    return built(make, value, "session")


def _list(value: Mapping[str, Any], name: str, what: str) -> Sequence[object]:
    return member(value, name, list, what)
