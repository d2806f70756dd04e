"""The architecture, read from the code: data moves one way, heavy libraries stay out of planning."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "converters", "runners", "device_agents", "reports", "commands")

# What each package may import from this project: whole packages, or single modules.
ALLOWED = {
    "models": (),
    "converters": ("models",),
    "runners": ("converters.artifact", "models.spec", "models.tables"),
    "device_agents": ("converters.artifact", "models.spec", "models.tables", "runners"),
    "reports": (
        *("converters.artifact", "models.spec", "runners.measurement"),
        *("device_agents.bodies", "device_agents.forms", "device_agents.job"),
        *("device_agents.modelbench", "device_agents.placement"),
    ),
    "commands": ("bench", "models", "converters", "runners", "device_agents", "reports"),
}

HEAVY = ("torch", "timm", "onnx", "onnxruntime", "openvino", "pandas", "matplotlib", "plotly", "scipy.stats")


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_table(package):
    allowed = (package, *ALLOWED[package])
    for path in sources(package):
        for name in imports(path):
            if name.split(".")[0] in (*PACKAGES, "bench"):
                inside = any(name == module or name.startswith(f"{module}.") for module in allowed)
                assert inside, f"{path.relative_to(ROOT)} imports {name}"


def test_every_package_is_in_the_table():
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == set(PACKAGES) == set(ALLOWED)


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package):
    code = f"import sys, {package}; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "argv",
    [["--suite", "blocks", "--dry-run"], ["list"], ["list", "models", "--timm"], ["doctor"]],
    ids=lambda argv: " ".join(argv),
)
def test_planning_and_listing_load_nothing_heavy(argv):
    code = (
        f"import sys, bench; bench.main({argv!r});"
        f"print([n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_no_file_is_named_like_a_dependency():
    names = {path.stem for package in PACKAGES for path in sources(package)}
    assert not names & {"torch", "timm", "onnx", "onnxruntime", "openvino", "pandas", "plotly", "rich"}


def test_every_table_line_resolves():
    from pkgutil import resolve_name

    from commands import VERBS
    from converters import CONVERTERS
    from device_agents import DRIVERS
    from device_agents.drivers import DriverInfo
    from models import MODELS
    from runners import RUNNERS

    for table in (MODELS, CONVERTERS, RUNNERS):
        for name, place in table.items():
            assert callable(resolve_name(place)), name
    for name, (place, _) in VERBS.items():
        assert callable(resolve_name(place).execute), name
    for name, place in DRIVERS.items():
        driver = resolve_name(place)
        assert isinstance(driver, DriverInfo)
        assert driver.name == name


def test_the_wheel_holds_every_package():
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(PACKAGES) <= set(listed)
