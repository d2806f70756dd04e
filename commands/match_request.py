"""What a search for networks of one latency is asked for, checked before anything is built."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

from commands import UsageError
from commands.config import Config
from commands.match_options import Asked, asked
from commands.match_table import settings_of
from commands.plan import check_case
from commands.timing import check_timing, in_turns
from commands.untimed import not_here
from models.errors import ModelError
from models.image_data import open_data
from models.info import INFO, check_name
from models.recipe import Recipe, recipe
from models.spec import Case, ModelSpec, Option, sorted_options
from models.tables import UnknownNameError
from runners import backend_info
from runners.measurement import Timing
from runners.suite import MOST_TOGETHER

# A search with a second knob looks nearer than it must: what it ends at is measured again, with new chance.
NEARER = 2 / 3


@dataclass(frozen=True, slots=True)
class FineKnob:
    """A second option of the builder, in finer steps; `usual` is what networks have where it is not moved."""

    name: str
    settings: range
    usual: int


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a network's knobs stand; without `fine`, the second is where it always is."""

    knob: str
    value: int
    fine: tuple[str, int] | None = None

    @property
    def options(self) -> tuple[tuple[str, Option], ...]:
        """Those of the builder."""
        return sorted_options(dict(self._knobs))

    @property
    def label(self) -> str:
        """`depth 9, hidden 94`."""
        return ", ".join(f"{name} {value}" for name, value in self._knobs)

    @property
    def _knobs(self) -> list[tuple[str, int]]:
        return [(self.knob, self.value), *([self.fine] if self.fine else [])]


@dataclass(frozen=True)
class MatchRequest:
    """The reference's case, the networks that are matched to it, and how.

    `rounds` are those of the last run, which measures all that were found. `recipes` are one training of
    each, by seed; empty where nothing is trained. `images` are the digits to learn and those held out.
    """

    suite: str
    reference: Case
    models: tuple[str, ...]
    knob: str
    settings: range
    fine: FineKnob | None
    tolerance: float
    timing: Timing
    rounds: int
    recipes: tuple[Recipe, ...]
    images: tuple[int, int]

    @property
    def reference_setting(self) -> int:
        return int(str(self.reference.model.option(self.knob)))

    @property
    def last_timing(self) -> Timing:
        """That of the last run."""
        return replace(self.timing, min_rounds=self.rounds, max_rounds=self.rounds)

    @property
    def searched_tolerance(self) -> float:
        return self.tolerance * NEARER if self.fine else self.tolerance

    def case(self, model: str, setting: Setting) -> Case:
        return replace(
            self.reference, model=ModelSpec(model, self.reference.model.resolution, setting.options)
        )

    def ends(self) -> Iterator[Case]:
        """The cases at the ends of what may be measured; what is valid there is valid between."""
        yield self.reference
        fines = [self.fine.settings[0], self.fine.settings[-1]] if self.fine else [None]
        for model in self.models:
            for value in (self.settings[0], self.settings[-1]):
                for fine in fines:
                    moved = (self.fine.name, fine) if self.fine and fine is not None else None
                    yield self.case(model, Setting(self.knob, value, moved))


def read(args: argparse.Namespace, config: Config) -> MatchRequest:
    """Raises UsageError, ModelError or DataError for what cannot be searched, built, timed or trained."""
    wanted = asked(config, args)
    table = wanted.table
    names = _models(wanted)
    spec = ModelSpec(
        table.reference, INFO[table.reference].resolution, ((table.knob, _reference_setting(wanted)),)
    )
    request = MatchRequest(
        suite=wanted.suite,
        reference=_case(wanted, spec),
        models=names,
        knob=table.knob,
        settings=settings_of(table.settings),
        fine=_fine_knob(wanted),
        tolerance=table.tolerance,
        timing=check_timing(in_turns(config.timing_of(config.suite(wanted.suite)))),
        rounds=table.rounds,
        recipes=_recipes(wanted),
        images=(len(open_data(None, "train")), len(open_data(None, "val"))) if table.seeds else (0, 0),
    )
    for case in request.ends():
        check_case(case)
    if missing := not_here(request.reference):
        raise UsageError(f"{wanted.place('backend')} {table.backend}: {missing.message}. {missing.advice}")
    return request


