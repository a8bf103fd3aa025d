"""Fixtures of every tier: a real broker for the session, a fresh topic and real processes for a test."""

import logging
import os
import re
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from embedded.broker import EmbeddedBroker
from tests.support.processes import Processes

# The fastest first: what is wrong shows early.
TIERS = ("unit", "integration", "faults", "compose", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by tier."""
    items.sort(key=lambda item: TIERS.index(item.path.relative_to(Path(__file__).parent).parts[0]))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Take away what an entry point that ran inside a test has set up; its stream ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("kafka", "py4j", "faker"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """One real broker for all tests; a test that harms its broker starts its own."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """Name a topic that no other test uses; it is not created."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:60]
    return f"{readable}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Start processes that end with the test."""
    started = Processes(tmp_path / "processes")
    yield started
    started.end_all()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turn a skip into a failure unless its reason begins with "this machine lacks"."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        _, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
        if not reason.removeprefix("Skipped: ").startswith("this machine lacks"):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, and the reason names nothing that the machine lacks: {reason}"
    return report
