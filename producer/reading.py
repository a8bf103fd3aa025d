"""Real tickets: a thread reads the source, so that a slow or unreachable source does not block sending."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from queue import Empty, Full, Queue

from producer import mapping
from producer.events import BadRowFound, BadRowsLeftOut
from producer.mapping import BadRow, Rules
from producer.state import Sent, State
from producer.ticket import Message, Place, Row, RowSource
from runtime.errors import SettingError, SourceUnreachable
from runtime.process.events import Retry
from runtime.process.heartbeat import Heartbeat
from runtime.process.logs import tell

_log = logging.getLogger(__name__)

SAVE_EVERY_S = 1.0
# How long a source that was reached once may be unreachable, before a run without --follow gives up.
PATIENCE_S = 300.0

_LONGEST_PAUSE_S = 60.0
_BATCHES_AHEAD = 8
_SHOWN_BAD_ROWS = 10
_PUT_S = 0.1

Sleep = Callable[[float], bool]

# The message of a row (None for a bad row), and the place after it.
_Converted = tuple[Message | None, Place]


class RealTickets:
    """The tickets of a source, as ``ProductionManager`` takes them.

    The state moves to the last row up to which everything is acknowledged. ``sleep`` returns whether to stop.
    """

    def __init__(
        self,
        source: RowSource,
        rules: Rules,
        state: State | None,
        sleep: Sleep,
        poll_s: float | None,
        heartbeat: Heartbeat,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._rules = rules
        self._state = state
        self._sleep = sleep
        self._poll_s = poll_s
        self._heartbeat = heartbeat
        self._clock = clock
        self._before = state.sent if state else Sent("", "")
        self._queue: Queue[list[_Converted] | None] = Queue(_BATCHES_AHEAD)
        self._ready = deque[_Converted]()
        # What was taken and is not acknowledged yet: how many tickets and bad rows came up to a place, and the place.
        self._out = deque[tuple[int, int, Place]]()
        self._taken = self._left_out = self._confirmed = 0
        self._reached: Sent | None = None
        self._saved_at = clock()
        self._bad: Counter[str] = Counter()
        self._checked = False
        self._polled = threading.Event()
        self._closing = threading.Event()
        self._error: BaseException | None = None
        self.ended = False
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def start(self) -> "RealTickets":
        """Start the thread that reads."""
        self._thread.start()
        return self

    def take(self, number: int) -> Iterable[Message]:
        """Return up to ``number`` messages that are ready now."""
        messages: list[Message] = []
        while len(messages) < number and (self._ready or self._fetch()):
            message, place = self._ready.popleft()
            if message is not None:
                messages.append(message)
                self._taken += 1
            else:
                self._left_out += 1
            self._out.append((self._taken, self._left_out, place))
        return messages

    def confirm(self, acknowledged: int) -> None:
        """Move the state, at most once a second, past the first ``acknowledged`` messages, which are in the topic."""
        self._confirmed = acknowledged
        self._pass()
        if self._reached is not None and self._clock() - self._saved_at >= SAVE_EVERY_S:
            self._save()
        # A poll that finds nothing is progress, but not while the broker does not take what was found before.
        if self._polled.is_set() and not (self._out or self._ready) and self._queue.empty():
            self._polled.clear()
            self._heartbeat.beat(self._poll_s or 0)

    def close(self) -> None:
        """Save the state and log what was left out. Raises the error that ended the reading, and SettingError.

        SettingError: there were rows, but none was a ticket.
        """
        self._closing.set()
        self._pass()
        try:
            if self._reached is not None:
                self._save()
        finally:
            # If the thread still waits for an answer, leave it: it ends with the process.
            self._thread.join(_PUT_S * 2)
            if not self._thread.is_alive():
                self._source.close()
        bad = sum(self._bad.values())
        if bad:
            tell(_log, BadRowsLeftOut(bad, dict(self._bad.most_common())))
        if self._error is not None:
            raise self._error
        if bad and not self._taken and self.ended and self._before.place is None:
            raise SettingError(f"none of {bad:,} rows is a ticket; the warnings above say why")

    def _fetch(self) -> bool:
        """Take a batch of rows from the thread, and return whether there was one."""
        if self.ended:
            return False
        try:
            batch = self._queue.get_nowait()
        except Empty:
            return False
        if batch is None:
            self.ended = True
            return False
        self._ready.extend(batch)
        return True

    def _pass(self) -> None:
        passed = None
        while self._out and self._out[0][0] <= self._confirmed:
            passed = self._out.popleft()
        if passed is not None:
            tickets, bad, place = passed
            self._reached = replace(
                self._before,
                place=place,
                tickets=self._before.tickets + tickets,
                bad_rows=self._before.bad_rows + bad,
            )

    def _save(self) -> None:
        """Save the place, unless no row was a ticket so far: then the flags are probably wrong."""
        self._saved_at = self._clock()
        reached, self._reached = self._reached, None
        if self._state and reached and reached.place is not None and (reached.tickets or self._before.place):
            self._state.save(replace(reached, place=self._source.keep(reached.place)))

    # The methods below run in the thread.

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:
            self._error = error
        self._put(None)

    def _read(self) -> None:
        after = self._state.sent.place if self._state else None
        away_since, failures = 0.0, 0
        contacted = False
        while not self._closing.is_set():
            try:
                for rows in self._source.read(after):
                    contacted, failures = True, 0
                    self._put(self._converted(rows))
                    after = rows[-1].place
                    if self._closing.is_set():
                        return
                contacted, failures = True, 0
                if self._poll_s is None:
                    return
                self._polled.set()
                pause = self._poll_s
            except SourceUnreachable as error:
                # Not since the last rows: at a low rate, it may take hours to send these.
                away_since = away_since if failures else self._clock()
                if not contacted or (self._poll_s is None and self._clock() - away_since > PATIENCE_S):
                    raise
                pause = min(_LONGEST_PAUSE_S, 2.0**failures)
                tell(_log, Retry(str(error), pause))
                failures += 1
            if self._sleep(pause):
                return

    def _converted(self, rows: Sequence[Row]) -> list[_Converted]:
        readable = [row for row in rows if not row.problem]
        if readable and not self._checked:
            require_columns(self._rules, readable)
            if not mapping.has_ids(self._rules, readable):
                _log.info(
                    "there is no column ticket_id, so a ticket gets its id from its row and the number of that; name a "
                    "column with --map ticket_id=COLUMN if a changed row is to be the same ticket"
                )
            self._checked = True
        return [(self._message(row), row.place) for row in rows]

    def _message(self, row: Row) -> Message | None:
        try:
            return mapping.message(self._rules, row)
        except BadRow as error:
            self._bad[str(error).partition(":")[0] if not row.problem else "unreadable"] += 1
            if sum(self._bad.values()) <= _SHOWN_BAD_ROWS:
                tell(_log, BadRowFound(row.number, str(error)))
            return None

    def _put(self, batch: list[_Converted] | None) -> None:
        while not self._closing.is_set():
            with suppress(Full):
                self._queue.put(batch, timeout=_PUT_S)
                return


def require_columns(rules: Rules, rows: Sequence[Row]) -> None:
    """Raise SettingError, with the columns found, when a field has neither a column nor a default."""
    missing = mapping.missing(rules, rows)
    if not missing:
        return
    field = missing[0]
    column = rules.column(field)
    found = ", ".join(mapping.columns(rows))
    also = f". Also without one: {', '.join(missing[1:])}" if missing[1:] else ""
    raise SettingError(
        f"the source has no column {column!r} for {field}; name the right one with --map {field}=COLUMN"
        f"{'' if field == 'ticket_id' else f', or give a --default {field}=VALUE'}. The columns are {found}"
        f"{also}"
    )
