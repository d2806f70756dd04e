"""Fixtures of the reports' tests: synthetic runs, and stores in a temporary folder."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from reports.records import RunInfo, StoredRun
from reports.store import Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


def _load(name: str) -> ModuleType:
    """A helper module beside this file: test folders are no packages."""
    spec = importlib.util.spec_from_file_location(f"reports_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sample() -> ModuleType:
    """The builders of sample_run.py."""
    return _load("sample_run")


@pytest.fixture(scope="session")
def evaluated() -> ModuleType:
    """The builder of evaluated.py."""
    return _load("evaluated")


@pytest.fixture(scope="session")
def blocks_run(sample: ModuleType) -> StoredRun:
    return sample.blocks_run()


@pytest.fixture(scope="session")
def networks_run(sample: ModuleType) -> StoredRun:
    return sample.networks_run()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "bench.db", clock_ns=lambda: 1_700_000_000_000_000_000) as opened:
        yield opened


@pytest.fixture
def begin(sample: ModuleType) -> Callable[..., RunInfo]:
    """Begin a run of two block cases, or of the cases given."""

    def begin_run(store: Store, *, cases=None, suite: str = "blocks", plan_digest: str = "plan") -> RunInfo:
        planned = cases or [sample.block_case(name, 14, 384) for name in ("block/ncb", "block/ntb")]
        return store.begin_run(
            suite=suite, plan_digest=plan_digest, seed=7, command="python bench.py --suite blocks",
            config={"timing": {"target": 0.01}}, environment=sample.ENVIRONMENT, cases=planned,
        )  # fmt: skip

    return begin_run


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def fits() -> Callable[[Any, int], None]:
    """Asserts that a page of that width needs no scrolling sideways."""

    def assert_fits(page: Any, width: int) -> None:
        for _ in range(50):  # charts follow a new width a moment later
            inside, needed = page.evaluate(
                "[document.documentElement.clientWidth, document.documentElement.scrollWidth]"
            )
            if needed <= inside:
                break
            page.wait_for_timeout(100)
        assert needed <= inside == width

    return assert_fits
