"""The settings of the dashboard: one frozen value, checked when it is built."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.settings import catalogue, parsers
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ENV_FILE, Setting, resolve

ADDRESS = Setting(
    None, "127.0.0.1", parsers.address, "address to listen on; who can reach it can read every ticket", "--address"
)

SETTINGS: dict[str, Setting] = {
    "port": catalogue.DASHBOARD_PORT,
    "output": catalogue.OUTPUT_PATH,
    "address": ADDRESS,
}


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """The output to show, and the address and port to listen on."""

    output: OutputLocation
    port: int = catalogue.DASHBOARD_PORT.default
    address: str = ADDRESS.default

    @classmethod
    def from_sources(
        cls, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE
    ) -> "DashboardConfig":
        """Resolve command line, environment and ``.env``. Raises SettingError."""
        catalogue.refuse_typos(env_file)
        return cls(**resolve(SETTINGS, flags, environ, env_file))
