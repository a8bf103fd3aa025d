"""``--verify``: check an output, ask the broker if ``--broker`` was given, and print what was found."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from processor.answers import Outcome, judge, lines, read_key
from processor.config import VerifyConfig
from processor.printed import page, wrapped, write
from processor.unread import Unread, ask, compare
from runtime.errors import BrokerError, DataConflict
from store.differences import Difference
from store.manifest import WAY_OUT
from store.reader import open_output
from store.verify import Report, verify

_TOLD = 50


def run(config: VerifyConfig) -> None:
    """Verify the output and print what was found.

    Raises DataConflict when something differs; SettingError when there is no output; BrokerError when the broker cannot
    be asked and nothing else is wrong; OutputUnavailable when a file cannot be read.
    """
    report, unread, silent = verify(config.output), None, None
    if config.broker is not None:
        try:
            report, unread = _with_broker(report, config)
        except BrokerError as error:
            silent = error
    outcome = None
    if config.answers is not None and (reader := open_output(config.output)) is not None:
        outcome = judge(reader, read_key(config.answers))
    tell = as_json if config.log_format == "json" else as_text
    write(tell(report, unread, str(silent) if silent else None, outcome))
    if report.differences:
        raise DataConflict(
            f"{config.output} is not what its ledger says: {len(report.differences):,} differences, the first is in "
            f"{_sentence(report.differences[0])}; {WAY_OUT}"
        )
    if silent is not None:
        raise silent


def _with_broker(report: Report, config: VerifyConfig) -> tuple[Report, list[Unread]]:
    assert config.broker is not None
    found, held = ask(config.broker, config.security, config.topic or report.source.topic)
    differences, unread = compare(report.source, report.next_offsets, found, held, report.window)
    return msgspec.structs.replace(report, differences=[*report.differences, *differences]), unread


def as_json(report: Report, unread: Sequence[Unread] | None, silent: str | None, outcome: Outcome | None = None) -> str:
    """Return one JSON object on one line; ``unread`` is null if no broker was asked or none answered."""
    fields: dict[str, Any] = msgspec.to_builtins(report, str_keys=True)
    del fields["source"]["unknown"]
    if fields["window"] is not None:
        del fields["window"]["unknown"]
    in_order = not report.differences
    told = {"in_order": in_order, **fields, "unread": msgspec.to_builtins(unread), "broker_error": silent}
    if outcome is not None:
        told["answers"] = msgspec.to_builtins(outcome)
    return msgspec.json.encode(told).decode() + "\n"


def as_text(report: Report, unread: Sequence[Unread] | None, silent: str | None, outcome: Outcome | None = None) -> str:
    """Return a table and the notes below it, in 80 columns."""
    return page(_lines(report, unread, silent, outcome))


def _lines(
    report: Report, unread: Sequence[Unread] | None, silent: str | None, outcome: Outcome | None
) -> Iterator[str]:
    moment = f"{report.updated_at:%Y-%m-%d %H:%M:%S} UTC"
    yield f"{report.output}"
    yield f"commit {report.commit}, batch {report.batch_id}, {report.format}, {moment}"
    if report.window is not None:
        yield f"topic {report.window}"
    yield ""
    yield f"{'dataset':<25}{'files':>8}{'rows':>15}{'bytes':>18}  found"
    for each in report.datasets:
        found = f"{each.differences:,} differ" if each.differences else "in order"
        yield f"{each.dataset:<25}{each.files:>8,}{each.rows:>15,}{each.bytes:>18,}  {found}"
    yield ""
    yield f"{report.tickets:,} tickets of {report.unique_clients:,} clients, {report.rejected:,} rejected messages"
    if report.repeated:
        yield ""
        why = "" if report.deduped_from == 1 else " (no difference: each is a message)"
        yield f"{report.repeated:,} tickets repeat the id of another one{why}, such as"
        yield from (f"  {each.ticket_id}  {each.tickets:,} tickets" for each in report.repeats)
    if report.differences:
        yield ""
        yield "differences:"
        yield from _indented(map(_sentence, report.differences[:_TOLD]))
        if len(report.differences) > _TOLD:
            yield f"  and {len(report.differences) - _TOLD:,} more; LOG_FORMAT=json lists them all"
    if report.notes:
        yield ""
        yield "notes:"
        yield from _indented(report.notes)
    if unread is not None:
        yield ""
        yield f"unread in topic {report.source.topic}: {sum(each.unread for each in unread):,} offsets"
        end = "this part ends" if report.window and report.window.until else "the topic ends"
        yield from (
            f"  partition {each.partition}: {each.unread:,} (from {each.next_offset:,}, {end} at {each.end:,})"
            for each in unread
        )
    if silent is not None:
        yield ""
        yield "the broker could not be asked:"
        yield from _indented([silent])
    if outcome is not None:
        yield ""
        yield from lines(outcome)
    yield ""
    yield "Not in order." if report.differences else "In order: files, rows and counts are what the ledger says."


def _sentence(difference: Difference) -> str:
    return f"{difference.where}: {difference.what}"


def _indented(sentences: Iterable[str]) -> Iterator[str]:
    for sentence in sentences:
        yield from wrapped(sentence, "  ", "    ")
