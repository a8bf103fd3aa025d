"""The stand-in for Redpanda, under the very tag that docker-compose.yml names."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from runtime.java import jars
from runtime.settings.setting import ROOT
from tests.compose.shell import run

_PARTS = Path(__file__).parent / "redpanda_stand_in"


def redpanda_tag() -> str:
    """Return the image of the broker in docker-compose.yml."""
    found = re.search(r"image: (\S*/redpanda:\S+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert found, "docker-compose.yml names no image of Redpanda"
    return found[1]


def build_stand_in(daemon: Mapping[str, str]) -> None:
    """Give the daemon an image with Redpanda's tag that holds Apache Kafka."""
    wanted = [jar for jar in jars.read_lock() if jar.group == "broker"]
    jars.download(wanted, jars.cache_folder())
    with tempfile.TemporaryDirectory(prefix="client-tickets-stand-in-") as folder:
        context = Path(folder)
        shutil.copytree(_PARTS, context, dirs_exist_ok=True)
        shutil.copy(ROOT / "embedded/log4j2.properties", context)
        (context / "jars").mkdir()
        for path in jars.broker_jars():
            shutil.copy(path, context / "jars")
        run("docker", "build", "-t", redpanda_tag(), context, extra=daemon)
