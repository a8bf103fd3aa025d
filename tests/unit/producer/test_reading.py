"""What is read, sent and saved, with a scripted source."""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from contract.ticket import decode
from producer import reading
from producer.mapping import Rules
from producer.reading import RealTickets
from producer.state import Sent, State
from producer.ticket import Message, Place, Row
from runtime.errors import DataConflict, OutputUnavailable, PipelineError, SettingError, SourceUnreachable
from runtime.process.heartbeat import Heartbeat
from tests.support import documents
from tests.support.processes import wait_for

VALUES = {"client_id": "C", "created_at": "2026-01-31T09:30:00Z", "request_type": "billing", "priority": "low"}


def row(number: int, request: str = "x") -> Row:
    return Row(number, {"row": number}, VALUES | {"request": request})


@dataclass
class Script:
    """Yields one list of batches at each reading; if an item is an error, it is raised."""

    passes: list[list[list[Row] | Exception]]
    asked: list[Place | None] = field(default_factory=list)
    closed: bool = False

    def read(self, after: Place | None) -> Iterator[Sequence[Row]]:
        self.asked.append(after)
        for batch in self.passes.pop(0):
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def keep(self, place: Place) -> Place:
        return place | {"kept": True}

    def close(self) -> None:
        self.closed = True


def tickets(
    source: Script, state: State | None = None, pauses: list[float] | None = None, follow: bool = False
) -> RealTickets:
    def sleep(seconds: float) -> bool:
        if pauses is not None:
            pauses.append(seconds)
        return not source.passes

    rules = Rules("crm", {}, {}, {})
    return RealTickets(source, rules, state, sleep, 5.0 if follow else None, Heartbeat(None)).start()


def all_of(one: RealTickets) -> list[Message]:
    taken: list[Message] = []

    def ended() -> bool:
        taken.extend(one.take(100))
        return one.ended

    wait_for(ended, 10, "the end of the source")
    return taken


def requests(messages: list[Message]) -> list[str]:
    return [decode(message.value).request for message in messages]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path, "crm", "file", "tickets") as opened:
        yield opened


