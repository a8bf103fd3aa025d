"""What ``--status`` prints and how it ends, without broker and JVM."""

import json
import os
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.ticket import encode
from processor.lag import Lag
from processor.spark_processor import main
from processor.status import Asked, as_json, as_text, published_in
from runtime.settings.location import OutputLocation
from store.files import Disk
from store.manifest import Window
from store.output import Output
from store.reader import read_current
from store.status import Progress, Status, StatusFile
from tests.support.disks import QuickDisk
from tests.support.staging import messages, publish_batch, ticket

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
AT_WORK = Status(
    "reading", NOON - timedelta(seconds=4), NOON, 30.0, "host", 7, {0: 10}, Progress(2, 250_000, 1_000_000)
)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of one batch: two tickets of one client, of which one is urgent, and three rejected messages."""
    output = Output(OutputLocation(tmp_path_factory.mktemp("status") / "output"), QuickDisk())
    bad = [b"bad", b"[1]", b"worse"]
    publish_batch(output, None, "parquet", [[messages([encode(ticket(0)), encode(ticket(1, priority="high")), *bad])]])
    return output.root


def tell(output: Path, status: Status | None = AT_WORK, beat_s: float | None = None, asked: Asked | None = None) -> str:
    published = read_current(OutputLocation(output), published_in)
    assert published is not None
    published = msgspec.structs.replace(published, batch_at=NOON - timedelta(minutes=3, seconds=20))
    return as_text("data/output", published, status, beat_s, asked or Asked({0: Lag(5, 1_500), 1: Lag(3, 3)}), NOON)


def test_the_table_says_what_is_published_how_old_it_is_and_what_is_unread(output: Path) -> None:
    lines = tell(output, beat_s=12.7).splitlines()
    assert lines[:6] == [
        "data/output",
        "Reading a batch. Batch 2: 250,000 of 1,000,000 messages read.",
        "Its heartbeat is 12 s old.",
        "Last batch: 1, 3 min 20 s ago (11:56:40 UTC).",
        "",
        "dataset                     files           rows             bytes  parquet",
    ]
    sizes = [line.split() for line in lines[6:14]]
    assert [(name, files, rows) for name, files, rows, _ in sizes] == [
        ("tickets_with_assignment", "1", "2"),
        ("high_priority_tickets", "1", "1"),
        ("metrics", "1", "1"),
        ("tickets_by_type", "1", "4"),
        ("tickets_by_priority", "1", "4"),
        ("tickets_by_team", "1", "4"),
        ("tickets_by_hour", "1", "2"),
        ("rejected_messages", "1", "3"),
    ]
    for name, _, _, size in sizes:
        (file,) = (output / name).iterdir()
        assert int(size.replace(",", "")) == file.stat().st_size, name
    assert lines[14:] == [
        "",
        "2 tickets of 1 client, 3 rejected messages",
        "  2 × not JSON: JSON is malformed: invalid character",
        "  1 × not a JSON object",
        "",
        "Lag in topic client_tickets: 1,495",
        "  partition        next offset      end offset             lag",
        "  0                          5           1,500           1,495",
        "  1                          3               3               0",
    ]


def test_an_output_of_a_part_of_the_topic_says_which(output: Path) -> None:
    published = read_current(OutputLocation(output), published_in)
    assert published is not None
    window = Window("2026-01-31T09:30:00Z", "2026-02-28T09:30:00Z", {0: 9})
    part = msgspec.structs.replace(published, manifest=msgspec.structs.replace(published.manifest, window=window))
    asked = Asked({0: Lag(5, 9)})
    assert (
        "\nThis output holds the topic from 2026-01-31T09:30:00Z until\n  2026-02-28T09:30:00Z.\n"
        "Lag in topic client_tickets: 4\n"
    ) in as_text("data/output", part, AT_WORK, None, asked, NOON)
    told: dict[str, Any] = json.loads(as_json("data/output", part, AT_WORK, None, asked, NOON))
    assert told["window"] == {"start": "2026-01-31T09:30:00Z", "until": "2026-02-28T09:30:00Z"}


def test_without_a_broker_lag_is_unknown_and_it_is_said_why_and_what_was_known(output: Path) -> None:
    text = tell(output, asked=Asked(None, "broker localhost:9: refused"))
    assert text.endswith(
        "Lag in topic client_tickets: unknown\n"
        "  broker localhost:9: refused\n"
        "  When the processor looked last, at 12:00:00 UTC or before, it was 5.\n"
    )


def test_a_processor_that_gives_no_sign_of_life_is_gone_whatever_it_said_last(output: Path) -> None:
    silent = msgspec.structs.replace(AT_WORK, updated_at=NOON - timedelta(hours=2))
    gone = "Processor gone. No status from it for 2 h. The last one was: reading a batch.\n  Start it again.\n"
    assert gone in tell(output, silent)
    assert gone not in tell(output, silent, beat_s=3.0)
    assert "Processor unknown. " in tell(output, None)


def test_as_json_it_is_one_object_on_one_line(output: Path) -> None:
    published = read_current(OutputLocation(output), published_in)
    text = as_json("data/output", published, AT_WORK, None, Asked({0: Lag(5, 1_500)}), NOON)
    assert text.count("\n") == 1
    told: dict[str, Any] = json.loads(text)
    assert told["processor"] == {
        "condition": "good",
        "says": "Reading a batch",
        "detail": "Batch 2: 250,000 of 1,000,000 messages read.",
        "heartbeat_age_s": None,
        "state": "reading",
        "since": "2026-01-31T11:59:56Z",
        "updated_at": "2026-01-31T12:00:00Z",
        "interval_s": 30.0,
        "host": "host",
        "pid": 7,
        "end_offsets": {"0": 10},
        "progress": {"batch_id": 2, "messages": 250000, "of": 1000000},
    }
    assert (told["batch_id"], told["commit"], told["tickets"], told["unique_clients"]) == (1, 1, 2, 1)
    assert (told["rejected"], sum(told["reasons"].values()), told["reasons"]["not a JSON object"]) == (3, 3, 1)
    assert told["datasets"]["high_priority_tickets"]["rows"] == 1
    assert told["partitions"] == [{"partition": 0, "next_offset": 5, "end_offset": 1500, "lag": 1495}]
    assert (told["lag"], told["lag_problem"], told["lag_at_last_look"]) == (1495, None, 5)

    nothing: dict[str, Any] = json.loads(as_json("o", None, None, None, Asked(None, "nothing was read yet"), NOON))
    assert nothing.keys() == told.keys()
    assert nothing["processor"].keys() == told["processor"].keys()
    assert (nothing["lag"], nothing["batch_id"], nothing["lag_problem"]) == (None, None, "nothing was read yet")


def test_a_broker_that_does_not_answer_takes_seconds_and_no_exit_code(
    output: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "json")
    monkeypatch.setattr("processor.status._BROKER_S", 0.3)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert main(["--status", "--output-path", str(output), "--broker", f"127.0.0.1:{port}"]) == 0
    assert time.monotonic() - began < 5
    printed = capfd.readouterr()
    told = json.loads(printed.out)
    assert (told["lag"], told["partitions"], told["tickets"]) == (None, None, 2)
    assert told["lag_problem"].startswith(f"broker 127.0.0.1:{port}: it accepted the connection but did not answer")
    assert printed.err == ""


def test_before_the_first_batch_a_processor_at_work_is_a_status_and_nothing_at_all_is_a_wrong_path(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--status", "--output-path", str(tmp_path)]) == 2
    assert f"there is no output in {tmp_path}" in capfd.readouterr().err

    StatusFile(tmp_path, 30, Disk(), lambda: datetime.now(UTC)).set("waiting for broker")
    beat = tmp_path / "heartbeat"
    beat.touch()
    os.utime(beat, (time.time() - 90, time.time() - 90))
    monkeypatch.setenv("HEARTBEAT_FILE", str(beat))
    assert main(["--status", "--output-path", str(tmp_path)]) == 0
    assert capfd.readouterr().out == (
        f"{tmp_path}\n"
        "Waiting for the broker. For 0 s. It goes on by itself once the broker answers.\n"
        "Its heartbeat is 1 min 30 s old.\n"
        "Nothing is published yet.\n"
    )
