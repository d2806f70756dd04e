"""`python bench.py list`: models, blocks, suites, backends and devices, without loading a runtime."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from commands import OK, options
from commands.targets import builds_for_target
from runners.options import RuntimeOption

Rows = list[dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=tuple(LISTS), help="default: everything")
    parser.add_argument("--timm", action="store_true", help="timm's models too")
    options.add_config(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    chosen = [args.what] if args.what else list(LISTS)
    found = {name: LISTS[name](args) for name in chosen}
    if args.json:
        print(json.dumps({"schema": 1, **found}))
        return OK
    for number, (name, rows) in enumerate(found.items()):
        print(f"{chr(10) if number else ''}{name}")
        _print_rows(rows)
    if not args.timm and "models" in found:
        print("\nEvery timm model is there too, as timm/NAME: list models --timm shows them.")
    return OK


def _networks(args: argparse.Namespace) -> Rows:
    from models import MODELS
    from models.info import INFO
    from models.tables import names
    from models.timm_names import timm_names

    ours = [name for name in names(MODELS, "models") if not name.startswith("block/")]
    rows = [
        {
            "name": name,
            "description": INFO[name].description if name in INFO else "from another package",
            "params_m": INFO[name].params_m if name in INFO else None,
            "gmacs": INFO[name].gmacs if name in INFO else None,
            "resolution": INFO[name].resolution if name in INFO else None,
        }
        for name in ours
    ]
    return rows + ([{"name": f"timm/{name}"} for name in timm_names()] if args.timm else [])


def _blocks(args: argparse.Namespace) -> Rows:
    from models import MODELS
    from models.info import INFO

    return [
        {"name": name, "description": INFO[name].description, "paper": INFO[name].paper}
        for name in MODELS
        if name.startswith("block/")
    ]


def _suites(args: argparse.Namespace) -> Rows:
    config, _ = options.load_config(args)
    return [{"name": name, "description": suite.description} for name, suite in config.suites.items()]


def _backends(args: argparse.Namespace) -> Rows:
    from commands.devices import devices_of, missing
    from runners import backend_info, backend_names

    rows: Rows = []
    for name in backend_names():
        info = backend_info(name)
        row = {"name": name, "description": info.description, "devices": list(devices_of(info))}
        builder = {"builder": _builder()} if builds_for_target(info) else {}
        here = {"here": missing(name, info.devices[0]) or "yes"}
        told = {option: _option(known) for option, known in info.options.items()}
        rows.append({**row, **builder, **here, "options": told})
    return rows


def _option(option: RuntimeOption) -> dict[str, Any]:
    """What `--runtime` may set it to; an empty default is the runtime's own."""
    words = {"default": option.default, "allowed": option.allowed, "meaning": option.meaning}
    return {**words, **({"devices": list(option.devices)} if option.devices else {})}


def _builder() -> str:
    """The package that builds engines here, without importing it."""
    from commands.engines import builders

    found = [f"{package} {version}".strip() for package, version in builders().items()]
    return " and ".join(found) or "no builder installed: pip install '.[trt]'"


def _devices(args: argparse.Namespace) -> Rows:
    from runners.environment import describe_cpu, describe_gpus

    cpu = describe_cpu()
    rows: Rows = [{"name": "cpu", "description": f"{cpu['model']}, {cpu['logical_cores']} logical cores"}]
    gpus = [
        {"name": f"cuda:{n}", "description": gpu["name"], "target": gpu["target"]}
        for n, gpu in enumerate(describe_gpus())
    ]
    return rows + gpus


LISTS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "models": _networks,
    "blocks": _blocks,
    "suites": _suites,
    "backends": _backends,
    "devices": _devices,
}


def _print_rows(rows: Rows) -> None:
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        facts = [_fact(key, value) for key, value in row.items() if key != "name" and value is not None]
        print(f"  {row['name']:<{width}}  {', '.join(filter(None, facts))}".rstrip())
        for name, option in row.get("options", {}).items():
            print(f"  {'':<{width}}    --runtime {name}: {_option_text(option)}")


def _option_text(option: dict[str, Any]) -> str:
    default = str(option["default"]).lower() or "not set"
    where = f", on {' or '.join(option['devices'])}" if "devices" in option else ""
    return f"{option['meaning']}; {option['allowed']} (default {default}){where}"


def _fact(key: str, value: object) -> str:
    units = {"params_m": "{} M parameters", "gmacs": "{} GMACs", "resolution": "at {0}x{0}"}
    if key in ("devices", "options"):
        return ""
    if key == "builder":
        return f"built by {value}"
    if key == "here":
        return "" if value == "yes" else f"not timed here: {value}"
    return units.get(key, "{}").format(value)
