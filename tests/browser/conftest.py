"""One server for all tests, a new output for each test, and pages that may send requests to that server only."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.settings.location import OutputLocation
from tests.browser.published import Published
from tests.browser.sight import WAIT_MS
from tests.support.processes import Processes, wait_for

_LACKS = "this machine lacks {}; make test-browser installs it, as root on Debian"
Open = Callable[..., Any]


def _do_without(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(_LACKS.format(what))
    pytest.skip(_LACKS.format(what))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One browser for all tests."""
    program = shutil.which("chromium")
    if program is None:
        _do_without("Chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        _do_without("playwright")
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not work for root.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Name the output that the server shows."""
    return tmp_path_factory.mktemp("browser") / "output"


@pytest.fixture(scope="session")
def address(chromium: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the dashboard as a user would start it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = Processes(tmp_path_factory.mktemp("dashboard"))
    server = processes.start("-m", "dashboard.serve", "--port", str(port), "--output-path", folder)

    def answers() -> bool:
        assert server.process.poll() is None, server.output
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_for(answers, 60, "the dashboard to listen")
    yield f"http://127.0.0.1:{port}/"
    processes.end_all()
    assert "Traceback" not in server.output, server.output


@pytest.fixture
def published(folder: Path) -> Iterator[Published]:
    """Return an output in which nothing was published yet."""
    shutil.rmtree(folder, ignore_errors=True)
    yield Published(OutputLocation(folder))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def open_page(chromium: Any, address: str) -> Iterator[Open]:
    """Open the page as a new visitor; fail afterwards if it sent a request to another host, or had an error."""
    contexts, foreign, errors = [], [], []

    def note(request: Any) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            foreign.append(request.url)

    def open_(query: str = "", **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.on("request", note)
        page.on("websocket", lambda socket: foreign.append(socket.url) if "//127.0.0.1:" not in socket.url else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"a dialog: {dialog.message}"))
        page.goto(address + query)
        page.get_by_role("heading", name="Client tickets").wait_for()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert foreign == []
    assert errors == []
