"""What `match` is asked for, checked before anything is built."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from commands import UsageError, options
from commands.plan import check_case, request_of
from commands.timing import check_timing, in_turns
from commands.untimed import not_here
from converters.cache_use import keys_of
from models.image_data import open_data
from models.info import INFO, check_name
from models.recipe import Recipe, recipe
from models.spec import Case, ModelSpec, Option
from models.tables import UnknownNameError
from runners import backend_info
from runners.measurement import Timing
from runners.suite import MOST_TOGETHER

FAMILY = "blocknet/"


@dataclass(frozen=True)
class MatchRequest:
    """The reference's case, the networks that are matched to it, and how.

    `rounds` are those of the last run, which measures all that were found. `recipes` are one training of
    each, by seed; empty where nothing is trained.
    """

    reference: Case
    models: tuple[str, ...]
    knob: str
    settings: range
    tolerance: float
    timing: Timing
    rounds: int
    recipes: tuple[Recipe, ...]

    @property
    def reference_setting(self) -> int:
        return int(str(self.reference.model.option(self.knob)))

    def case(self, model: str, setting: int) -> Case:
        resolution = self.reference.model.resolution
        return replace(self.reference, model=ModelSpec(model, resolution, ((self.knob, setting),)))

    def cases(self) -> Iterator[Case]:
        """Every case that may be measured."""
        yield self.reference
        for model in self.models:
            yield from (self.case(model, setting) for setting in self.settings)

    def keys(self) -> set[str]:
        """The artifacts that may be needed."""
        return keys_of([request_of(case) for case in self.cases()])


def read(args: argparse.Namespace) -> MatchRequest:
    """Raises UsageError, ModelError or DataError for what cannot be searched, built, timed or trained."""
    knob, reference = args.knob, args.reference
    names = options.values(args.model, "--model") if args.model else _others(reference)
    for name in (reference, *names):
        _check_knob(name, knob)
    if reference in names or len(names) >= MOST_TOGETHER:
        raise UsageError(f"--model: at most {MOST_TOGETHER - 1} networks, and not the reference {reference}")
    default = INFO[reference].options[knob].default
    setting = options.positive("--reference-setting")(args.reference_setting or str(default))
    spec = ModelSpec(reference, INFO[reference].resolution, ((knob, setting),))
    request = MatchRequest(
        reference=_case(args, spec),
        models=names,
        knob=knob,
        settings=_settings(args.settings),
        tolerance=_tolerance(args.tolerance),
        timing=_timing(args),
        rounds=_rounds(args.rounds),
        recipes=_recipes(args, reference),
    )
    for case in request.cases():
        check_case(case)
    if missing := not_here(request.reference):
        raise UsageError(f"--backend {args.backend}: {missing.message}. {missing.advice}")
    return request


def _others(reference: str) -> tuple[str, ...]:
    return tuple(name for name in INFO if name.startswith(FAMILY) and name != reference)


def _check_knob(name: str, knob: str) -> None:
    check_name(name)
    rule = INFO[name].options.get(knob) if name in INFO and not name.startswith("block/") else None
    if rule is None or rule.kind is not int:
        raise UsageError(f"{name}: has no option '{knob}' to search: name a network like {FAMILY}ncb")


def _case(args: argparse.Namespace, spec: ModelSpec) -> Case:
    try:
        info = backend_info(args.backend)
    except UnknownNameError as error:
        raise UsageError(f"--backend: {error}") from None
    if not info.real or "cpu" not in info.devices:
        raise UsageError(
            f"--backend {args.backend}: nothing takes turns there: name one that runs on the CPU"
        )
    return Case(
        spec,
        args.backend,
        batch_size=options.positive("--batch-size")(args.batch_size),
        precision=args.precision or info.precisions[0],
        threads=options.positive("--threads")(args.threads),
    )


def _settings(text: str) -> range:
    found = re.fullmatch(r"([1-9]\d{0,3})-([1-9]\d{0,3})", text)
    if found is None or int(found[1]) > int(found[2]):
        raise UsageError(f"--settings: '{text}' is not written like 3-24, the lowest and the highest")
    return range(int(found[1]), int(found[2]) + 1)


def _tolerance(text: str) -> float:
    value = options.share("--tolerance")(text)
    if value == 0.0:
        raise UsageError("--tolerance: no two networks take exactly as long: give more than 0, such as 3%")
    return value


def _timing(args: argparse.Namespace) -> Timing:
    config, _ = options.load_config(args)
    return check_timing(in_turns(config.timing.applied_to(Timing())))


def _rounds(text: str) -> int:
    rounds = options.positive("--rounds")(text)
    if rounds < 2:
        raise UsageError("--rounds: one round has no interval: at least 2")
    return rounds


def _recipes(args: argparse.Namespace, reference: str) -> tuple[Recipe, ...]:
    """Of the digits' preset, the same for every block: stochastic depth is known for Next-ViT's alone."""
    seeds = 0 if args.seeds == "0" else options.positive("--seeds")(args.seeds)
    epochs = options.positive("--epochs")(args.epochs)
    if seeds:
        open_data(None, "train")  # before hours of measuring: are the digits there?
    usual = recipe("digits", model=reference, changes={})
    changes: dict[str, Option] = {
        "epochs": epochs,
        "warmup_epochs": min(usual.warmup_epochs, epochs - 1),
        "stochastic_depth": 0.0,
    }
    return tuple(recipe("digits", model=reference, changes=changes | {"seed": seed}) for seed in range(seeds))
