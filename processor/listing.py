"""``--list-rejected``: why messages were rejected, how many, and an example of each. No lock, no broker, no JVM."""

from collections.abc import Iterator

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from processor.config import ListRejectedConfig
from processor.printed import WIDTH, page, wrapped, write
from runtime.errors import SettingError
from runtime.settings.location import OutputLocation
from store.datasets import REJECTED
from store.files import Disk
from store.manifest import Manifest
from store.reader import Reader, read_current
from store.reasons import COLUMNS, Reason, count_reasons

# More of a payload is not shown, so more need not be held.
_PAYLOAD_BYTES = 1000


def run(config: ListRejectedConfig) -> None:
    """Print the reasons.

    Raises SettingError when there is no output; DataConflict when ledger and files do not belong together;
    OutputUnavailable when something cannot be read.
    """
    manifest, reasons = read_reasons(config.output)
    tell = as_json if config.log_format == "json" else as_text
    write(tell(str(config.output), manifest, reasons))


def read_reasons(location: OutputLocation, disk: Disk | None = None) -> tuple[Manifest, list[Reason]]:
    """Return the reasons in an output as of one commit, and its manifest.

    A processor may work meanwhile: if files go because of another commit, those of that one are read.
    """
    found = read_current(location, _read, disk)
    if found is None:
        raise SettingError(f"there is no output in {location}, so no rejected message; correct --output-path")
    return found


def _read(reader: Reader) -> tuple[Manifest, list[Reason]]:
    return reader.manifest, count_reasons(map(_shorten, reader.tables(REJECTED, COLUMNS)))


def _shorten(rejected: pa.Table) -> pa.Table:
    payload = pc.binary_slice(rejected["payload"], 0, _PAYLOAD_BYTES)
    return rejected.set_column(rejected.schema.get_field_index("payload"), "payload", payload)


def as_json(output: str, manifest: Manifest, reasons: list[Reason]) -> str:
    """Return one JSON object on one line."""
    told = {
        "output": output,
        "commit": manifest.commit,
        "commit_id": manifest.commit_id,
        "rejected": manifest.totals.rejected,
        "reasons": msgspec.to_builtins(reasons),
    }
    return msgspec.json.encode(told).decode() + "\n"


def as_text(output: str, manifest: Manifest, reasons: list[Reason]) -> str:
    """Return each reason with its count and its newest example, in 80 columns."""
    return page(_lines(output, manifest, reasons))


def _lines(output: str, manifest: Manifest, reasons: list[Reason]) -> Iterator[str]:
    yield output
    if not reasons:
        yield "No message is rejected."
        return
    messages = "message is" if manifest.totals.rejected == 1 else "messages are"
    yield f"{manifest.totals.rejected:,} {messages} rejected. The newest of each reason:"
    for reason in reasons:
        yield ""
        yield from wrapped(f"{reason.messages:,} × {reason.reason}", "", "  ", break_long_words=True)
        if reason.in_full != reason.reason:
            yield from wrapped(reason.in_full, "  ", "  ", break_long_words=True)
        when = "" if reason.received_at is None else f", received {reason.received_at:%Y-%m-%d %H:%M:%S} UTC"
        yield f"  partition {reason.partition}, offset {reason.offset}{when}"
        # An example is not wrapped at its spaces, because they belong to the message.
        yield from (
            f"  {reason.example[start : start + WIDTH - 2]}" for start in range(0, len(reason.example), WIDTH - 2)
        )
