"""The synthetic part of the validation: `python -m tests.validation.synthetic`, on all cores, in minutes.

Every section goes through the real runner, loop, schedule, stopping rule and statistics, on virtual clocks.
Writes docs/results/validation/*.json and docs/validation.md, or, with `--check`, nothing. Exit code 1 where a
bar is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

from tests.validation import coverage, document, gate_rates, sabotage, tails, verdict_rates

COMMAND = "python -m tests.validation.synthetic"
REPETITIONS, MOVING, COMPARISONS, SUITES, GATES = 2000, 200, 1000, 100, 4000

Make = Callable[[], document.Section]


def sections(scale: float, *, command: str, processes: int | None) -> dict[str, Make]:
    """The sections by name; `scale` is the share of the repetitions that the document's tables rest on."""

    def of(count: int) -> int:
        return max(1, round(scale * count))

    options = {"command": command, "processes": processes}
    return {
        "coverage": partial(coverage.stationary, of(REPETITIONS), **options),
        "disturbed": partial(coverage.moving, of(MOVING), **options),
        "same_artifact": partial(verdict_rates.same_artifact, of(COMPARISONS), **options),
        "power": partial(verdict_rates.power, of(COMPARISONS), **options),
        "family": partial(verdict_rates.family, of(SUITES), **options),
        "gate": partial(gate_rates.section, of(GATES), **options),
        "tails": partial(tails.section, of(COMPARISONS // 2), **options),
        "sabotage": partial(sabotage.section, command=command),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the repetitions")
    parser.add_argument("--sections", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--processes", type=int, help="worker processes; as many as cores")
    parser.add_argument("--check", action="store_true", help="print, write nothing")
    args = parser.parse_args(argv)
    available = sections(args.scale, command=COMMAND, processes=args.processes)
    if unknown := set(args.sections or ()) - set(available):
        parser.error(f"no section '{sorted(unknown)[0]}'; known: {', '.join(available)}")
    missed = 0
    for name in args.sections or available:
        section = available[name]()
        print(document.render_section(section), flush=True)
        missed += len(section.missed)
        if not args.check:
            document.store(section)
    if not args.check:
        document.main()
    print(f"{missed} bars missed" if missed else "every bar is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
