"""One launch of the agent on this machine: `python -m device_agents.agent_process ENGINE MAILBOX`."""

from __future__ import annotations

import sys
from pathlib import Path
from pkgutil import resolve_name

from device_agents import app

ENGINES = {
    "local": "device_agents.local_engine:LocalEngine",
    "mac": "device_agents.mac_engine:MacEngine",
    "simulated": "device_agents.simulated_engine:SimulatedEngine",
}


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in ENGINES:
        print(f"usage: agent_process {'|'.join(ENGINES)} MAILBOX", file=sys.stderr)
        return 2
    app.start(Path(arguments[1]), resolve_name(ENGINES[arguments[0]])())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
