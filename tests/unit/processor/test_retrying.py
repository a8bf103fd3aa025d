"""``--retry-rejected`` and ``--list-rejected``: what they tell and how they end, without broker and JVM."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from contract.ticket import encode
from processor.config import ListRejectedConfig, RetryConfig
from processor.listing import read_reasons
from processor.retrying import run as retry
from processor.spark_processor import build_parser, main
from runtime.process.failpoint import VARIABLE
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.compact import compact, plan
from store.condition import condition
from store.datasets import REJECTED
from store.files import Disk
from store.manifest import Manifest, read_manifest
from store.output import Output
from store.status import StatusFile, read_status
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.model_run import StoppedClock
from tests.support.older_contract import UNKNOWN_PRIORITY, older_contract
from tests.support.processes import clean_environment
from tests.support.staging import UPDATED_AT, messages, publish_batch, ticket
from tests.support.time import Time


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.chdir(tmp_path)
    # No reader lists the folders meanwhile.
    monkeypatch.setattr("store.exchange.LISTING_S", 0)
    return Output(OutputLocation(tmp_path / "output"), QuickDisk(), StoppedClock())


BATCHES = (
    [encode(ticket(0)), encode(ticket(1, priority="critical")), b"\x1b[2Jbad"],
    [encode(ticket(2, priority="critical")), b'{"a": 1}'],
)


@pytest.fixture
def manifest(output: Output) -> Manifest:
    made = None
    with older_contract():
        for values in BATCHES:
            first = made.next_offsets[0] if made else 0
            made = publish_batch(output, made, "parquet", [[messages(values, first_offset=first)]])
    assert made is not None
    return made


def asked(output: Output, *argv: str) -> int:
    return main([*argv, "--output-path", str(output.root)])


def test_what_became_of_the_messages_is_told(
    output: Output, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(output, "--retry-rejected") == 0
    assert (
        "4 rejected messages were decoded again: 2 are valid now and were published, 2 are still rejected; "
        "--list-rejected shows why" in (said := capsys.readouterr().err)
    )
    assert "the old files stay for ten minutes, for readers" in said
    assert asked(output, "--retry-rejected") == 0
    assert (
        "2 rejected messages were decoded again: 0 are valid now and were published, 2 are still rejected"
        in capsys.readouterr().err
    )
    assert '"state": "stopped"' in (output.root / "_status.json").read_text()
    datasets = Published(output.root)
    datasets.require_agreement()
    assert datasets.count("tickets_with_assignment") == 3


def test_a_stopped_service_is_still_called_one_after_a_task(output: Output, manifest: Manifest) -> None:
    """Whoever forgets to start it again must not read that all is well."""
    StatusFile(output.root, 30.0, Disk(), lambda: UPDATED_AT).set("stopped", end_offsets={0: 9})
    for task in ("--retry-rejected", "--compact"):
        assert asked(output, task) == 0
        found = read_status(Disk(), output.root)
        assert found is not None
        assert condition(found, found.updated_at).words == "Processor stopped"
        assert found.end_offsets == {0: 9}


def test_for_an_unknown_reason_the_known_ones_are_told(
    output: Output, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(output, "--retry-rejected", "--reason", "priorty") == 0
    said = capsys.readouterr().err
    assert "no message that could be retried was rejected for the reason 'priorty'; the reasons are: " in said
    assert "priority: must be one of low, medium, high; missing field: " in said
    assert read_manifest(Disk(), output.root) == manifest
    assert asked(output, "--retry-rejected", "--reason", "priority") == 0
    assert "2 rejected messages were decoded again: 2 are valid now and were published, 0 are still rejected\n" in (
        capsys.readouterr().err
    )


def test_where_folders_are_not_read_the_old_ones_go_at_once(output: Output, manifest: Manifest) -> None:
    assert asked(output, "--retry-rejected") == 0
    assert (output.state / "replaced").exists()
    assert asked(output, "--retry-rejected", "--readers-stopped") == 0
    assert not (output.state / "replaced").exists()


def test_beside_a_processor_it_is_refused_and_the_list_is_not(
    output: Output, manifest: Manifest, capfd: pytest.CaptureFixture[str]
) -> None:
    with output.locked():
        assert asked(output, "--retry-rejected") == 5
        assert "another processor is writing" in capfd.readouterr().err
        assert asked(output, "--list-rejected") == 0
    assert read_manifest(Disk(), output.root) == manifest


@pytest.mark.parametrize("task", ["--retry-rejected", "--list-rejected"])
def test_where_there_is_no_output_none_is_made(output: Output, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(output, task) == 2
    assert f"there is no output in {output.root}, so no rejected message" in capsys.readouterr().err
    assert not output.root.exists()


def test_a_stop_before_the_commit_changes_nothing(
    output: Output, manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    time = Time()
    time.ask()
    retry(RetryConfig(OutputLocation(output.root)), time, StoppedClock(), QuickDisk())
    assert "stopped before anything was published; run it again" in caplog.text
    assert read_manifest(Disk(), output.root) == manifest
    assert not (output.state / "staging").exists()


def test_the_list_shows_each_reason_with_its_count_and_its_newest_message(
    output: Output, manifest: Manifest, capfd: pytest.CaptureFixture[str]
) -> None:
    assert asked(output, "--list-rejected") == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[:7] == [
        str(output.root),
        "4 messages are rejected. The newest of each reason:",
        "",
        "2 × priority: must be one of low, medium, high",
        f"  {UNKNOWN_PRIORITY}",
        "  partition 0, offset 3, received 2026-01-31 10:00:00 UTC",
        '  {"ticket_id":"3e476c38-2a7f-4d89-a08f-000000000002","client_id":"CLIENT_1","cr',
    ]
    assert "  \\u001b[2Jbad" in lines
    assert '  {"a": 1}' in lines
    assert max(map(len, lines[1:])) <= 80
    assert asked(output, "--retry-rejected", "--reason", "priority") == 0
    assert asked(output, "--list-rejected") == 0
    assert "priority: must be" not in capfd.readouterr().out


def test_the_list_is_one_json_object_for_programs(
    output: Output, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "json")
    assert asked(output, "--list-rejected") == 0
    out = capfd.readouterr().out
    assert out.count("\n") == 1
    told = json.loads(out)
    assert {key: told[key] for key in ("output", "commit", "commit_id", "rejected")} == {
        "output": str(output.root),
        "commit": 2,
        "commit_id": manifest.commit_id,
        "rejected": 4,
    }
    assert {name: told["reasons"][0][name] for name in ("reason", "messages", "offset")} == {
        "reason": "priority: must be one of low, medium, high",
        "messages": 2,
        "offset": 3,
    }
    assert set(told["reasons"][0]) == {
        "reason",
        "messages",
        "in_full",
        "example",
        "partition",
        "offset",
        "received_at",
    }


def test_an_output_without_rejected_messages_says_so(output: Output, capfd: pytest.CaptureFixture[str]) -> None:
    publish_batch(output, None, "parquet", [[messages([encode(ticket(0))])]])
    assert asked(output, "--list-rejected") == 0
    assert capfd.readouterr().out == f"{output.root}\nNo message is rejected.\n"


def test_files_that_go_while_the_list_is_made_are_looked_for_anew(output: Output, manifest: Manifest) -> None:
    class Compacting(QuickDisk):
        def open(self, path: Path) -> object:  # type: ignore[override]
            if path.parent.name == REJECTED.name and not merged:
                done = compact(output, manifest, plan(manifest.contents, 1), UPDATED_AT)
                assert isinstance(done, Manifest)
                merged.append(done)
            return super().open(path)

    merged: list[Manifest] = []
    found, reasons = read_reasons(OutputLocation(output.root), Compacting())
    assert found == merged[0]
    assert sum(reason.messages for reason in reasons) == 4


@pytest.mark.parametrize(
    ("point", "is_done"),
    [
        ("staged", False),
        ("committed", True),
        ("between-renames", True),
        ("exchanged", True),
        ("before-manifest", True),
    ],
)
def test_killed_at_any_point_it_is_done_or_not_and_a_second_run_finds_the_rest(
    output: Output, manifest: Manifest, point: str, is_done: bool
) -> None:
    command = [sys.executable, "processor/spark_processor.py", "--retry-rejected", "--output-path", str(output.root)]
    killed = subprocess.run(
        command, cwd=ROOT, env=clean_environment({VARIABLE: point}), check=False, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL
    assert read_manifest(Disk(), output.root) == manifest

    again = subprocess.run(command, cwd=ROOT, env=clean_environment(), check=True, capture_output=True, text=True)
    assert ("finishing retry 3, which an earlier run had decided" in again.stderr) == is_done
    assert ("0 are valid now" if is_done else "2 are valid now") in again.stderr
    datasets = Published(output.root)
    datasets.require_agreement()
    assert datasets.rows("SELECT ticket_id[-1] FROM tickets_with_assignment") == [("0",), ("1",), ("2",)]
    assert datasets.rows('SELECT "offset" FROM rejected_messages') == [(2,), (4,)]


def test_settings_that_they_do_not_need_are_not_asked_for(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("OUTPUT_PATH=/o\nLOG_LEVEL=DEBUG\nKAFKA_SECURITY_PROTOCOL=SASL_SSL\n")
    flags = build_parser().parse_args(["--retry-rejected", "--reason", "priority", "--readers-stopped"])
    assert RetryConfig.from_sources(flags, {"LOG_FORMAT": "json"}, env_file) == RetryConfig(
        OutputLocation(Path("/o")), "priority", True, "DEBUG", "json"
    )
    flags = build_parser().parse_args(["--list-rejected"])
    assert ListRejectedConfig.from_sources(flags, {}, env_file) == ListRejectedConfig(
        OutputLocation(Path("/o")), "DEBUG", "text"
    )
