"""The flags that the demo passes to the services, and how it shows the results."""

import argparse
import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contract.routing import Routing, Rule
from contract.ticket import Ticket, encode
from embedded import results
from embedded.broker import next_steps
from embedded.demo import SETTINGS, Steps, build_parser, commands, flags_again, plain_console, show
from runtime.process.clock import Clock
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT, resolve
from store.output import Output
from tests.support import documents
from tests.support.disks import QuickDisk
from tests.support.staging import messages, publish_batch, ticket

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def asked(*argv: str, **environ: str) -> tuple[str, str]:
    flags: argparse.Namespace = build_parser().parse_args(["--output-path", "/o", *argv])
    made = commands(resolve(SETTINGS, flags, environ, Path("/nowhere/.env")), flags.output_format)
    return " ".join(made["producer"]), " ".join(made["processor"])


def test_the_flags_of_the_demo_reach_the_services() -> None:
    assert asked() == (
        "producer/ticket_producer.py --count 2000 --rate 0.0",
        "processor/spark_processor.py --output-path /o --master local[*] --interval 0",
    )
    assert asked("--count", "5", "--rate", "20", "--output-format", "json") == (
        "producer/ticket_producer.py --count 5 --rate 20.0",
        "processor/spark_processor.py --output-path /o --master local[*] --interval 0 --output-format json",
    )


def test_a_format_of_the_environment_is_left_to_the_processor_which_says_where_it_comes_from() -> None:
    assert "--output-format" not in asked(OUTPUT_FORMAT="json")[1]


def shown(folder: Path, **environ: str) -> str:
    """Return what the demo prints about the output in ``folder``."""
    flags = build_parser().parse_args(["--output-path", str(folder), "--data-dir", str(folder / "broker")])
    written = io.StringIO()
    show(resolve(SETTINGS, flags, {}, Path("/nowhere/.env")), plain_console(environ, written))
    return written.getvalue()


def publish(folder: Path, file_format: str, *tickets: Ticket) -> None:
    output = Output(OutputLocation(folder), QuickDisk())
    publish_batch(output, None, file_format, [[messages([encode(one) for one in tickets])]])


