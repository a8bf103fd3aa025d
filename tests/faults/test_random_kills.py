"""Producer, processor and broker, killed at random moments for a minute; ``make chaos MINUTES=30`` takes longer."""

from pathlib import Path

import pytest

from tests.support.chaos import Chaos, new_seed

pytestmark = pytest.mark.integration


def test_a_minute_of_random_kills_loses_nothing_and_publishes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that kills also happen during merges of small files and changes of the set of known ids.
    monkeypatch.setenv("COMPACT_FILES", "4")
    chaos = Chaos(tmp_path, new_seed(), ["--dedupe", "all"], print)
    chaos.run(60)
    assert chaos.kills.keys() == {"producer", "processor", "broker"}
