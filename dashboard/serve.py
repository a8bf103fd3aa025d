"""Entry point of the dashboard: ``python -m dashboard.serve --help``.

It checks the settings, then becomes Streamlit's server, which runs ``dashboard/page.py`` for each visitor.
"""

import argparse
import os
import socket
import sys
from collections.abc import Mapping, Sequence

from runtime.process.interpreter import ROOT, prepare

if __name__ == "__main__":
    prepare("-m dashboard.serve", "dashboard", setup="make dashboard")

from dashboard.config import SETTINGS, DashboardConfig
from runtime.errors import SettingError
from runtime.process import entry
from runtime.settings.setting import add_flags, parse_flags

# Send nothing out of this machine, show no source code or traceback, and offer no export except that of
# dashboard/spreadsheet.py, which is harmless to spreadsheets.
_OPTIONS = {
    "browser.gatherUsageStats": "false",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "server.enableStaticServing": "false",
    "server.disconnectedSessionTTL": "30",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.disableDataExport": "true",
    "global.developmentMode": "false",
    "logger.hideWelcomeMessage": "true",
    "logger.level": "warning",
    "theme.light.primaryColor": "#0072B2",
    "theme.dark.primaryColor": "#56B4E9",
    "theme.light.backgroundColor": "#FFFFFF",
    "theme.light.secondaryBackgroundColor": "#F5F7FA",
    "theme.dark.backgroundColor": "#0F141B",
    "theme.dark.secondaryBackgroundColor": "#182029",
    "theme.baseRadius": "medium",
}


def command(config: DashboardConfig) -> list[str]:
    """Return the command line of the server."""
    options = {**_OPTIONS, "server.port": str(config.port), "server.address": config.address}
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard" / "page.py"), *flags]


def environment(config: DashboardConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the server, without settings of Streamlit that are meant for other pages."""
    own = {key: value for key, value in environ.items() if not key.startswith("STREAMLIT_")}
    return {**own, "PYTHONPATH": str(ROOT), "OUTPUT_PATH": str(config.output)}


def require_free_port(config: DashboardConfig) -> None:
    """Raise SettingError if the address and port cannot be listened on."""
    try:
        family = socket.getaddrinfo(config.address, config.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.address, config.port))
    except OSError as error:
        raise SettingError(
            f"port {config.port} on {config.address} cannot be used ({error.strerror}); stop what listens there or "
            "choose another --port"
        ) from None


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dashboard.serve",
        description="Show an output on a page in the browser, until SIGTERM or SIGINT.",
        epilog="Order: command line > environment > .env > default.",
        allow_abbrev=False,
    )
    add_flags(parser, SETTINGS.values())
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Replace this process by the server; return the exit code if that fails."""
    flags = parse_flags(build_parser(), argv)

    def body() -> None:
        config = DashboardConfig.from_sources(flags, os.environ)
        require_free_port(config)
        sys.stderr.write(
            f"dashboard of {config.output} on http://{_shown(config.address)}:{config.port}; Ctrl-C ends it\n"
        )
        sys.stderr.flush()
        os.execve(sys.executable, command(config), environment(config, os.environ))

    return entry.run(body)


def _shown(address: str) -> str:
    if address in ("127.0.0.1", "0.0.0.0", "::", "::1"):
        return "localhost"
    return f"[{address}]" if ":" in address else address


if __name__ == "__main__":
    raise SystemExit(main())
