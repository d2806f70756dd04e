"""Measuring on another device: one job and result format, carried and run by one driver per kind of device.

Importing this package imports no driver. A driver of another package is an entry point of the group
`deploybench.drivers` that names a DriverInfo.
"""

from __future__ import annotations

DRIVERS: dict[str, str] = {
    "iphone": "device_agents.drivers:IPHONE",
    "coremltools": "device_agents.drivers:COREMLTOOLS",
    "mac": "device_agents.drivers:MAC",
    "xcode-report": "device_agents.drivers:XCODE_REPORT",
    "local": "device_agents.drivers:LOCAL",
    "simulated": "device_agents.drivers:SIMULATED",
}
