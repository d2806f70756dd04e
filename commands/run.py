"""`python bench.py --suite NAME`: the options of a run, what they override, and the plan on its own."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import OK, SOME_FAILED, UsageError, match, options

if TYPE_CHECKING:
    from commands.plan import Overrides, Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_matrix(parser)
    how = parser.add_argument_group("how long to measure")
    add_timing(how)
    how.add_argument(
        "--profile", action="store_true", help="also where the time goes, by layer, once for every case"
    )
    how.add_argument("--fresh", action="store_true", help="measure again, whatever is stored")
    how.add_argument("--dry-run", action="store_true", help="check everything and show the plan")
    match.add_trainings(parser.add_argument_group("of a suite that is searched by latency"))
    out = parser.add_argument_group("where things go")
    options.add_config(out)
    options.add_store(out)
    out.add_argument("--report", type=Path, metavar="FILE", help="HTML report (default: results/SUITE.html)")
    options.add_json(out)


def add_matrix(parser: argparse.ArgumentParser) -> None:
    """Which cases: a suite, and what narrows or replaces it."""
    from commands import calibrations, network_choice

    parser.add_argument("--suite", metavar="NAME", help="which suite of bench.toml to run")
    matrix = parser.add_argument_group("narrow or replace what the suite says (a,b or repeated)")
    options.add_list(matrix, "--model", "NAME", "such as block/ncb or timm/resnet50; a file: net.onnx")
    network_choice.add_arguments(matrix)
    matrix.add_argument(
        "--checkpoint", action="append", default=[], metavar="[NAME=]FILE", help="weights of a model"
    )
    calibrations.add_arguments(matrix)
    options.add_options(matrix, "--option", "the builder's own options, such as num_classes=100")
    options.add_list(
        matrix, "--resolution", "SIDE", "image side; a block's shape such as 14x14x384; own: the network's"
    )
    options.add_list(matrix, "--backend", "NAME", "runtimes: see `list backends`")
    options.add_list(matrix, "--device", "NAME", "cpu, cuda, cuda:1; with an agent: iphone, mac, ...")
    options.add_list(
        matrix, "--compute-unit", "NAME", "of Core ML: all, cpuAndNeuralEngine, cpuAndGPU, cpuOnly"
    )
    options.add_list(matrix, "--batch-size", "N", "images per inference")
    options.add_list(matrix, "--precision", "NAME", "fp32, fp16, bf16, int8, fp16-pal6, ...")
    options.add_list(matrix, "--threads", "N", "threads of the runtime")
    options.add_list(matrix, "--target", "SM", "compute capabilities to build engines for, such as sm89")
    options.add_options(matrix, "--build", "options of the toolchain that makes the file")
    options.add_options(matrix, "--runtime", "options of the runtime, such as cuda_graph=true")


def add_timing(parser: options.Options) -> None:
    """How long to measure, where that is not the suite's own timing."""
    parser.add_argument("--rounds", metavar="N", help="exactly so many fresh processes per case")
    parser.add_argument("--max-seconds", metavar="S", help="budget for measuring the suite")
    add_turns(parser)
    parser.add_argument("--seed", metavar="N", help="seed of the order of rounds")
    parser.add_argument(
        "--pin", metavar="CORES", help="cores of the measuring processes, such as 2,3, or off"
    )


def add_turns(parser: options.Options) -> None:
    parser.add_argument(
        "--turns", metavar="S", help="cases that are compared take turns of S seconds; 0: whole rounds"
    )


def execute(args: argparse.Namespace) -> int:
    began_ns = time.perf_counter_ns()
    from commands import match_suite
    from commands.plan import make
    from commands.timing import check_pin

    config, base = options.load_config(args)
    if not args.suite:
        raise UsageError(f"--suite NAME is missing: {args.config} has {', '.join(sorted(config.suites))}")
    if match_suite.is_match(config, args.suite):
        return match_suite.execute(args, config, base)
    match_suite.refuse_trainings(args, config)
    plan = make(config, args.suite, overrides(args), timing_overrides(args), profile=args.profile)
    check_pin(plan.timing, plan.cases)
    for note in plan.notes:
        print(note, file=sys.stderr)
    cache_root = base / Path(config.paths.artifacts).expanduser()
    if args.dry_run:
        return _show_plan(plan, cache_root, as_json=args.json)
    report = args.report or base / Path(config.paths.reports).expanduser() / f"{args.suite}.html"
    store = options.store_path(args, config, base)
    return _run(args, plan, cache_root, report=report, store=store, began_ns=began_ns)


