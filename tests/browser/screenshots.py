"""Take the screenshots of the dashboard in docs/: ``python -m tests.browser.screenshots``, after ``make test-browser``.

They show random tickets of twelve days, always the same ones except for the time of day.
"""

import math
import random
import shutil
import socket
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from contract.ticket import encode
from dashboard.config import DashboardConfig
from dashboard.serve import command, environment
from producer.sources.random import RandomTickets
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.output import Output
from store.status import StatusFile
from tests.browser.sight import WAIT_MS
from tests.support.disks import QuickDisk
from tests.support.processes import wait_for
from tests.support.staging import messages, publish_batch

_DAYS, _A_DAY = 12, 6_000
_NO_TICKETS = [b"hello", b'{"ticket_id": 7}', b"", b'{"client_id": "CLIENT_1"}']


def publish(location: OutputLocation) -> None:
    """Publish a batch for every six hours up to now."""
    output, draw, source = Output(location, QuickDisk()), random.Random(5), RandomTickets(seed=5)
    now, step, manifest = datetime.now(UTC), timedelta(hours=6), None
    for number in range(4 * _DAYS):
        end = now - step * (4 * _DAYS - 1 - number)
        moments = [end - step * draw.random() for _ in range(_A_DAY // 4)]
        values = [encode(source.draw(moment)) for moment in sorted(moments) if draw.random() < _demand(moment)]
        values += [bad for bad in _NO_TICKETS if draw.random() < 0.4]
        start = manifest.next_offsets[0] if manifest else 0
        piece = messages(values, first_offset=start)
        manifest = publish_batch(output, manifest, "parquet", [[piece]], end)
    assert manifest is not None
    StatusFile(output.root, 30.0, output.disk, lambda: datetime.now(UTC)).set("idle", None, manifest.next_offsets)


def _demand(moment: datetime) -> float:
    """Return how many tickets are sent at ``moment``: most before noon, fewer at night and at the weekend."""
    day = 0.15 + 0.85 * math.exp(-(((moment.hour + moment.minute / 60 - 11.5) / 4.5) ** 2))
    return day * (1 if moment.weekday() < 5 else 0.3)


def main() -> None:
    """Publish tickets, open the page, and write the screenshots."""
    with tempfile.TemporaryDirectory() as folder:
        location = OutputLocation(Path(folder) / "output")
        publish(location)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = DashboardConfig(location, port)
        server = subprocess.Popen(command(config), env=environment(config, {"PATH": "/usr/bin:/bin"}), cwd=ROOT)
        try:
            wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 60, "the server")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox", "--hide-scrollbars"]
                )
                address = f"http://127.0.0.1:{port}/?refresh=paused"
                urgent = f"{address}&priority=high&priority=critical&period=7+days&stack=type"
                desk, phone = {"width": 1280, "height": 1120}, {"width": 390, "height": 844}
                take(browser, f"{address}&period=7+days", "light", viewport=desk, color_scheme="light")
                take(
                    browser,
                    urgent,
                    "dark",
                    viewport=desk,
                    color_scheme="dark",
                )
                take(browser, address, "phone", viewport=phone, is_mobile=True, color_scheme="light")
                browser.close()
        finally:
            server.terminate()
            server.wait()


def take(browser: Any, address: str, name: str, **look: Any) -> None:
    """Write docs/dashboard-NAME.png: what fits into the window."""
    page = browser.new_context(**look).new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(address)
    page.get_by_text("Rejected messages").nth(1).wait_for()
    page.locator("[data-testid=stVegaLiteChart] :is(canvas, svg)").first.wait_for()
    # Charts and lists are drawn a moment after their elements exist.
    time.sleep(2)
    page.screenshot(path=ROOT / "docs" / f"dashboard-{name}.png")
    page.context.close()


if __name__ == "__main__":
    main()
