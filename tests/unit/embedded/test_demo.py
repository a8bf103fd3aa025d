"""What the demo asks of the services, and how it shows what they published."""

import argparse
import io
from pathlib import Path

import pyarrow as pa
import pytest

import processor.transformations
from contract.ticket import encode
from embedded.broker import next_steps
from embedded.demo import SETTINGS, build_parser, commands, plain_console, show
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT, resolve
from store.output import Output
from tests.support.disks import QuickDisk
from tests.support.staging import messages, publish_batch, ticket


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


@pytest.mark.parametrize("name", ["[/]", "a[red]b", ":smile:", "[link=x]y", 'a "b" \\c', "{x} 50% *"])
@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_a_path_is_shown_to_the_letter(name: str, file_format: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    publish_batch(Output(OutputLocation(folder), QuickDisk()), None, file_format, [[messages([encode(ticket())])]])
    shown = io.StringIO()

    show(OutputLocation(folder), plain_console(shown))

    text = shown.getvalue()
    assert f"The files are in {folder}:\n" in text
    quoted = str(folder / "tickets_with_assignment").replace("\\", "\\\\").replace('"', '\\"')
    reading = f'pd.read_parquet("{quoted}")' if file_format == "parquet" else f'pathlib.Path("{quoted}").glob("*.json")'
    assert reading in text


def test_a_team_is_shown_to_the_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teams = pa.array(["a", "Team [/] [red]b :smile:", "c", "d"])
    monkeypatch.setattr(processor.transformations, "_TEAMS", teams)
    location = OutputLocation(tmp_path / "output")
    publish_batch(Output(location, QuickDisk()), None, "parquet", [[messages([encode(ticket())])]])
    shown = io.StringIO()

    show(location, plain_console(shown))

    assert "\u2502 Team [/] [red]b :smile: \u2502 1" in shown.getvalue()


def test_a_person_who_started_a_broker_is_told_what_to_do_with_it() -> None:
    assert next_steps("127.0.0.1:9095", Path("/tickets/data")) == (
        "Send tickets:  .venv/bin/python producer/ticket_producer.py --broker 127.0.0.1:9095 --rate 20\n"
        "Publish them:  .venv/bin/python processor/spark_processor.py --broker 127.0.0.1:9095\n"
        f"Each in a terminal of its own, in {ROOT}. Ctrl-C ends the broker; its data stays in /tickets/data."
    )