def _run(
    args: argparse.Namespace, plan: Plan, cache_root: Path, *, report: Path, store: Path, began_ns: int
) -> int:
    from commands import published
    from commands.execution import Execution
    from commands.only_one import RunBusyError
    from converters.cache import CacheError
    from reports.files import OutputError
    from reports.store import Store, StoreError
    from runners.suite import DeviceBusyError

    try:
        _check_writable(report, store)
        if not all(case.model.is_block for case in plan.cases):
            for text in published.unread_of_table():
                print(f"warning: {text}; left out of the report", file=sys.stderr)
        with Store(store) as opened:
            return Execution(plan, opened, cache_root, args, began_ns).go(report)
    except (StoreError, CacheError, OutputError) as error:
        raise UsageError(str(error)) from None
    except (DeviceBusyError, RunBusyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return SOME_FAILED


def overrides(args: argparse.Namespace) -> Overrides:
    from commands import calibrations, network_choice
    from commands.onnx_files import is_file_name, opened
    from commands.plan import Overrides

    names = options.values(args.model, "--model")
    models = tuple(name for name in names if not is_file_name(name))
    return Overrides(
        models=network_choice.chosen(args, models),
        batched=network_choice.has_patterns(models),
        files=tuple(dict.fromkeys(opened(name) for name in names if is_file_name(name))),
        checkpoints=tuple(args.checkpoint),
        options=options.option_values(args.option, "--option"),
        resolutions=options.values(args.resolution, "--resolution"),
        backends=options.values(args.backend, "--backend"),
        devices=options.values(args.device, "--device"),
        batch_sizes=options.integers(args.batch_size, "--batch-size"),
        precisions=options.values(args.precision, "--precision"),
        compute_units=options.values(args.compute_unit, "--compute-unit"),
        threads=options.integers(args.threads, "--threads"),
        targets=options.values(args.target, "--target"),
        build=options.option_values(args.build, "--build"),
        runtime=options.option_values(args.runtime, "--runtime"),
        calibrate="" if args.calibrate is None else calibrations.data_of(args.calibrate),
        calibration_images=calibrations.count_of(args),
    )


def timing_overrides(args: argparse.Namespace) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if args.rounds is not None:
        rounds = options.positive("--rounds")(args.rounds)
        if rounds < 2:
            raise UsageError("--rounds: at least 2, since an interval across rounds needs two")
        given |= {"min_rounds": rounds, "max_rounds": rounds}
    if args.max_seconds is not None:
        given["max_seconds"] = options.seconds("--max-seconds")(args.max_seconds)
    if args.turns is not None:
        given["turn_seconds"] = options.seconds("--turns", zero=True)(args.turns)
    if args.seed is not None:
        if not (args.seed.isascii() and args.seed.isdigit() and int(args.seed) < 2**63):
            raise UsageError(f"--seed: '{args.seed}' is not a whole number of at least 0")
        given["seed"] = int(args.seed)
    if args.pin is not None:
        given["pin"] = options.cores("--pin")(args.pin)
    return given


def _check_writable(report: Path, store: Path) -> None:
    """A report that cannot be written is better known before an hour of measuring than after it."""
    from reports.files import OutputError, check_writable

    if report.resolve() == store.resolve():
        raise OutputError(f"report {report}: is the result store; name another file")
    check_writable(report, "--report")


def _show_plan(plan: Plan, cache_root: Path, *, as_json: bool) -> int:
    from dataclasses import asdict

    from commands.untimed import not_here
    from converters.cache import ArtifactCache
    from converters.keys import cache_key

    present = set(ArtifactCache(cache_root).keys())
    keys = {case_id: cache_key(request) for case_id, request in plan.requests().items()}
    states = {case.id: keys[case.id] in present if case.id in keys else None for case in plan.cases}
    here = {case.id: not_here(case) is None for case in plan.cases}
    if as_json:
        rows = [
            {
                "id": c.id,
                "label": c.label,
                "case": c.to_dict(),
                "converted": states[c.id],
                "weights_file": str(plan.files[c.model.weights]) if c.model.weights in plan.files else None,
                "runs_here": here[c.id],
            }
            for c in plan.cases
        ]
        print(json.dumps({"schema": 1, "suite": plan.suite, "timing": asdict(plan.timing), "cases": rows}))
        return OK
    words = {True: "converted", False: "to convert", None: "no file"}
    for case in plan.cases:
        where = "" if here[case.id] else ", cannot be timed here"
        state = f"fails: {plan.refused[case.id]}" if case.id in plan.refused else words[states[case.id]]
        print(f"{case.label:<60} {state}{where}")
    for weights, path in plan.files.items():
        print(f"{weights.removeprefix('sha256:')[:8]} are the weights of {options.shown(path)}")
    print(f"\n{_length(plan)}")
    return OK


def _length(plan: Plan) -> str:
    """How long measuring takes; a device's jobs have the least number of rounds, and no budget."""
    from commands.devices import driver_of

    timing, cases = plan.timing, len(plan.cases)
    least = cases * timing.min_rounds * (timing.round_seconds + timing.warmup_seconds)
    if all(driver_of(case) for case in plan.cases):
        return f"{cases} cases, {timing.min_rounds} rounds each: at least {least:.0f} s of the device's time"
    return (
        f"{cases} cases, {timing.min_rounds} to {timing.max_rounds} rounds each: measuring takes"
        f" at least {least:.0f} s, at most {timing.max_seconds:.0f} s"
    )
