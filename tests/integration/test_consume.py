"""Offset ranges through librdkafka, on real brokers: which messages come, when a range has ended, what goes wrong."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import pytest
from confluent_kafka import KafkaError, KafkaException
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from embedded.broker import EmbeddedBroker
from processor.consume import QUEUE_KIB, Piece, consume, utc_microseconds
from processor.group import KafkaGroup, NotCommitted, NotOurs, Position
from processor.outcome import ConsumeFailed, Failure, FailureKind, RangeRead
from processor.plan import OffsetRange
from runtime.broker.security import KafkaSecurity
from store.manifest import Record
from tests.support import topics
from tests.support.processes import Processes, wait_for
from tests.support.secured import PASSWORD, Secured, add_user, secured_broker

pytestmark = pytest.mark.integration

# Messages so large that a few of them are more than librdkafka fetches before the first piece is taken.
LARGE = [os.urandom(100_000)] * 250
assert sum(map(len, LARGE)) > 2 * QUEUE_KIB << 10


@dataclass
class Consumed:
    """What was read: (partition, offset) of each message in the order of arrival, and the ranges that ended."""

    offsets: list[tuple[int, int]] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    stamps: list[int | None] = field(default_factory=list)
    read: dict[tuple[int, int, int], RangeRead] = field(default_factory=dict)


def read(
    brokers: str,
    topic: str,
    *ranges: OffsetRange,
    security: Mapping[str, str] | None = None,
    patience_s: float = 20,
    between: Callable[[], None] = lambda: None,
) -> Consumed:
    """Consume all of ``ranges`` and check what is true of every reading; call ``between`` after the first piece."""
    consumed = Consumed()
    with closing(consume(brokers, security or {}, topic, ranges, patience_s)) as pieces:
        for number, piece in enumerate(pieces):
            take(consumed, piece)
            if number == 0:
                between()
    assert sorted(consumed.read) == sorted((r.partition, r.start, r.end) for r in ranges)
    for (partition, start, end), outcome in consumed.read.items():
        offsets = [o for p, o in consumed.offsets if p == partition and start <= o < end]
        assert outcome.reached >= end
        assert outcome.messages == len(offsets)
        assert (outcome.last.offset if outcome.last else None) == max(offsets, default=None)
    return consumed


def take(consumed: Consumed, piece: Piece) -> None:
    for message, value in zip(piece.messages, piece.values, strict=True):
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        assert message.value() == value
        consumed.offsets.append((partition, offset))
        consumed.values.append(value)
        consumed.stamps.append(utc_microseconds(message))
    for outcome in piece.read:
        key = (outcome.partition, outcome.start, outcome.end)
        assert key not in consumed.read
        consumed.read[key] = outcome


def failure(
    brokers: str,
    topic: str,
    *ranges: OffsetRange,
    security: Mapping[str, str] | None = None,
    patience_s: float = 20,
    between: Callable[[], None] = lambda: None,
) -> Failure:
    """Return the error that ends the reading; with the close of the consumer it must not take much over the limit."""
    asked = time.monotonic()

    def first_piece() -> None:
        nonlocal asked
        between()
        asked = time.monotonic()

    with pytest.raises(ConsumeFailed) as error:
        read(brokers, topic, *ranges, security=security, patience_s=patience_s, between=first_piece)
    assert time.monotonic() - asked < patience_s + 4
    return error.value.failure


def cuts(end: int) -> list[OffsetRange]:
    """Return every possible range of partition 0 up to ``end``."""
    return [OffsetRange(0, start, stop) for start, stop in itertools.combinations(range(end + 1), 2)]


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker that tests may stop and kill. It compacts at once and creates any topic that a client asks for."""
    properties = {"log.cleaner.backoff.ms": "100", "auto.create.topics.enable": "true"}
    with EmbeddedBroker(tmp_path_factory.mktemp("own-broker"), properties=properties) as running:
        yield running


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker with access rights: clients without a login may do everything, alice only what every user may."""
    rights = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "true",
    }
    with secured_broker(tmp_path_factory.mktemp("secured"), rights) as broker:
        yield broker


# Messages and ranges


def test_a_range_gives_its_messages_in_order_and_nothing_before_or_after_it(broker: EmbeddedBroker, topic: str) -> None:
    topics.create(broker.address, topic)
    topics.send(broker.address, topic, [b"%d" % number for number in range(10)])

    consumed = read(broker.address, topic, OffsetRange(0, 3, 7))

    assert consumed.offsets == [(0, 3), (0, 4), (0, 5), (0, 6)]
    assert consumed.values == [b"3", b"4", b"5", b"6"]
    assert consumed.read[0, 3, 7].reached == 7


def test_the_record_of_the_last_message_differs_from_that_of_any_other(broker: EmbeddedBroker, topic: str) -> None:
    topics.create(broker.address, topic)
    messages: list[tuple[bytes | None, bytes | None, int]] = [
        (b"key", b"value", 1_000),
        (b"key", b"value", 1_000),
        (b"key", b"value", 1_001),
        (b"keyv", b"alue", 1_000),
        (b"", b"keyvalue", 1_000),
        (None, b"keyvalue", 1_000),
        (b"key", None, 1_000),
    ]
    with closing(KafkaProducer(bootstrap_servers=broker.address)) as producer:
        for key, value, timestamp in messages:
            producer.send(topic, value, key=key, timestamp_ms=timestamp).get(30)

    ranges = [OffsetRange(0, offset, offset + 1) for offset in range(len(messages))]
    found = read(broker.address, topic, *ranges).read

    last = [found[r.partition, r.start, r.end].last for r in ranges]
    told = {(record.timestamp, record.checksum) for record in last if record is not None}
    assert len(told) == len(messages) - 1
    assert last[0] == Record(0, 1_000, "54eb83d8ff2045cfd695bb6c1264c205")


def test_a_range_that_ends_with_the_log_has_been_read_when_the_broker_says_so(
    broker: EmbeddedBroker, topic: str
) -> None:
    topics.create(broker.address, topic)
    topics.send(broker.address, topic, [b"a", b"b"])

    found = read(broker.address, topic, OffsetRange(0, 0, 2)).read[0, 0, 2]
    assert (found.reached, found.messages) == (2, 2)


def test_an_empty_value_and_a_tombstone_are_messages_like_others(broker: EmbeddedBroker, topic: str) -> None:
    topics.create(broker.address, topic)
    topics.send(broker.address, topic, [None, b"", b"x", None])

    assert read(broker.address, topic, OffsetRange(0, 0, 4)).values == [None, b"", b"x", None]


def test_a_partition_split_over_tasks_and_within_one_gives_each_offset_once(broker: EmbeddedBroker, topic: str) -> None:
    topics.create(broker.address, topic, partitions=2)
    for partition in (0, 1):
        topics.send_batches(broker.address, topic, [b"x"] * 3_000, partition, {"batch.num.messages": 70})
    borders = [0, 1, 999, 1_000, 1_001, 2_500, 3_000]
    split = [OffsetRange(partition, *pair) for partition in (0, 1) for pair in itertools.pairwise(borders)]

    one_task = read(broker.address, topic, *split).offsets
    two_tasks = [read(broker.address, topic, *split[task::2]).offsets for task in (0, 1)]

    everything = [(partition, offset) for partition in (0, 1) for offset in range(3_000)]
    assert sorted(one_task) == sorted(two_tasks[0] + two_tasks[1]) == everything


def test_a_producer_that_goes_on_writing_does_not_make_a_range_longer(broker: EmbeddedBroker, topic: str) -> None:
    topics.create(broker.address, topic)
    topics.send_batches(broker.address, topic, LARGE)

    consumed = read(
        broker.address,
        topic,
        OffsetRange(0, 0, 200),
        between=lambda: topics.send_batches(broker.address, topic, [b"late"] * 100),
    )

    assert consumed.offsets == [(0, offset) for offset in range(200)]


def test_each_cut_through_transactions_gives_what_was_committed_in_it(broker: EmbeddedBroker, topic: str) -> None:
    topics.create(broker.address, topic)
    with closing(KafkaProducer(bootstrap_servers=broker.address, transactional_id=topic)) as producer:
        producer.init_transactions()
        for values, commit in (([b"0", b"1"], True), ([b"3", b"4"], False), ([b"6"], True), ([b"8"], False)):
            producer.begin_transaction()
            for value in values:
                producer.send(topic, value).get(timeout=30)
            if commit:
                producer.commit_transaction()
            else:
                producer.abort_transaction()
        # The last stable offset is 10: later transactions are still open.
        producer.begin_transaction()
        producer.send(topic, b"10").get(timeout=30)
        topics.send(broker.address, topic, [b"11"])
        committed = {0, 1, 6}
        for cut in cuts(10):
            found = read(broker.address, topic, cut)
            assert found.offsets == [(0, offset) for offset in range(cut.start, cut.end) if offset in committed], cut

        undecided = failure(broker.address, topic, OffsetRange(0, 5, 12), patience_s=1)
        assert undecided.kind == FailureKind.NO_PROGRESS
        assert "partition 0 from offset 7 up to 12 (the broker says it ends at 10)" in undecided.detail
        producer.commit_transaction()
    assert read(broker.address, topic, OffsetRange(0, 5, 12)).offsets == [(0, 6), (0, 10), (0, 11)]


def test_each_cut_through_a_compacted_topic_gives_what_is_left_in_it(own_broker: EmbeddedBroker, topic: str) -> None:
    configs = {"cleanup.policy": "compact", "segment.ms": "1", "min.cleanable.dirty.ratio": "0.0001"}
    topics.create(own_broker.address, topic, configs=configs)
    for key in (b"a", b"b", b"c", b"b", b"c", b"c", b"last"):
        topics.send(own_broker.address, topic, [key], key=key)
    left = {0, 3, 5, 6}
    wait_for(lambda: {message.offset for message in topics.read(own_broker.address, topic)} == left, what="compaction")

    for cut in cuts(7):
        found = read(own_broker.address, topic, cut)
        assert found.offsets == [(0, offset) for offset in range(cut.start, cut.end) if offset in left], cut


def test_two_hundred_partitions_with_two_messages_each_take_less_than_three_seconds(
    broker: EmbeddedBroker, topic: str
) -> None:
    topics.create(broker.address, topic, partitions=200)
    with closing(KafkaProducer(bootstrap_servers=broker.address)) as producer:
        for partition in range(200):
            producer.send(topic, b"a", partition=partition)
            producer.send(topic, b"b", partition=partition)
    start = time.monotonic()

    consumed = read(broker.address, topic, *[OffsetRange(partition, 0, 2) for partition in range(200)])

    assert time.monotonic() - start < 3
    assert sorted(consumed.offsets) == [(partition, offset) for partition in range(200) for offset in (0, 1)]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_read(codec: str, broker: EmbeddedBroker, topic: str) -> None:
    values = [b"%d" % number * 50 for number in range(500)]
    topics.create(broker.address, topic)
    topics.send_batches(broker.address, topic, values, options={"compression.codec": codec, "linger.ms": 50})

    assert read(broker.address, topic, OffsetRange(0, 0, 500)).values == values


def test_record_timestamps_that_are_not_milliseconds_become_none(broker: EmbeddedBroker, topic: str) -> None:
    topics.create(broker.address, topic, configs={"message.timestamp.after.max.ms": str(2**63 - 1)})
    stamps = [1_700_000_000_123, -(2**62), 1_700_000_000_000_000, 1_700_000_000_000_000_000]
    with closing(KafkaProducer(bootstrap_servers=broker.address)) as producer:
        for stamp in stamps:
            producer.send(topic, b"x", timestamp_ms=stamp).get(timeout=30)

    assert read(broker.address, topic, OffsetRange(0, 0, 4)).stamps == [1_700_000_000_123_000, None, None, None]


def test_messages_that_expand_ten_thousand_times_do_not_fill_the_memory(
    broker: EmbeddedBroker, topic: str, processes: Processes
) -> None:
    topics.create(broker.address, topic, configs={"max.message.bytes": "4000000"})
    zstd: dict[str, str | int] = {"compression.codec": "zstd", "linger.ms": 50}
    large: dict[str, str | int] = {"message.max.bytes": 4_000_000, "batch.size": 4_000_000}
    # Small messages first, because the step that fits them is too large for the large ones.
    topics.send_batches(broker.address, topic, [b"a small message" * 20] * 30_000, options=zstd)
    topics.send_batches(broker.address, topic, [b"x" * 1_000_000] * 1_500, options=zstd | large)

    run = processes.run("-m", "tests.support.consume_memory", broker.address, topic, "31500")

    assert int(run.stdout) < 550
    assert run.stderr == ""


# Failures


def test_offsets_deleted_before_they_were_read_are_gone(broker: EmbeddedBroker, topic: str) -> None:
    topics.create(broker.address, topic, partitions=2)
    topics.send(broker.address, topic, [b"x"] * 5)
    topics.delete_records(broker.address, topic, before=3)

    gone = failure(broker.address, topic, OffsetRange(1, 0, 1), OffsetRange(0, 2, 5))

    assert gone.kind == FailureKind.OFFSET_GONE
    assert gone.detail.startswith("partition 0, offset 2: ")


def test_offsets_deleted_while_they_are_read_are_gone(broker: EmbeddedBroker, topic: str) -> None:
    topics.create(broker.address, topic)
    topics.send_batches(broker.address, topic, LARGE)

    gone = failure(
        broker.address,
        topic,
        OffsetRange(0, 0, len(LARGE)),
        between=lambda: topics.delete_records(broker.address, topic, before=len(LARGE)),
    )

    assert gone.kind == FailureKind.OFFSET_GONE


def test_a_range_beyond_the_log_is_gone_and_one_that_reaches_beyond_makes_no_progress(
    broker: EmbeddedBroker, topic: str
) -> None:
    topics.create(broker.address, topic)
    topics.send(broker.address, topic, [b"x"] * 3)

    assert failure(broker.address, topic, OffsetRange(0, 5, 7)).kind == FailureKind.OFFSET_GONE
    assert failure(broker.address, topic, OffsetRange(0, 1, 7), patience_s=1) == Failure(
        FailureKind.NO_PROGRESS,
        "nothing arrived for 1 s of partition 0 from offset 3 up to 7 (the broker says it ends at 3)",
    )


def test_a_message_whose_checksum_is_wrong_is_raised(own_broker: EmbeddedBroker, topic: str) -> None:
    topics.create(own_broker.address, topic)
    topics.send(own_broker.address, topic, [b"what was written", b"x"])
    segment = own_broker.data_dir / "log" / f"{topic}-0" / "00000000000000000000.log"
    segment.write_bytes(segment.read_bytes().replace(b"what was written", b"what was changed"))

    with pytest.raises(KafkaException) as error:
        read(own_broker.address, topic, OffsetRange(0, 0, 2))
    assert error.value.args[0].code() == KafkaError._BAD_MSG


def test_a_topic_that_is_deleted_while_it_is_read_is_gone(broker: EmbeddedBroker, topic: str) -> None:
    topics.create(broker.address, topic)
    topics.send_batches(broker.address, topic, LARGE)

    gone = failure(
        broker.address,
        topic,
        OffsetRange(0, 0, len(LARGE)),
        between=lambda: topics.delete(broker.address, topic),
    )

    assert gone.kind == FailureKind.TOPIC_GONE
    assert topic in gone.detail


def test_a_topic_that_was_deleted_is_gone_and_is_not_created(own_broker: EmbeddedBroker, topic: str) -> None:
    assert failure(own_broker.address, topic, OffsetRange(0, 0, 1)).kind == FailureKind.TOPIC_GONE
    assert topic not in topics.names(own_broker.address)


def test_a_broker_that_hangs_longer_than_the_limit_is_no_progress_and_a_shorter_time_is_not_noticed(
    own_broker: EmbeddedBroker, topic: str
) -> None:
    topics.create(own_broker.address, topic)
    topics.send_batches(own_broker.address, topic, LARGE)
    everything = OffsetRange(0, 0, len(LARGE))

    def hang() -> None:
        os.kill(own_broker.pid, signal.SIGSTOP)

    try:
        hung = failure(own_broker.address, topic, everything, patience_s=1, between=hang)
        assert hung.kind == FailureKind.NO_PROGRESS
        assert failure(own_broker.address, topic, everything, patience_s=1).kind == FailureKind.NO_PROGRESS
    finally:
        os.kill(own_broker.pid, signal.SIGCONT)
    assert len(read(own_broker.address, topic, everything).offsets) == len(LARGE)


def test_a_broker_that_is_killed_and_comes_back_is_not_noticed(own_broker: EmbeddedBroker, topic: str) -> None:
    topics.create(own_broker.address, topic)
    topics.send_batches(own_broker.address, topic, LARGE)

    killed = threading.Event()

    def kill() -> None:
        os.kill(own_broker.pid, signal.SIGKILL)
        killed.set()

    # The reader polls in another thread, because a broker must be started from the main thread.
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read, own_broker.address, topic, OffsetRange(0, 0, len(LARGE)), between=kill)
        assert killed.wait(30)
        own_broker.stop()
        own_broker.start()
        consumed = reading.result()

    assert consumed.offsets == [(0, offset) for offset in range(len(LARGE))]


def test_a_broker_that_is_away_is_no_progress_and_the_last_event_is_reported(
    topic: str, capfd: pytest.CaptureFixture[str]
) -> None:
    away = failure("127.0.0.1:1", topic, OffsetRange(0, 0, 1), patience_s=1)

    assert away.kind == FailureKind.NO_PROGRESS
    assert "the last event was: 127.0.0.1:1/bootstrap: Connect to" in away.detail
    assert capfd.readouterr() == ("", "")


def test_an_option_that_librdkafka_does_not_know_is_raised_unchanged(topic: str) -> None:
    with pytest.raises(KafkaException, match=r"no\.such\.option"):
        next(consume("127.0.0.1:1", {"no.such.option": "1"}, topic, [OffsetRange(0, 0, 1)]))


# Logins and access rights


def test_every_protocol_and_mechanism_is_read_through_with_the_ca_as_text(secured: Secured, topic: str) -> None:
    topics.create(secured.plain, topic)
    topics.send(secured.plain, topic, [b"x"])

    for address, security in (
        (secured.plain, KafkaSecurity()),
        (secured.ssl, KafkaSecurity("SSL", cafile=secured.cafile)),
        (secured.sasl_ssl, KafkaSecurity("SASL_SSL", "PLAIN", "alice", PASSWORD, secured.cafile)),
        (secured.sasl_ssl, KafkaSecurity("SASL_SSL", "SCRAM-SHA-256", "alice", PASSWORD, secured.cafile)),
    ):
        options = security.for_librdkafka()
        assert read(address, topic, OffsetRange(0, 0, 1), security=options).values == [b"x"], security


def test_a_password_may_hold_any_characters(secured: Secured, topic: str) -> None:
    topics.create(secured.plain, topic)
    topics.send(secured.plain, topic, [b"x"])
    password = " \"quoted\" 'too' a\\b =#,;%{x}$x pässwörd \u2713 "
    add_user(secured.plain, "bob", password)

    options = KafkaSecurity("SASL_SSL", "SCRAM-SHA-256", "bob", password, secured.cafile).for_librdkafka()

    assert read(secured.sasl_ssl, topic, OffsetRange(0, 0, 1), security=options).values == [b"x"]


def test_a_wrong_password_is_a_refused_login_and_is_shown_nowhere(
    secured: Secured, topic: str, capfd: pytest.CaptureFixture[str]
) -> None:
    topics.create(secured.plain, topic)
    options = KafkaSecurity("SASL_SSL", "PLAIN", "alice", "wrong-7", secured.cafile).for_librdkafka()

    refused = failure(secured.sasl_ssl, topic, OffsetRange(0, 0, 1), security=options)

    assert refused.kind == FailureKind.LOGIN_REFUSED
    assert "wrong-7" not in refused.detail
    assert capfd.readouterr() == ("", "")


def test_a_certificate_of_an_unknown_ca_or_for_another_name_is_not_trusted(secured: Secured, topic: str) -> None:
    topics.create(secured.plain, topic)
    topics.send(secured.plain, topic, [b"x"])
    # The same machine, by a name that its certificate does not state.
    other_name = secured.ssl.replace("127.0.0.1", "127.1")
    trusting = KafkaSecurity("SSL", cafile=secured.cafile).for_librdkafka()
    careless = trusting | {"ssl.endpoint.identification.algorithm": "none"}

    for address, options in ((secured.ssl, {"security.protocol": "SSL"}), (other_name, trusting)):
        untrusted = failure(address, topic, OffsetRange(0, 0, 1), security=options, patience_s=1)
        assert untrusted.kind == FailureKind.NO_PROGRESS
        assert "certificate verify failed" in untrusted.detail
    assert read(other_name, topic, OffsetRange(0, 0, 1), security=careless).values == [b"x"]


def test_the_right_to_read_the_topic_is_needed_and_no_right_to_a_group(secured: Secured, topic: str) -> None:
    mine, theirs = topic, f"{topic}-theirs"
    for name in (mine, theirs):
        topics.create(secured.plain, name)
        topics.send(secured.plain, name, [b"x"])
    # As soon as one user has a right to a topic, all others lack it.
    rights: Sequence[tuple[str, ACLOperation, ResourceType, str]] = (
        ("alice", ACLOperation.DESCRIBE, ResourceType.TOPIC, theirs),
        ("bob", ACLOperation.READ, ResourceType.TOPIC, theirs),
        ("bob", ACLOperation.READ, ResourceType.GROUP, "client-tickets"),
    )
    with closing(KafkaAdminClient(bootstrap_servers=secured.plain)) as admin:
        allow = ACLPermissionType.ALLOW
        admin.create_acls(
            [ACL(f"User:{who}", "*", what, allow, ResourcePattern(kind, name)) for who, what, kind, name in rights]
        )
    options = KafkaSecurity("SASL_SSL", "PLAIN", "alice", PASSWORD, secured.cafile).for_librdkafka()

    assert failure(secured.sasl_ssl, theirs, OffsetRange(0, 0, 1), security=options).kind == FailureKind.ACCESS_REFUSED
    assert read(secured.sasl_ssl, mine, OffsetRange(0, 0, 1), security=options).values == [b"x"]


def test_offsets_are_committed_to_a_group_that_one_has_a_right_to_and_to_no_other(secured: Secured, topic: str) -> None:
    topics.create(secured.plain, topic)
    theirs = ResourcePattern(ResourceType.GROUP, f"{topic}-theirs")
    with closing(KafkaAdminClient(bootstrap_servers=secured.plain)) as admin:
        admin.create_acls([ACL("User:bob", "*", ACLOperation.READ, ACLPermissionType.ALLOW, theirs)])
        alice = KafkaSecurity("SASL_SSL", "PLAIN", "alice", PASSWORD, secured.cafile)
        place = Position(topic, "output-1", {0: 3})

        with pytest.raises(
            NotCommitted, match=r"does not let this user \(GroupAuthorizationFailedError\); it takes READ"
        ):
            KafkaGroup(secured.sasl_ssl, alice, theirs.resource_name).commit(place)

        mine = KafkaGroup(secured.sasl_ssl, alice, f"{topic}-mine")
        mine.commit(place)
        (committed,) = admin.list_group_offsets(f"{topic}-mine")[f"{topic}-mine"].values()
        assert (committed.offset, committed.metadata) == (3, "output-1")
        with pytest.raises(NotOurs, match=f"it holds an offset of topic {topic}, partition 0"):
            mine.commit(Position(topic, "output-2", {0: 9}))