def test_the_state_follows_the_last_acknowledged_row_and_passes_bad_ones(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SAVE_EVERY_S", 0)
    source = Script([[[row(1), row(2, ""), row(3)], [row(4), row(5, "")]]])
    one = tickets(source, state)

    assert requests(all_of(one)) == ["x", "x", "x"]
    one.confirm(0)
    assert not state.file.exists()
    one.confirm(1)
    assert state.sent == Sent("file", "tickets", None, {"row": 2, "kept": True}, 1, 1)
    one.confirm(2)
    assert state.sent.place == {"row": 3, "kept": True}
    one.confirm(3)
    one.close()

    assert state.sent == Sent("file", "tickets", None, {"row": 5, "kept": True}, 3, 2)
    written = json.loads(state.file.read_text())
    assert (written["place"], written["tickets"], written["bad_rows"]) == ({"row": 5, "kept": True}, 3, 2)
    assert source.closed


def test_rows_that_are_not_acknowledged_are_not_saved_in_the_state(state: State) -> None:
    one = tickets(Script([[[row(1), row(2)]]]), state)
    all_of(one)

    one.close()

    assert not state.file.exists()


def test_the_next_run_resumes_after_the_place_and_goes_on_counting(tmp_path: Path) -> None:
    for number in (1, 2):
        with State(tmp_path, "crm", "file", "tickets") as state:
            source = Script([[[row(number)]]])
            one = tickets(source, state)
            all_of(one)
            one.confirm(1)
            one.close()
            assert source.asked == [None if number == 1 else {"row": 1, "kept": True}]
            assert state.sent.tickets == number


def test_a_source_that_goes_away_is_asked_again_for_what_was_not_read(caplog: pytest.LogCaptureFixture) -> None:
    pauses: list[float] = []
    away = SourceUnreachable("db is away")
    source = Script([[[row(1)], away], [away], [away], [[row(2)]]])

    one = tickets(source, pauses=pauses)

    assert len(all_of(one)) == 2
    one.close()
    assert source.asked == [None, {"row": 1}, {"row": 1}, {"row": 1}]
    assert pauses == [1, 2, 4]
    assert caplog.messages[0] == "db is away; trying again in 1 s"


def test_a_source_that_was_never_reached_ends_the_run() -> None:
    one = tickets(Script([[SourceUnreachable("no such host")]]))
    assert all_of(one) == []
    with pytest.raises(SourceUnreachable, match="no such host") as error:
        one.close()
    assert error.value.exit_code == 3


def test_a_source_that_stays_away_ends_a_run_that_does_not_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PATIENCE_S", -1)
    one = tickets(Script([[[row(1)], SourceUnreachable("away")]]))
    assert len(all_of(one)) == 1
    with pytest.raises(SourceUnreachable):
        one.close()


def test_a_source_that_goes_away_after_hours_of_sending_is_asked_again() -> None:
    times = [0.0]

    class Slow(Script):
        def read(self, after: Place | None) -> Iterator[Sequence[Row]]:
            for rows in super().read(after):
                yield rows
                times[0] += 7_200

    source = Slow([[[row(1)], SourceUnreachable("away")], [[row(2)]]])
    rules = Rules("crm", {}, {}, {})
    one = RealTickets(source, rules, None, lambda s: False, None, Heartbeat(None), lambda: times[0]).start()
    assert len(all_of(one)) == 2
    one.close()


def test_following_polls_from_the_last_row() -> None:
    pauses: list[float] = []
    source = Script([[[row(1)]], [], [[row(2)]]])

    one = tickets(source, pauses=pauses, follow=True)

    assert len(all_of(one)) == 2
    one.close()
    assert source.asked == [None, {"row": 1}, {"row": 1}]
    assert pauses == [5, 5, 5]


def test_a_poll_is_a_sign_of_life_only_if_nothing_waits_for_the_broker() -> None:
    source, heartbeat = Script([[[row(1)]], []]), Heartbeat(None)
    rules = Rules("crm", {}, {}, {})
    one = RealTickets(source, rules, None, lambda s: not source.passes, 5.0, heartbeat).start()
    assert len(all_of(one)) == 1

    one.confirm(0)
    assert heartbeat.age() is None
    one.confirm(1)
    assert heartbeat.age() is not None
    one.close()


def test_bad_rows_are_named_by_number_and_counted_by_field(caplog: pytest.LogCaptureFixture) -> None:
    source = Script([[[row(1), row(2, ""), Row(3, {"row": 3}, problem="is not CSV: x"), *map(row, range(4, 6))]]])
    one = tickets(source)
    all_of(one)
    one.close()

    assert caplog.messages == [
        "row 2: request: is empty, and there is no --default request=…",
        "row 3: is not CSV: x",
        "2 bad rows were left out: request 1, unreadable 1. To send them too, correct the flags, remove the state and "
        "start again: the ids stay the same",
    ]


def test_a_log_is_not_filled_with_bad_rows(caplog: pytest.LogCaptureFixture) -> None:
    one = tickets(Script([[[row(0), *(row(number, "") for number in range(1, 1_000))]]]))
    all_of(one)
    one.close()
    assert len(caplog.messages) == 11
    assert caplog.messages[-1].startswith("999 bad rows were left out: request 999.")


def test_if_no_row_is_a_ticket_the_run_fails_and_the_state_is_not_saved(state: State) -> None:
    one = tickets(Script([[[row(1, ""), row(2, "")]]]), state)
    all_of(one)
    one.confirm(0)
    with pytest.raises(SettingError, match="none of 2 rows is a ticket"):
        one.close()
    assert not state.file.exists()


def test_a_missing_column_is_reported_with_the_columns_found() -> None:
    one = tickets(Script([[[Row(1, {"row": 1}, {"Id": "1", "Subject": "x", "request_type": "billing"})]]]))
    assert all_of(one) == []
    with pytest.raises(SettingError) as error:
        one.close()
    assert str(error.value) == (
        "the source has no column 'client_id' for client_id; name the right one with --map client_id=COLUMN, or give a "
        "--default client_id=VALUE. The columns are Id, Subject, request_type. Also without one: created_at, request, "
        "priority"
    )


@pytest.mark.parametrize(("columns", "times"), [({}, 1), ({"ticket_id": "request"}, 0)])
def test_the_log_says_once_that_a_source_has_no_ids(
    caplog: pytest.LogCaptureFixture, columns: dict[str, str], times: int
) -> None:
    source, rules = Script([[[row(1)], [row(2)]]]), Rules("crm", columns, {}, {})
    with caplog.at_level("INFO"):
        all_of(RealTickets(source, rules, None, lambda s: True, None, Heartbeat(None)).start())
    assert sum("name a column with --map ticket_id=COLUMN" in line for line in caplog.messages) == times


def test_a_reader_that_waits_does_not_hold_up_the_end() -> None:
    hang = threading.Event()

    class Hanging(Script):
        def read(self, after: Place | None) -> Iterator[Sequence[Row]]:
            hang.wait(30)
            yield from ()

    one = tickets(Hanging([[]]))
    assert list(one.take(10)) == []
    one.close()
    hang.set()


def test_a_second_producer_on_the_same_source_is_refused(state: State) -> None:
    with pytest.raises(OutputUnavailable, match="another producer is sending the source crm; stop it") as error:
        State(state.file.parent, "crm", "file", "tickets")
    assert error.value.exit_code == 5
    State(state.file.parent, "other", "file", "tickets").__exit__(None, None, None)


@pytest.mark.parametrize(
    ("source", "topic", "message"),
    [
        ("table b by w", "tickets", "is the state of the source table a by w, not of table b by w"),
        ("table a by w", "other", "is the state of the topic tickets, not of other"),
    ],
)
def test_a_state_of_something_else_is_refused(tmp_path: Path, source: str, topic: str, message: str) -> None:
    with State(tmp_path, "crm", "table a by w", "tickets") as state:
        state.save(Sent("table a by w", "tickets", None, {"row": 1}, 1, 0))
    with pytest.raises(DataConflict, match=message):
        State(tmp_path, "crm", source, topic)
    # A refusal leaves no lock behind.
    State(tmp_path, "crm", "table a by w", "tickets").__exit__(None, None, None)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2}', '{"version": 1, "place": 3}'])
