"""What ``--verify`` prints and how it ends, without broker and JVM."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.ticket import encode
from processor.spark_processor import main
from processor.unread import Unread
from processor.verification import as_json, as_text
from runtime.errors import DataConflict
from runtime.settings.location import OutputLocation
from store.differences import Difference
from store.manifest import Window
from store.output import Output
from store.verify import Repeat, Report, verify
from tests.support.disks import QuickDisk
from tests.support.staging import messages, publish_batch, ticket


@pytest.fixture
def output(tmp_path: Path) -> Path:
    output = Output(OutputLocation(tmp_path / "output"), QuickDisk())
    values = [encode(ticket(0)), encode(ticket(1, priority="high")), encode(ticket(1)), b"bad"]
    publish_batch(output, None, "parquet", [[messages(values)]])
    return output.root


@pytest.fixture
def report(output: Path) -> Report:
    # The printed sizes must not depend on the version of Parquet's compression.
    found = verify(OutputLocation(output))
    return msgspec.structs.replace(
        found, output="data/output", datasets=[msgspec.structs.replace(each, bytes=4_711) for each in found.datasets]
    )


IN_ORDER = """\
data/output
commit 1, batch 1, parquet, 2026-01-31 11:00:00 UTC

dataset                     files           rows             bytes  found
tickets_with_assignment         1              3             4,711  in order
high_priority_tickets           1              1             4,711  in order
metrics                         1              1             4,711  in order
tickets_by_type                 1              4             4,711  in order
tickets_by_priority             1              4             4,711  in order
tickets_by_team                 1              4             4,711  in order
tickets_by_hour                 1              2             4,711  in order
rejected_messages               1              1             4,711  in order

3 tickets of 1 clients, 1 rejected messages

1 tickets repeat the id of another one (no difference: each is a message), such as
  3e476c38-2a7f-4d89-a08f-000000000001  2 tickets
"""


def test_an_output_in_order_is_printed_as_a_table(report: Report) -> None:
    end = "\nIn order: files, rows and counts are what the ledger says.\n"
    assert as_text(report, None, None) == IN_ORDER + end
    unread = """
unread in topic client_tickets: 12 offsets
  partition 0: 12 (from 4, the topic ends at 16)
  partition 1: 0 (from 0, the topic ends at 0)
