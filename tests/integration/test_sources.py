"""Real producers that send real tickets: files, a MariaDB and an HTTP API, to a real broker."""

import csv
import json
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.ticket import Ticket, decode
from embedded.broker import EmbeddedBroker
from runtime.settings.setting import ROOT
from tests.support import documents, helpdesk_api, scrape, topics
from tests.support.listeners import free_ports
from tests.support.mariadb import PASSWORD, MariaDb
from tests.support.processes import Processes, Running, wait_for

pytestmark = pytest.mark.integration

PRODUCER = "producer/ticket_producer.py"
EXPORTS = ROOT / "tests" / "golden" / "exports"


class Pipe:
    """A topic, and producers that send a source to it."""

    def __init__(self, broker: EmbeddedBroker, topic: str, processes: Processes, folder: Path) -> None:
        self.broker, self.topic, self.processes, self.folder = broker, topic, processes, folder
        self.state = folder / "state"

    def flags(self, source: object, *flags: str) -> list[str]:
        where = ["--broker", self.broker.address, "--topic", self.topic, "--source-state", str(self.state)]
        return [PRODUCER, *where, "--source", str(source), *flags]

    def send(self, source: object, *flags: str, expect: int = 0) -> Running:
        return self.processes.run(*self.flags(source, *flags), expect=expect)

    def start(self, source: object, *flags: str) -> Running:
        return self.processes.start(*self.flags(source, *flags))

    def tickets(self) -> list[Ticket]:
        """Return what the topic holds, in the order of the rows as far as one client wrote them."""
        return [decode(message.value) for message in topics.read(self.broker.address, self.topic)]

    def requests(self) -> Counter[str]:
        """Count the texts in the topic."""
        if self.topic not in topics.names(self.broker.address):
            return Counter()
        return Counter(ticket.request for ticket in self.tickets())

    def noted(self, name: str) -> dict[str, Any]:
        """Return the state of a source."""
        return json.loads((self.state / f"{name}.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture
def pipe(broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path) -> Pipe:
    return Pipe(broker, topic, processes, tmp_path)


def short(ticket: Ticket) -> tuple[str, ...]:
    moment = ticket.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return ticket.client_id, moment, ticket.request, ticket.request_type, ticket.priority


def test_exports_of_four_helpdesks_become_tickets(pipe: Pipe) -> None:
    zendesk = pipe.send(
        EXPORTS / "zendesk.csv",
        *("--map=ticket_id=ID", "--map=client_id=Requester email", "--map=created_at=Created at"),
        *("--map=request=Description", "--map=request_type=Type", "--map=priority=Priority"),
        *("--value=request_type:Facturation=billing", "--value=request_type:problem=technical"),
        *("--value=request_type:Question=general", "--value=priority:Normal=medium"),
        *("--value=priority:Urgent=critical", "--default=priority=low"),
    )
    jira = pipe.send(
        EXPORTS / "jira.csv",
        *("--map=ticket_id=Issue key", "--map=client_id=Reporter", "--map=created_at=Created"),
        *("--map=request=Summary", "--map=request_type=Issue Type", "--value=priority:Highest=critical"),
        *("--map=priority=Priority", "--value=request_type:Bug=technical"),
        *("--value=request_type:Account request=account", "--timezone=Europe/Paris"),
    )
    freshdesk = pipe.send(
        EXPORTS / "freshdesk.jsonl",
        *("--map=ticket_id=id", "--map=client_id=requester_id", "--map=request=description_text"),
        *("--map=request_type=type", "--value=request_type:Refund=billing", "--value=request_type:Incident=technical"),
        *(f"--value=priority:{n}={name}" for n, name in enumerate(("low", "medium", "high", "critical"), 1)),
    )
    glpi = pipe.send(
        EXPORTS / "glpi.csv",
        *("--encoding=cp1252", "--map=ticket_id=ID", "--map=client_id=Demandeur - Demandeur", "--map=request=Titre"),
        *("--map=created_at=Date d'ouverture", "--map=request_type=Catégorie", "--map=priority=Priorité"),
        *("--value=request_type:Matériel > Imprimante=technical", "--value=request_type:Facturation=billing"),
        *("--value=priority:Très haute=critical", "--value=priority:Moyenne=medium", "--timezone=Europe/Paris"),
    )

    assert sorted(short(ticket) for ticket in pipe.tickets()) == [
        ("7001", "2026-01-31T09:30:00Z", "Please refund order 12.", "billing", "high"),
        ("7002", "2026-01-31T09:30:00Z", "The dashboard is slow.\nVery.", "technical", "critical"),
        ("Léa Noël", "2026-01-31T09:45:00Z", "Facture erronée", "billing", "medium"),
        ("ann", "2026-01-31T08:30:00Z", "The export stops at row 10000", "technical", "critical"),
        (
            "ann@example.org",
            "2026-01-31T09:30:00Z",
            "Invoice INV-2026-00042 charges €49.00 twice.\n\nThanks, Ann",
            "billing",
            "critical",
        ),
        ("ann@example.org", "2026-02-01T00:00:00Z", "Where is the manual?", "general", "low"),
        ("bob", "2026-01-31T20:45:00Z", "Change the name of our account", "account", "low"),
        (
            "bob@example.org",
            "2026-01-31T09:45:12Z",
            'The login says "error 500", since this morning',
            "technical",
            "medium",
        ),
        ("Élodie Petit", "2026-01-31T09:30:00Z", "Imprimante en panne au 2e étage", "technical", "critical"),
    ]
    assert "row 4: request_type: must be one of account, billing, technical, general, found 'Task'" in zendesk.stderr
    assert "row 3: request: is empty" in freshdesk.stderr
    assert "bad rows" not in jira.stderr + glpi.stderr
    assert pipe.noted("zendesk.csv")["tickets"] == 3
    assert pipe.noted("zendesk.csv")["bad_rows"] == 1


def write_csv(file: Path, numbers: range) -> Path:
    """Write tickets with our own names and values, without ids."""
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["client_id", "created_at", "request", "request_type", "priority"])
        rows.writerows(
            (f"CLIENT_{number % 50}", "2026-01-31T09:30:00Z", f"row {number}", "billing", "low") for number in numbers
        )
    return file


def test_a_kill_repeats_and_never_loses_and_a_second_producer_is_refused_meanwhile(pipe: Pipe) -> None:
    file = write_csv(pipe.folder / "export.csv", range(3_000))
    killed = pipe.start(file, "--rate=500")
    wait_for(lambda: (pipe.state / "export.csv.json").exists(), 60, "the first state")

    second = pipe.send(file, expect=5)
    killed.send(signal.SIGKILL)
    killed.wait()
    noted = pipe.noted("export.csv")["tickets"]
    in_topic = pipe.requests()
    again = pipe.send(file)
    rest = pipe.requests()
    third = pipe.send(file)

    assert "ERROR   another producer is sending the source export.csv; stop it" in second.stderr
    assert 0 < noted <= in_topic.total() < 3_000
    assert set(rest) == {f"row {number}" for number in range(3_000)}
    # Only rows that were acknowledged, but not in the state yet, are repeated.
    assert rest.total() == in_topic.total() + 3_000 - noted
    assert f"going on after the {noted:,} tickets" in again.stderr
    assert "done: sent 0," in third.stderr
    # Without repeated ids (--dedupe all) every row is there once.
    assert len({ticket.ticket_id for ticket in pipe.tickets()}) == 3_000


def test_standard_input_is_read_to_its_end(pipe: Pipe) -> None:
    file = write_csv(pipe.folder / "export.csv", range(3))
    command = ["sh", "-c", f'"$@" <{file}', "sh", sys.executable, *pipe.flags("-")]
    sent = pipe.processes.start_command(command)
    assert sent.wait() == 0, sent.output
    assert sorted(pipe.requests()) == ["row 0", "row 1", "row 2"]
    assert not list(pipe.state.glob("*"))


def test_a_file_is_followed_until_a_stop(pipe: Pipe) -> None:
    file = write_csv(pipe.folder / "log.csv", range(2))
    (port,) = free_ports(1)
    running = pipe.start(file, "--follow", "--poll=0.2", f"--metrics-port={port}")
    wait_for(lambda: pipe.requests().total() == 2, 60, "the first rows")
    acknowledged = "client_tickets_acknowledged_total"
    wait_for(lambda: scrape.metrics(port)[acknowledged] == 2, 10, "the first rows among the metrics")

    with file.open("a") as out:
        out.write("CLIENT_1,2026-01-31T09:30:00Z,row 2,billing,low\nCLIENT_1,2026-01-31T09")
    wait_for(lambda: pipe.requests().total() == 3, 30, "the third row")
    file.rename(file.with_name("log.csv.1"))
    with file.with_name("log.csv.1").open("a") as out:
        out.write(":30:00Z,row 3,billing,low\n")
    write_csv(file, range(4, 6))
    wait_for(lambda: pipe.requests().total() == 6, 30, "the rows after the rotation")
    wait_for(lambda: scrape.metrics(port)[acknowledged] == 6, 10, "all rows among the metrics")
    assert scrape.health(port)[0] == 200
    running.send(signal.SIGTERM)

    assert running.wait(30) == 0, running.output
    assert pipe.requests() == Counter(f"row {number}" for number in range(6))
    assert pipe.noted("log.csv")["tickets"] == 6


def test_wrong_flags_of_a_source_are_named_in_words(pipe: Pipe) -> None:
    file = pipe.folder / "export.csv"
    file.write_text("Id;Sujet\n1;x\n")
    missing = pipe.send(file, "--map=ticket_id=Id", "--map=request=Subject", expect=2)
    assert "the source has no column 'client_id' for client_id" in missing.stderr
    assert "The columns are Id, Sujet." in missing.stderr
    assert not (pipe.state / "export.csv.json").exists()


# A database

COLUMNS = ("--map=ticket_id=id", "--map=client_id=client", "--map=created_at=opened", "--map=request=body")
SQL_FLAGS = ("--table=tickets", "--watermark=updated", *COLUMNS, "--map=request_type=kind", "--map=priority=urgency")


@pytest.fixture(scope="module")
def installed() -> Iterator[MariaDb]:
    with tempfile.TemporaryDirectory(prefix="client-tickets-mariadb-") as folder:
        server = MariaDb(Path(folder))
        server.install()
        yield server
        server.stop(signal.SIGKILL)


@pytest.fixture
def database(installed: MariaDb, tmp_path: Path) -> MariaDb:
    installed.run(
        "DROP TABLE IF EXISTS tickets",
        "CREATE TABLE tickets (id INT PRIMARY KEY, client VARCHAR(64), opened DATETIME, body TEXT, kind VARCHAR(20), "
        "urgency VARCHAR(20), updated DATETIME(3), KEY (updated))",
    )
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return installed


def db_row(number: int, updated: str, body: str = "") -> tuple[object, ...]:
    return number, "ann", "2026-01-31 09:30:00", body or f"row {number}", "Billing", "high", updated


def sql_flags(pipe: Pipe, *more: str) -> tuple[str, ...]:
    return (*SQL_FLAGS, "--source-name=crm", f"--secret-file={pipe.folder / 'password'}", *more)


def test_a_table_is_read_to_its_end_and_then_from_its_watermark_on(pipe: Pipe, database: MariaDb) -> None:
    # More rows than a page, and more rows with the same watermark than a page.
    rows = [db_row(number, f"2026-02-01 00:00:{number // 6_000:02d}.000") for number in range(12_000)]
    database.insert("tickets", [*rows, (99_999, "ann", "2026-01-31", "never", "Billing", "low", None)])

    first = pipe.send(database.url, *sql_flags(pipe))
    assert "1 row has no updated and is not read" in first.stderr
    assert pipe.requests() == Counter(f"row {number}" for number in range(12_000))
    assert short(pipe.tickets()[0])[1] == "2026-01-31T09:30:00Z"
    assert pipe.noted("crm")["place"] == {"watermark": {"datetime": "2026-02-01T00:00:01"}}

    # A changed row, one that was committed late but within the overlap, and one that was too late.
    database.run("UPDATE tickets SET body = 'changed', updated = '2026-02-01 01:00:00' WHERE id = 7")
    late = (("2026-01-31 23:59:01.000", 20_000), ("2026-01-31 23:59:00.999", 20_001))
    database.insert("tickets", [db_row(number, updated) for updated, number in late])
    pipe.send(database.url, *sql_flags(pipe))
    again = pipe.requests()
    assert (again["changed"], again["row 20000"], again["row 20001"]) == (1, 1, 0)
    ids = {ticket.request: ticket.ticket_id for ticket in pipe.tickets()}
    assert ids["changed"] == ids["row 7"]


def test_a_database_that_goes_away_and_comes_back_is_followed_without_loss(pipe: Pipe, database: MariaDb) -> None:
    database.insert("tickets", [db_row(number, "2026-02-01 00:00:00") for number in range(10)])
    running = pipe.start(database.url, *sql_flags(pipe, "--follow", "--poll=0.3"))
    wait_for(lambda: pipe.requests().total() == 10, 60, "the first rows")

    database.stop(signal.SIGKILL)
    running.wait_for_stderr("trying again in 1 s")
    database.start()
    database.insert("tickets", [db_row(10, "2026-02-01 00:00:30", "after the crash")])
    wait_for(lambda: pipe.requests()["after the crash"], 60, "the row after the crash")
    running.send(signal.SIGTERM)

    assert running.wait(30) == 0, running.output
    assert pipe.requests().total() == 11, "rows in the overlap were sent again although nothing changed"
    assert "Traceback" not in running.stderr


def test_what_is_wrong_with_a_database_is_said_in_its_words(pipe: Pipe, database: MariaDb) -> None:
    password = pipe.folder / "password"
    for flags, code, words in (
        (("--table=nowhere",), 2, "nowhere' doesn't exist (error 1146)"),
        (("--watermark=changed",), 2, "--watermark must name a column, found 'changed'; the columns are id, client,"),
        ((f"--secret-file={pipe.folder / 'wrong'}",), 2, "(error 1045); correct the source, its login"),
    ):
        (pipe.folder / "wrong").write_text("wrong")
        failed = pipe.send(database.url, *sql_flags(pipe, *flags), expect=code)
        assert words in failed.stderr
        assert "Traceback" not in failed.stderr
        assert PASSWORD not in failed.stderr
    nobody = database.url.replace(str(database.port), str(free_ports(1)[0]))
    unreachable = pipe.send(nobody, *sql_flags(pipe), expect=3)
    assert "(error 2003); check that the database runs and can be reached" in unreachable.stderr
    assert password.exists()


def test_a_query_may_name_the_columns_as_the_ticket_has_them(pipe: Pipe, database: MariaDb) -> None:
    database.insert("tickets", [db_row(1, "2026-02-01 00:00:00"), db_row(2, "2026-02-01 00:00:00", "at 10:30: x")])
    query = (
        "SELECT id AS ticket_id, client AS client_id, opened AS created_at, body AS request, kind AS request_type, "
        "urgency AS priority, id FROM tickets WHERE body LIKE '%10:30:%';"
    )
    flags = ("--source-name=crm", f"--secret-file={pipe.folder / 'password'}", "--map=ticket_id=ticket_id")
    pipe.send(database.url, "--query", query, "--watermark=id", *flags)
    assert list(pipe.requests()) == ["at 10:30: x"]
    assert pipe.noted("crm")["place"] == {"watermark": {"int": "2"}}
    # A place of one query cannot be used in another.
    other = pipe.send(database.url, "--query", query.replace("LIKE", "NOT LIKE"), "--watermark=id", *flags, expect=4)
    assert "is the state of the source query" in other.stderr


# An API


class Helpdesk:
    """A server with tickets, in a process of its own."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.folder = pipe.folder / "api"
        self.folder.mkdir()
        self.port = free_ports(1)[0]
        self.tickets: list[dict[str, object]] = []
        (pipe.folder / "token").write_text(helpdesk_api.TOKEN)
        self.start()

    def start(self) -> None:
        self.running = self._pipe.processes.start("-m", "tests.support.helpdesk_api", str(self.port), self.folder)
        self.running.wait_for_stdout("ready")

    def add(self, *numbers: int) -> None:
        for number in numbers:
            values = {"id": number, "created_at": "2026-01-31T09:30:00Z", "request": f"row {number}"}
            self.tickets.append(values | {"requester": {"id": 5}, "request_type": "billing", "priority": "low"})
        new = self.folder / "new"
        new.write_text(json.dumps(self.tickets))
        new.replace(self.folder / "tickets.json")

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def asked(self) -> list[str]:
        return (self.folder / "asked.log").read_text().split()


@pytest.fixture
def helpdesk(pipe: Pipe) -> Helpdesk:
    return Helpdesk(pipe)


STYLES = {
    "next": ("--items=data.tickets", "--next-link=links.next"),
    "header": (),
    "cursor": ("--items=tickets", "--cursor=meta.after", "--cursor-parameter=after"),
}


def http_flags(pipe: Pipe, style: str, *more: str) -> tuple[str, ...]:
    common = ("--source-name=api", "--map=ticket_id=id", "--map=client_id=requester.id")
    return (*common, f"--secret-file={pipe.folder / 'token'}", *STYLES[style], *more)


@pytest.mark.parametrize("style", STYLES)
def test_the_pages_of_an_api_are_read_and_gone_on_from(pipe: Pipe, helpdesk: Helpdesk, style: str) -> None:
    helpdesk.add(*range(8))
    pipe.send(helpdesk.url(style), *http_flags(pipe, style))
    assert pipe.requests() == Counter(f"row {number}" for number in range(8))

    helpdesk.add(8, 9)
    before = len(helpdesk.asked())
    pipe.send(helpdesk.url(style), *http_flags(pipe, style))
    assert pipe.requests() == Counter(f"row {number}" for number in range(10))
    # From the last page on.
    assert all("=2" in path or "=3" in path for path in helpdesk.asked()[before:])


def test_an_api_that_is_busy_breaks_and_goes_away_is_followed_without_loss(pipe: Pipe, helpdesk: Helpdesk) -> None:
    helpdesk.add(*range(4))
    (helpdesk.folder / "busy").write_text("1")
    running = pipe.start(helpdesk.url("next"), *http_flags(pipe, "next", "--follow", "--poll=0.3"))
    running.wait_for_stderr("asks to wait 1 s (status 429)")
    wait_for(lambda: pipe.requests().total() == 4, 60, "the first pages")

    (helpdesk.folder / "broken").write_text("1")
    running.wait_for_stderr("answered with status 500; trying again in 1 s")
    helpdesk.running.send(signal.SIGKILL)
    helpdesk.running.wait()
    running.wait_for_stderr("cannot be reached")
    helpdesk.add(4)
    helpdesk.start()
    wait_for(lambda: pipe.requests().total() == 5, 60, "the ticket after the outage")
    # A stop does not wait for a slow answer.
    (helpdesk.folder / "slow").write_text("1")
    asked = len(helpdesk.asked())
    wait_for(lambda: len(helpdesk.asked()) > asked, 30, "the slow request")
    running.send(signal.SIGTERM)

    assert running.wait(helpdesk_api.SLOW_S) == 0, running.output
    assert pipe.requests() == Counter(f"row {number}" for number in range(5))
    assert "Traceback" not in running.stderr


def test_what_is_wrong_with_an_api_is_said_in_words(pipe: Pipe, helpdesk: Helpdesk) -> None:
    helpdesk.add(*range(8))
    (pipe.folder / "wrong").write_text("wrong")
    for path, flags, code, words in (
        ("next", (f"--secret-file={pipe.folder / 'wrong'}",), 2, "refused the login (status 401)"),
        ("nowhere", (), 2, "answered with status 404; correct --source"),
        ("cursor", (), 2, "--items data.tickets must be an array of tickets, found NoneType; give --items tickets"),
        ("elsewhere", (), 2, "the next page must be on http://127.0.0.1"),
    ):
        failed = pipe.send(helpdesk.url(path), *http_flags(pipe, "next", *flags), expect=code)
        assert words in failed.stderr
        assert "Traceback" not in failed.stderr
        (pipe.state / "api.json").unlink(missing_ok=True)
    away = pipe.send("http://127.0.0.1:1/next", *http_flags(pipe, "next"), expect=3)
    assert "http://127.0.0.1:1/next cannot be reached" in away.stderr


# The answer key


def test_the_answer_key_says_what_the_pipeline_made_of_injected_faults(pipe: Pipe) -> None:
    key, output = pipe.folder / "key.jsonl", pipe.folder / "output"
    where = ["--broker", pipe.broker.address, "--topic", pipe.topic]
    faults = ["--invalid-rate=0.1", "--duplicate-rate=0.05", f"--answers={key}", "--seed=1"]
    pipe.processes.run(PRODUCER, *where, "--count=2000", "--rate=0", *faults)
    again = pipe.processes.run(PRODUCER, *where, "--count=1", *faults, expect=5)
    assert "key.jsonl exists; name a new file with --answers" in again.stderr
    injected = Counter(json.loads(line)["injected"] for line in key.read_text().splitlines())
    assert injected["invalid"] > 150
    assert injected["duplicate"] > 60

    processor = "processor/spark_processor.py"
    pipe.processes.run(processor, *where, "--memory=1g", f"--output-path={output}")
    verify = [processor, "--verify", f"--output-path={output}", f"--answers={key}"]
    told = json.loads(pipe.processes.run(*verify, env={"LOG_FORMAT": "json"}).stdout)["answers"]
    assert told == {
        "complete": True,
        "sent": 2_000,
        "invalid": injected["invalid"],
        "rejected": injected["invalid"],
        "rejected_otherwise": 0,
        "invalid_absent": 0,
        "duplicates": injected["duplicate"],
        "published_again": injected["duplicate"],
        "dropped_or_absent": 0,
    }
    text = pipe.processes.run(*verify).stdout
    assert (
        f"  {injected['invalid']} invalid: {injected['invalid']} rejected for the right reason, 0 for another" in text
    )
    # The key of a killed producer has no end line, and may end in the middle of a line.
    key.write_text(key.read_text()[:-20])
    assert "the producer was killed" in pipe.processes.run(*verify).stdout
    (pipe.folder / "other").write_text("x\n")
    other = pipe.processes.run(*verify[:-1], f"--answers={pipe.folder / 'other'}", expect=2)
    assert "must be a key that the producer wrote with --answers" in other.stderr


# The document


def test_every_command_of_the_document_runs_as_it_is_written(pipe: Pipe, database: MariaDb, helpdesk: Helpdesk) -> None:
    """Only host names are replaced, --follow gets a limit, and Docker Compose is left out: it needs a daemon."""
    for export in EXPORTS.iterdir():
        (pipe.folder / export.name).write_bytes(export.read_bytes())
    write_csv(pipe.folder / "tickets.csv", range(3))
    database.insert("tickets", [db_row(number, "2026-02-01 00:00:00", f"db {number}") for number in range(2)])
    helpdesk.add(*range(100, 105))
    for part in ("producer", "processor"):
        (pipe.folder / part).symlink_to(ROOT / part)
    (pipe.folder / "bin").mkdir()
    python = pipe.folder / "bin" / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$1" in producer/*) exec {sys.executable} "$@" --source-state {pipe.state};; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    environ = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "REDPANDA_BROKER_LOCAL": pipe.broker.address,
        "TOPIC_NAME": pipe.topic,
        "OUTPUT_PATH": str(pipe.folder / "output"),
        "SPARK_MEMORY": "1g",
    }
    blocks = [
        block for block in documents.code_blocks(documents.read("docs/sources.md")) if "docker-compose" not in block
    ]
    assert len(blocks) == 9
    for block in blocks:
        script = block.replace("reader@db.example.com:3306", f"reader@127.0.0.1:{database.port}")
        script = script.replace("https://desk.example.com", f"http://127.0.0.1:{helpdesk.port}")
        script = script.replace("--follow --poll 1", "--follow --poll 1 --duration 2")
        done = pipe.processes.start_command(["sh", "-ec", script], env=environ, cwd=pipe.folder)
        assert done.wait(180) == 0, f"{block}\n{done.output}"
    assert "answer key: 2,000 messages" in done.stdout
    values = [message.value or b"" for message in topics.read(pipe.broker.address, pipe.topic)]
    sent = Counter(json.loads(value)["request"] for value in values if b'"row ' in value or b'"db ' in value)
    # Each source has its own name: standard input, the file, the two queries and the two APIs.
    assert {f"row {number}": 2 for number in range(3)}.items() <= sent.items()
    assert {f"row {number}": 2 for number in range(100, 105)}.items() <= sent.items()
    assert {"db 0": 2, "db 1": 2}.items() <= sent.items()