def _reference_setting(wanted: Asked) -> int:
    """The suite's is that of its own reference and knob: for others it is the builder's, unless given."""
    table = wanted.table
    other = {"reference", "knob"} & wanted.given and "reference_setting" not in wanted.given
    if table.reference_setting is None or other:
        return int(INFO[table.reference].options[table.knob].default or 1)
    return table.reference_setting


def _models(wanted: Asked) -> tuple[str, ...]:
    table = wanted.table
    names = tuple(dict.fromkeys(table.models))
    for name, field in [(table.reference, "reference"), *((name, "models") for name in names)]:
        _check_knobs(wanted, name, field)
    if table.reference in names or not 0 < len(names) < MOST_TOGETHER:
        raise UsageError(
            f"{wanted.place('models')}: 1 to {MOST_TOGETHER - 1} networks, and not the reference"
            f" {table.reference}"
        )
    return names


def _check_knobs(wanted: Asked, name: str, field: str) -> None:
    """Raises UsageError for an unknown network, and for one that lacks a knob."""
    try:
        check_name(name)
    except ModelError as error:
        raise UsageError(f"{wanted.place(field)}: {error}") from None
    for place in ("knob", "fine_knob"):
        knob = getattr(wanted.table, place)
        rule = INFO[name].options.get(knob) if name in INFO and not name.startswith("block/") else None
        if knob and (rule is None or rule.kind is not int):
            said = wanted.place(place if place in wanted.given else field)
            off = ", or --fine-knob off" if place == "fine_knob" else ""
            fix = f"name a network like blocknet/ncb{off}"
            raise UsageError(f"{said}: {name}: has no option '{knob}' to search: {fix}")


def _fine_knob(wanted: Asked) -> FineKnob | None:
    table = wanted.table
    if not table.fine_knob:
        return None
    usual = int(INFO[table.reference].options[table.fine_knob].default or 0)
    settings = settings_of(table.fine_settings)
    if table.fine_knob == table.knob:
        raise UsageError(f"{wanted.place('fine_knob')}: '{table.knob}' is the knob itself")
    if usual not in settings:
        raise UsageError(_leaves_out(wanted, usual))
    return FineKnob(table.fine_knob, settings, usual)


def _leaves_out(wanted: Asked, usual: int) -> str:
    """Of the value that was given: another knob than the suite's has no use for the suite's settings."""
    table = wanted.table
    if "fine_knob" in wanted.given and "fine_settings" not in wanted.given:
        return (
            f"--fine-knob {table.fine_knob}: is {usual} unless it is moved, and the suite's fine settings"
            f" {table.fine_settings} are another knob's: give --fine-settings LOW-HIGH with {usual} in it"
        )
    return (
        f"{wanted.place('fine_settings')}: '{table.fine_settings}' leaves out {usual}, where networks are"
        " unless it is moved"
    )


def _case(wanted: Asked, spec: ModelSpec) -> Case:
    table = wanted.table
    try:
        info = backend_info(table.backend)
    except UnknownNameError as error:
        raise UsageError(f"{wanted.place('backend')}: {error}") from None
    if not info.real or "cpu" not in info.devices:
        raise UsageError(
            f"{wanted.place('backend')} {table.backend}: nothing takes turns there: name one that runs on the"
            " CPU"
        )
    return Case(
        spec,
        table.backend,
        batch_size=table.batch_size,
        precision=table.precision or info.precisions[0],
        threads=table.threads,
    )


def _recipes(wanted: Asked) -> tuple[Recipe, ...]:
    """Of the digits' preset, the same for every network: stochastic depth is known for Next-ViT's alone."""
    table = wanted.table
    usual = recipe("digits", model=table.reference, changes={})
    changes: dict[str, Option] = {
        "epochs": table.epochs,
        "warmup_epochs": min(usual.warmup_epochs, table.epochs - 1),
        "stochastic_depth": 0.0,
    }
    return tuple(
        recipe("digits", model=table.reference, changes=changes | {"seed": seed})
        for seed in range(table.seeds)
    )