@pytest.mark.parametrize("name", ["[/]", "a[red]b", ":smile:", "[link=x]y", 'a "b" \\c', "{x} 50% *"])
@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_a_path_is_shown_unchanged(name: str, file_format: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    publish(folder, file_format, ticket())
    text = shown(folder)
    assert f"The files are in {folder}\n" in text
    quoted = str(folder / "tickets_with_assignment").replace("\\", "\\\\").replace('"', '\\"')
    reading = f'pd.read_parquet("{quoted}")' if file_format == "parquet" else f'pathlib.Path("{quoted}").glob("*.json")'
    assert reading in text


def test_a_team_is_shown_unchanged(tmp_path: Path) -> None:
    output = Output(OutputLocation(tmp_path / "output"), QuickDisk())
    routing = Routing((Rule("[/] [red]b :smile:"),))
    publish_batch(output, None, "parquet", [[messages([encode(ticket())])]], routing=routing)
    assert "  [/] [red]b :smile:  1  100 %  ███" in shown(tmp_path / "output")


@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_the_five_newest_of_the_high_priority_tickets_are_shown(file_format: str, tmp_path: Path) -> None:
    tickets = [
        ticket(n, priority="high" if n % 2 else "critical", request=f"number {n}", created_at=NOON - n * MINUTE)
        for n in range(1, 8)
    ]
    publish(tmp_path / "output", file_format, *tickets, ticket(9, request="not urgent", created_at=NOON))
    lines = shown(tmp_path / "output").splitlines()
    assert [line for line in lines if "number " in line] == [f"    number {n}" for n in (1, 2, 3, 4, 5)]
    assert "High-priority tickets, 5 of 7" in lines
    assert "  critical  billing    2026-01-31 11:58 UTC  CLIENT_1" in lines
    assert not [line for line in lines if "not urgent" in line]


def test_the_sample_in_the_documents_is_what_is_printed(tmp_path: Path) -> None:
    (sample,) = (
        code for code in documents.code_blocks(documents.read("docs/services.md"), "text") if "Published" in code
    )
    publish(tmp_path / "output", "parquet", ticket(priority="high"))

    def labels(text: str) -> list[str]:
        return re.findall(r"^(?:  )?[A-Za-z][\w ]+?(?=  |[:,/]|$)", text, re.MULTILINE)

    printed = labels(shown(tmp_path / "output").replace(str(tmp_path / "output"), "data/output"))
    assert len(labels(sample)) == 28
    assert [label for label in labels(sample) if label not in printed] == []
    steps = [
        results.query(".venv/bin/python", Path("data/output/tickets_with_assignment"), "parquet"),
        "make dashboard",
        *results.faster(0, 10, []),
    ]
    assert [line for line in steps if f"  {line}\n" not in sample] == []


def test_without_a_terminal_all_of_it_is_plain_text_on_80_columns(tmp_path: Path) -> None:
    publish(tmp_path / "output", "parquet", ticket(priority="high", request="\x1b[31m" + 300 * "long "))
    text = shown(tmp_path / "output")
    assert "\x1b" not in text
    headings = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert [line.split(" /")[0] for line in headings] == [
        "Published so far",
        "By type",
        "By priority",
        "By team",
        "High-priority tickets, 1 of 1",
        "The files are in",
        "Try next",
    ]
    commands_and_folder = [line for line in text.splitlines() if str(tmp_path) in line]
    assert len(commands_and_folder) == 4
    assert max(len(line) for line in text.splitlines() if line not in commands_and_folder) <= 80


def test_a_terminal_gets_colours_and_with_no_color_nothing_but_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "output", "parquet", ticket())
    # With this, rich takes any stream for a terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[1mPublished so far\x1b[0m\n" in shown(tmp_path / "output")
    assert "\x1b" not in shown(tmp_path / "output", NO_COLOR="1")
    assert "\x1b" in shown(tmp_path / "output", NO_COLOR="")


def test_the_flags_that_find_the_same_folders_again_are_those_that_are_not_the_default() -> None:
    values = {"output": OutputLocation(ROOT / "data/output"), "data_dir": ROOT / "data/broker"}
    assert flags_again(values) == {"dashboard": [], "demo": []}
    values = {"output": OutputLocation(Path("/o")), "data_dir": Path("/b")}
    assert flags_again(values) == {
        "dashboard": ["--output-path", "/o"],
        "demo": ["--output-path", "/o", "--data-dir", "/b"],
    }


class Time(Clock):
    def __init__(self) -> None:
        self.passed = 0.0

    def seconds(self) -> float:
        return self.passed


def test_each_step_says_what_it_is_and_how_long_it_took() -> None:
    written, time = io.StringIO(), Time()
    steps = Steps(plain_console({}, written), time, 2)
    steps.begin("broker", "starting")
    time.passed = 2.94
    steps.end("broker", "ready")
    steps.begin("producer", "python x")
    time.passed = 4.0
    steps.end("producer", "done")
    steps.end_all()
    assert written.getvalue() == (
        "1/2 broker    starting\n    broker    ready after 2.9 s\n2/2 producer  python x\n"
        "    producer  done after 1.1 s\nAll of it took 4.0 s.\n"
    )


def test_a_person_who_started_a_broker_is_told_what_to_do_with_it() -> None:
    assert next_steps("127.0.0.1:9095", Path("/tickets/data")) == (
        "Send tickets:  .venv/bin/python producer/ticket_producer.py --broker 127.0.0.1:9095 --rate 20\n"
        "Publish them:  .venv/bin/python processor/spark_processor.py --broker 127.0.0.1:9095\n"
        f"Each in a terminal of its own, in {ROOT}. Ctrl-C ends the broker; its data stays in /tickets/data."
    )
