"""`python bench.py agent`: devices that are measured by an agent of their own, phones first."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from commands import NOT_TIMED, OK, UsageError, options
from commands.device_hosts import found_devices
from commands.devices import driver, drivers
from models.tables import suggest

ACTIONS = ("doctor", "devices", "run", "import", "serve")
DESCRIPTION = """
  doctor             which drivers can work here, and the fix for those that cannot
  devices            the devices that the drivers see now; identifiers are shown as aliases
  run FILE...        measure packages (.mlpackage, .zip, .onnx), or the jobs of an outbox folder
  import OUTBOX      results of a suite's jobs that were run elsewhere, into the run that wants them
  import X.mlperf    a performance report that Xcode wrote
  serve OUTBOX       run the jobs of a folder as they come, until interrupted; it listens on nothing

  python bench.py agent run out/nextvit_small.mlpackage --driver iphone --compute-unit all,cpuOnly
  python bench.py agent run out/nextvit_small.onnx --driver local
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{DESCRIPTION}"
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE")
    parser.add_argument("--driver", default="iphone", metavar="NAME", help="default: iphone")
    parser.add_argument(
        "--device", metavar="ALIAS", help="as `agent devices` shows it (default: the only one)"
    )
    options.add_list(parser, "--compute-unit", "NAME", "cpuOnly, cpuAndGPU, cpuAndNeuralEngine, all")
    parser.add_argument("--model", metavar="NAME", help="the network in the file (default: the file's name)")
    parser.add_argument("--resolution", metavar="SIDE", help="image side (default: that of the input)")
    parser.add_argument("--precision", metavar="NAME", help="default: as the package's types tell it")
    parser.add_argument("--rounds", metavar="N", help="default: 5")
    parser.add_argument("--round-seconds", metavar="S", help="default: 0.6")
    parser.add_argument(
        "--rounds-per-launch", metavar="N", help="default: 1, so that each round is a fresh process"
    )
    parser.add_argument("--team", metavar="ID", help="coremltools: the team that signs its app")
    parser.add_argument("--install", type=Path, metavar="APP", help="put this signed app on the phone first")
    parser.add_argument(
        "--outbox", type=Path, metavar="DIR", help="where jobs wait (default: results/outbox)"
    )
    parser.add_argument("--fresh", action="store_true", help="measure again, whatever the phone told before")
    parser.add_argument("--once", action="store_true", help="serve: end when no job is left")
    options.add_config(parser)
    options.add_store(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    if args.action not in ACTIONS:
        raise UsageError(f"unknown action '{args.action}': {suggest(args.action, ACTIONS)}")
    if args.action == "doctor":
        return _doctor(args)
    if args.action == "devices":
        return _devices(args)
    if args.action == "import":
        from commands.agent_import import import_files

        return import_files(args)
    from commands.agent_run import run, serve

    return run(args) if args.action == "run" else serve(args)


def outbox(args: argparse.Namespace) -> Path:
    given: Path | None = args.outbox
    if given is not None:
        return given
    from commands.device_cases import outbox_of

    config, base = options.load_config(args)
    return outbox_of(options.store_path(args, config, base))


def _doctor(args: argparse.Namespace) -> int:
    rows = []
    for name in drivers():
        info = driver(name)
        reason, _, fix = info.missing().partition("; ")
        rows.append({"driver": name, "for": info.description, "missing": reason, "fix": fix})
    if args.json:
        print(json.dumps({"schema": 1, "drivers": rows}))
        return OK
    for row in rows:
        print(f"{row['driver']:<13} {row['missing'] or 'can work here'}")
        print(f"{'':<13} {row['fix'] or row['for']}")
    return OK


def _devices(args: argparse.Namespace) -> int:
    from device_agents.problems import PROBLEMS, DeviceProblem

    rows, problems = [], []
    for name in drivers():
        info = driver(name)
        if info.missing() or name == "simulated":
            continue
        try:
            seen = found_devices(outbox(args), info)
        except DeviceProblem as problem:
            problems.append({"driver": name, "problem": problem.name, "message": str(problem)})
            continue
        for carrier, device in seen:
            row = {"driver": name, "device": device.alias, "model": device.model, "os": device.os}
            advice = PROBLEMS[device.state].advice if device.state else ""
            rows.append({**row, "through": carrier.name, "problem": device.state, "advice": advice})
    if args.json:
        print(json.dumps({"schema": 1, "devices": rows, "problems": problems}))
    else:
        for row in rows:
            state = f"{row['problem']}: {row['advice']}" if row["problem"] else "ready"
            print(
                f"{row['device']}  {row['model']}, {row['os']} ({row['driver']}, {row['through']}): {state}"
            )
        for failed in problems:
            print(f"{failed['driver']}: {failed['message']}")
    phones = any(row["driver"] == "iphone" for row in rows)
    if not phones and not args.json:
        print("no phone is here: `agent doctor` says what is missing")
    return OK if phones else NOT_TIMED
