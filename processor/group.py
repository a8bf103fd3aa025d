"""How far the processor is, as the offsets of a consumer group: for tools that know lag only from there.

For display only, and never read back: the ledger alone decides where reading goes on.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from processor.events import GroupFailed, GroupLeftAlone
from runtime.broker.security import KafkaSecurity
from runtime.process.logs import tell
from store.manifest import Manifest

# Clients of Kafka are imported where they are used: that takes its time, in which the JVM can start.
if TYPE_CHECKING:
    from kafka import KafkaAdminClient

_log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_MS = 5_000
# On a new broker the first group waits until the topic of all offsets is there.
_RETRY_FOR_S = 10.0
_RETRY_S = 0.2
# How long the end of a run waits for its last commit.
_CLOSE_S = 5.0


class NotOurs(Exception):
    """Others use the group; the text says what shows that."""


class NotCommitted(Exception):
    """The offsets were not committed; the text says why."""


@dataclass(frozen=True, slots=True)
class Position:
    """Up to where each partition of a topic was read, and the output that says so."""

    topic: str
    output_id: str
    next_offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class GroupState:
    """How many consumers are in a group, and the metadata of each offset that it holds, by topic and partition."""

    members: int
    metadata: Mapping[tuple[str, int], str]


def whose(state: GroupState, output_id: str) -> str:
    """Return what shows that others use a group too; an empty text if only this output has committed to it."""
    if state.members:
        return f"it has active consumers ({state.members:,})"
    for (topic, partition), metadata in sorted(state.metadata.items()):
        if metadata != output_id:
            return (
                f"it holds an offset of topic {topic}, partition {partition}, that another output or a consumer "
                "committed"
            )
    return ""


class GroupOffsets:
    """Commits the newest position in a thread of its own, so that no batch ever waits for it.

    ``commit`` raises NotOurs, and then nothing more is committed, or NotCommitted. Each is logged as one
    warning, NotCommitted again only after a commit has worked in between. With an empty ``group`` nothing is done.
    """

    def __init__(self, group: str, commit: Callable[[Position], None], close_s: float = _CLOSE_S) -> None:
        self._group = group
        self._commit = commit
        self._close_s = close_s
        self._changed = threading.Condition()
        self._newest: Position | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self._is_ours = True
        self._failing = False

    def show(self, manifest: Manifest) -> None:
        """Have the position of ``manifest`` committed; return at once. One that was not begun yet is left out."""
        if not self._group or not self._is_ours:
            return
        with self._changed:
            self._newest = Position(manifest.source.topic, manifest.output_id, manifest.next_offsets)
            self._changed.notify()
        if self._thread is None:
            # A client that hangs must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="commit-group-offsets", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait a few seconds for the last commit."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(self._close_s)
            if self._thread.is_alive():
                self._fail(f"the broker did not answer within {self._close_s:g} s")

    def _run(self) -> None:
        while position := self._next():
            try:
                self._commit(position)
            except NotOurs as found:
                self._is_ours = False
                tell(_log, GroupLeftAlone(self._group, str(found)))
                return
            except NotCommitted as error:
                self._fail(str(error))
            except Exception as error:
                # No error here may stop a batch.
                self._fail(f"{type(error).__name__}: {error}")
            else:
                self._failing = False

    def _next(self) -> Position | None:
        """Wait for a position that was not committed yet; return None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._closing)
            newest, self._newest = self._newest, None
            return newest

    def _fail(self, problem: str) -> None:
        if not self._failing:
            self._failing = True
            tell(_log, GroupFailed(self._group, problem))


class KafkaGroup:
    """A consumer group on a real broker. Each commit uses a client of its own."""

    def __init__(self, brokers: str, security: KafkaSecurity, name: str) -> None:
        self._brokers = brokers
        self._security = security
        self._name = name

    def commit(self, position: Position) -> None:
        """Commit a position, unless others use the group. Raises NotOurs and NotCommitted, within seconds."""
        from kafka.errors import AuthorizationError, KafkaError, UnknownMemberIdError

        deadline = time.monotonic() + _RETRY_FOR_S
        while True:
            try:
                return self._try(position)
            except UnknownMemberIdError:
                raise NotOurs("a consumer has just joined it") from None
            except AuthorizationError as error:
                raise NotCommitted(
                    f"the broker does not let this user ({type(error).__name__}); it takes READ on the group and the "
                    "topic"
                ) from None
            except KafkaError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise NotCommitted(f"{type(error).__name__}") from None
            time.sleep(_RETRY_S)

    def _try(self, position: Position) -> None:
        from kafka import KafkaAdminClient, TopicPartition
        from kafka.errors import NoError
        from kafka.structs import OffsetAndMetadata

        admin = KafkaAdminClient(
            bootstrap_servers=self._brokers.split(","),
            client_id="client-tickets-processor",
            bootstrap_timeout_ms=_REQUEST_TIMEOUT_MS,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            **self._security.for_kafka_python(),
        )
        with closing(admin):
            # Each time: two outputs may have begun with the same new group.
            if reason := whose(self._look(admin), position.output_id):
                raise NotOurs(reason)
            offsets = {
                TopicPartition(position.topic, partition): OffsetAndMetadata(offset, position.output_id, None)
                for partition, offset in position.next_offsets.items()
            }
            for error in admin.alter_group_offsets(self._name, offsets).values():
                if error is not NoError:
                    raise error()

    def _look(self, admin: "KafkaAdminClient") -> GroupState:
        # A group that is not there is described as one without members.
        described = admin.describe_groups([self._name])[self._name]
        held = admin.list_group_offsets(self._name)[self._name]
        return GroupState(
            len(described["members"]),
            {(place.topic, place.partition): offset.metadata for place, offset in held.items() if offset.offset >= 0},
        )