def test_a_damaged_state_is_refused_with_what_helps(tmp_path: Path, content: str) -> None:
    (tmp_path / "crm.json").write_text(content)
    with pytest.raises(DataConflict, match=r"crm.json is damaged .*; remove it to send the source from its start"):
        State(tmp_path, "crm", "file", "tickets")


def test_an_unwritable_state_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputUnavailable, match="--source-state"):
        State(tmp_path / "file" / "sources", "crm", "file", "tickets")


def test_an_unexpected_error_of_a_source_is_not_hidden() -> None:
    one = tickets(Script([[ZeroDivisionError("bug")]]))
    all_of(one)
    with pytest.raises(ZeroDivisionError):
        one.close()
    assert not issubclass(ZeroDivisionError, PipelineError)


def test_the_source_that_the_guide_shows_is_one(tmp_path: Path) -> None:
    (code,) = documents.code_blocks(documents.section(documents.read("CONTRIBUTING.md"), "a source"), "python")
    assert len(code.splitlines()) <= 50
    shown: dict[str, Any] = {}
    exec(code, shown)
    mails = tmp_path / "mails"
    mail = "From ann\nMessage-ID: <{0}>\nFrom: ann\nDate: Sat, 31 Jan 2026 09:30:00 +0100\n\nmail {0}\n\n"
    mails.write_text(mail.format(1) + mail.format(2))
    rules = Rules("mails", {}, {}, {"request_type": "general", "priority": "low"})

    for sent in (["mail 1\n", "mail 2\n"], ["mail 3\n"]):
        with State(tmp_path, "mails", "mails", "tickets") as state:
            one = RealTickets(shown["MailSource"](mails), rules, state, lambda s: True, None, Heartbeat(None)).start()
            found = requests(all_of(one))
            one.confirm(len(found))
            one.close()
        assert found == sent
        with mails.open("a") as out:
            out.write(mail.format(3))


def test_a_topic_that_was_deleted_and_created_again_is_not_taken_for_the_one_that_holds_the_tickets(
    tmp_path: Path,
) -> None:
    with State(tmp_path, "crm", "file", "tickets", "id-1") as state:
        state.save(Sent("file", "tickets", "id-1", {"row": 1}, 1, 0))
    with pytest.raises(DataConflict, match="which was deleted or is in another cluster; remove the file"):
        State(tmp_path, "crm", "file", "tickets", "id-2")
    for known in ("id-1", None):
        with State(tmp_path, "crm", "file", "tickets", known) as state:
            assert state.sent.tickets == 1