"""
    assert as_text(report, [Unread(0, 4, 16, 12), Unread(1, 0, 0, 0)], None) == IN_ORDER + unread + end


def test_a_part_of_the_topic_is_named_and_unread_up_to_its_end(report: Report) -> None:
    window = Window("2026-01-31T09:30:00Z", "2026-02-28T09:30:00Z", {0: 16})
    part = msgspec.structs.replace(report, window=window)
    text = as_text(part, [Unread(0, 4, 16, 12)], None)
    assert text.startswith(
        "data/output\ncommit 1, batch 1, parquet, 2026-01-31 11:00:00 UTC\n"
        "topic from 2026-01-31T09:30:00Z until 2026-02-28T09:30:00Z\n\ndataset"
    )
    assert "  partition 0: 12 (from 4, this part ends at 16)\n" in text
    assert json.loads(as_json(part, [], None))["window"] == {
        "start": "2026-01-31T09:30:00Z",
        "until": "2026-02-28T09:30:00Z",
        "ends": {"0": 16},
    }
    assert json.loads(as_json(report, [], None))["window"] is None


def test_differences_are_printed_in_80_columns_up_to_a_limit(report: Report) -> None:
    differences = [
        Difference("metrics/metrics.parquet", f"is not the file {n} that was published: x") for n in range(60)
    ]
    many = msgspec.structs.replace(
        report, differences=differences, notes=["metrics holds \x1b[2Jx, which is not part of the output"]
    )
    text = as_text(many, None, "the broker is away")
    assert "  metrics/metrics.parquet: is not the file 49 that was published: x\n" in text
    assert "  and 10 more; LOG_FORMAT=json lists them all\n" in text
    assert "notes:\n  metrics holds \\u001b[2Jx, which is not part of the output\n" in text
    assert text.endswith("the broker could not be asked:\n  the broker is away\n\nNot in order.\n")
    long = msgspec.structs.replace(report, differences=[Difference("metrics", "wrong " * 30)])
    assert max(map(len, as_text(long, None, None).splitlines())) <= 82


def test_machines_get_one_line_of_json(report: Report) -> None:
    told = msgspec.structs.replace(
        report, differences=[Difference("metrics", "wrong")], commit_id="c", notes=["n"], repeats=[Repeat("i", 2)]
    )
    text = as_json(told, [Unread(0, 4, 16, 12)], None)
    assert text.count("\n") == 1
    content = json.loads(text)
    assert content.pop("datasets")[0] == {
        "dataset": "tickets_with_assignment",
        "files": 1,
        "rows": 3,
        "bytes": 4_711,
        "differences": 0,
    }
    assert content == {
        "in_order": False,
        "output": "data/output",
        "commit": 1,
        "commit_id": "c",
        "batch_id": 1,
        "updated_at": "2026-01-31T11:00:00Z",
        "format": "parquet",
        "source": {"topic": "client_tickets", "cluster_id": "cluster-1", "topic_id": "topic-1"},
        "next_offsets": {"0": 4},
        "tickets": 3,
        "unique_clients": 1,
        "rejected": 1,
        "deduped_from": None,
        "window": None,
        "repeated": 1,
        "repeats": [{"ticket_id": "i", "tickets": 2}],
        "differences": [{"where": "metrics", "what": "wrong"}],
        "notes": ["n"],
        "unread": [{"partition": 0, "next_offset": 4, "end": 16, "unread": 12}],
        "broker_error": None,
    }
    assert json.loads(as_json(report, None, None))["unread"] is None


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for key in ("LOG_FORMAT", "OUTPUT_PATH", "REDPANDA_BROKER_LOCAL"):
        monkeypatch.delenv(key, raising=False)
    return monkeypatch


def ended(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(["--verify", *argv])
    return code, *capfd.readouterr()


def test_it_ends_with_0_or_with_4_and_the_first_difference(
    output: Path, alone: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(capfd, "--output-path", str(output))
    assert (code, err) == (0, "")
    assert out.endswith("In order: files, rows and counts are what the ledger says.\n")

    (output / "metrics/metrics.parquet").write_bytes(b"x")
    alone.setenv("LOG_FORMAT", "json")
    code, out, err = ended(capfd, "--output-path", str(output))
    assert code == DataConflict.exit_code == 4
    assert json.loads(out)["in_order"] is False
    (line,) = err.splitlines()
    assert (
        f"{output} is not what its ledger says: 2 differences, the first is in metrics/metrics.parquet: has 1" in line
    )
    assert "put a backup of the whole output folder into an empty folder" in json.loads(line)["message"]


def test_a_missing_or_unreadable_output_is_an_error_in_words(
    output: Path, alone: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(capfd, "--output-path", str(output / "nowhere"))
    assert (code, out) == (2, "")
    assert f"there is no output in {output / 'nowhere'} to verify" in err
    (output / "_manifest.json").unlink()
    (output / "_manifest.json").mkdir()
    code, out, err = ended(capfd, "--output-path", str(output))
    assert (code, out) == (5, "")
    assert f"cannot read {output / '_manifest.json'}" in err


def test_a_broker_that_cannot_be_asked_is_reported_with_the_rest(
    output: Path, alone: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from runtime.errors import BrokerError

    def away(*arguments: Any) -> None:
        raise BrokerError("nothing listens on this port")

    alone.setattr("processor.verification.ask", away)
    argv = ("--output-path", str(output), "--broker", "localhost:1")
    code, out, _ = ended(capfd, *argv)
    assert code == 3
    assert "the broker could not be asked:\n  nothing listens on this port\n" in out
    shutil.rmtree(output / "metrics")
    assert ended(capfd, *argv)[0] == 4


def test_a_report_that_cannot_be_written_is_an_error_in_words(output: Path, alone: pytest.MonkeyPatch) -> None:
    reader, writer = socket.socketpair()
    reader.close()
    from processor.printed import write
    from runtime.errors import OutputUnavailable

    with writer, writer.makefile("w") as stdout:
        alone.setattr("sys.stdout", stdout)
        with pytest.raises(OutputUnavailable, match="cannot write the report to standard output: Broken pipe"):
            write("report")
