"""What `latest~1`, `7`, `records.json` or a git revision names: one run, and which of its cases."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from commands import UsageError
from models.spec import Case
from models.tables import suggest

if TYPE_CHECKING:
    from models.spec import Case
    from reports.records import CaseResult, RunInfo, StoredRun
    from reports.store import Store

FORMS = "a run's number, latest, latest~1, a file (.db, records, pytest-benchmark) or a git revision"
_LATEST = re.compile(r"latest(?:~(\d{1,6}))?")
_HEX = re.compile(r"[0-9a-f]{4,64}")
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class Reference:
    """A run that a command line named, and the results that it is about.

    `name` is short (`run 7`, `records.json`); `cases` is what followed the colon, empty for all of them.
    `origin` is the store's path and the run's number, or the file: equal for the same run.
    """

    name: str
    run: StoredRun
    results: tuple[CaseResult, ...]
    cases: str
    origin: tuple[str, int]


class References:
    """Names of runs, looked up in a store where there is one.

    `suite` keeps `latest` and git revisions to the runs of one suite.
    """

    def __init__(self, store: Store | None, *, store_path: Path, suite: str | None) -> None:
        self._store, self._store_path, self._suite = store, store_path, suite
        self._known: list[RunInfo] | None = None

    def find(self, text: str) -> Reference:
        """Raises UsageError for what names nothing, and for what names several things."""
        name, cases = (text, "") if Path(text).exists() else _parted(text)
        meanings = dict(self._meanings(name))
        if not meanings:
            raise UsageError(self._unknown(name))
        if len(meanings) > 1:
            raise UsageError(
                f"'{name}' is several things: {', '.join(meanings)}; write a path as ./{name}, a run by its"
                " number, or more digits of the revision"
            )
        ((_, load),) = meanings.items()
        found = load()
        return Reference(found.name, found.run, _selected(found, cases), cases, found.origin)

    def _meanings(self, name: str) -> Iterator[tuple[str, Callable[[], Reference]]]:
        if Path(name).is_file():
            yield f"the file {name}", partial(_from_file, Path(name))
        if (match := _LATEST.fullmatch(name)) and self._store is not None:
            info = self._newest(int(match[1] or 0))
            yield f"run {info.run_id}", partial(self._stored, info)
            return
        if name.isascii() and name.isdigit() and (known := self._by(lambda i: str(i.run_id) == name)):
            yield f"run {known[-1].run_id}", partial(self._stored, known[-1])
        if _HEX.fullmatch(name) and (plans := self._by(lambda i: i.plan_digest.startswith(name))):
            yield f"the plan of run {plans[-1].run_id}", partial(self._stored, plans[-1])
        commits = sorted({c for info in self._infos() if _is(c := commit_of(info), name) and self._at(c)})
        for commit in commits or [commit for commit in self._git(name) if self._at(commit)]:
            yield f"revision {commit[:12]}", partial(self._stored, self._at(commit)[-1])

    def _stored(self, info: RunInfo) -> Reference:
        assert self._store is not None
        run = self._store.load_run(info.run_id)
        return Reference(
            f"run {info.run_id}", run, run.results, "", (str(self._store_path.resolve()), info.run_id)
        )

    def _newest(self, back: int) -> RunInfo:
        runs = [info for info in self._infos() if self._suite in (None, info.suite)]
        if back >= len(runs):
            of = f" of suite '{self._suite}'" if self._suite else ""
            what = f"holds {len(runs)} runs{of}" if runs else f"holds no run{of}"
            raise UsageError(
                f"latest{f'~{back}' if back else ''}: {self._store_path} {what}: run a suite first"
            )
        return runs[-1 - back]

    def _infos(self) -> list[RunInfo]:
        """Oldest first."""
        if self._known is None:
            self._known = self._store.runs() if self._store is not None else []
        return self._known

    def _by(self, holds: Callable[[RunInfo], bool]) -> list[RunInfo]:
        return [info for info in self._infos() if holds(info)]

    def _at(self, commit: str) -> list[RunInfo]:
        return self._by(lambda info: commit_of(info) == commit and self._suite in (None, info.suite))

    def _git(self, name: str) -> list[str]:
        """The commit that git knows by this name: a branch, a tag, `HEAD~1`."""
        if name.startswith("-") or not self._infos():
            return []
        from runners.environment import ROOT

        command = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.SubprocessError):
            return []
        return [done.stdout.strip()] if done.returncode == 0 else []

    def _unknown(self, name: str) -> str:
        if self._store is None:
            where = f"there is no result store at {self._store_path}"
            return f"'{name}' is no file, and {where}: run a suite first, or name a store with --store"
        if known := self._git(name):
            of = f" of suite '{self._suite}'" if self._suite else ""
            return (
                f"{self._store_path} holds no run{of} of revision {name} ({known[0][:12]}): check it out and"
                " run the suite there first"
            )
        runs = ", ".join(str(info.run_id) for info in self._infos()[-5:])
        return f"'{name}' names no run: give {FORMS}; {self._store_path} holds runs {runs or '(none)'}"


def commit_of(info: RunInfo) -> str:
    """The git revision that a run recorded; empty where there was none."""
    revision = info.environment.get("revision")
    return str(revision.get("commit", "")) if isinstance(revision, dict) else ""


def words_of(case: Case) -> set[str]:
    """What a case may be called by: the words of its label, its short name, its id, and `fused`."""
    name = case.model.name
    known = {*case.label.split(), name, name.partition("/")[2], case.id}
    return known | ({"fused"} if case.fused else set())


@contextmanager
def opened(path: Path) -> Iterator[Store | None]:
    """The store for reading, or None where there is no such file. Raises UsageError for a bad one."""
    from reports.store import Store, StoreError

    if not path.exists():
        yield None
        return
    try:
        with Store(path, read_only=True) as store:
            yield store
    except StoreError as error:
        raise UsageError(str(error)) from None


def _parted(text: str) -> tuple[str, str]:
    name, _, cases = text.partition(":")
    return name, cases.strip()


def _is(commit: str, name: str) -> bool:
    return bool(commit) and bool(_HEX.fullmatch(name)) and commit.startswith(name)


def _from_file(path: Path) -> Reference:
    """A store's latest run, or the run that a file of records or of pytest-benchmark holds."""
    from commands.pytest_benchmark_run import run_of
    from reports import pytest_benchmark_file
    from reports.records_file import RecordsError, read
    from reports.store import Store, StoreError

    with path.open("rb") as file:
        begin = file.read(len(_SQLITE))
    try:
        if begin == _SQLITE:
            with Store(path, read_only=True) as store:
                newest = store.latest()
                if newest is None:
                    raise UsageError(f"{path} holds no run: run a suite with --store {path} first")
                run = store.load_run(newest.run_id)
            origin = (str(path.resolve()), newest.run_id)
            return Reference(f"run {newest.run_id} of {path.name}", run, run.results, "", origin)
        run = run_of(path) if pytest_benchmark_file.is_one(path) else read(path)[0]
    except (RecordsError, StoreError) as error:
        raise UsageError(str(error).removesuffix("; nothing was imported")) from None
    return Reference(path.name, run, run.results, "", (str(path.resolve()), 0))


def _selected(found: Reference, cases: str) -> tuple[CaseResult, ...]:
    """The results whose case has all the words."""
    if not cases:
        return found.results
    wanted = cases.split()
    chosen = tuple(r for r in found.results if words_of(r.case).issuperset(wanted))
    if not chosen:
        raise no_such_case(found.name, wanted, [r.case for r in found.results])
    return chosen


def no_such_case(place: str, wanted: Sequence[str], known: Iterable[Case]) -> UsageError:
    """Which of the words is none that any case of the place has, and what may have been meant."""
    words = {word for case in known for word in words_of(case)}
    missing = next((word for word in wanted if word not in words), "")
    hint = suggest(missing, words) if missing else "no case has all of these words"
    return UsageError(f"{place} has no case '{' '.join(wanted)}': {hint}")
