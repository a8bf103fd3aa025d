"""What is made of the answers of a broker, of Docker and of Compose."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from doctor import broker, docker, topic
from doctor.finding import Finding, ok
from processor.plan import Bounds
from runtime.broker.conversation import StepFailed
from runtime.broker.security import KafkaSecurity
from runtime.errors import BrokerError
from runtime.settings.setting import ROOT
from store.counts import Totals
from store.manifest import Manifest, Partition, Source, Window
from tests.support.listeners import free_ports, server

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
DAY_MS = "86400000"
SOURCE = Source("tickets", "cluster-1", "topic-1")


def test_each_step_is_told_and_the_one_that_failed_is_a_problem() -> None:
    looks: broker.Looks = {"a:1": (["its name resolves to 10.0.0.1"], StepFailed("it is away", "start it"))}
    assert list(broker.judge(looks)) == [
        ok("broker a:1: its name resolves to 10.0.0.1"),
        Finding("problem", "broker a:1: it is away", "start it"),
    ]


def test_one_broker_that_fails_beside_one_that_can_be_used_is_a_warning() -> None:
    looks: broker.Looks = {"a:1": ([], StepFailed("it is away")), "b:1": (["it speaks Kafka"], None)}
    assert [finding.level for finding in broker.judge(looks)] == ["warning", "ok"]
    assert list(broker.addresses(looks)) == ["b:1"]


def test_real_ports_without_a_broker_are_told_apart_in_time() -> None:
    (closed,) = free_ports(1)
    with server(None) as silent, server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as web:
        addresses = f"127.0.0.1:{closed},{silent},{web},nowhere.invalid:1"
        found = [f for f in broker.judge(broker.look(addresses, KafkaSecurity(), 1.0)) if f.level != "ok"]
    assert [finding.level for finding in found] == ["problem"] * 4
    assert (
        found[0].what == f"broker 127.0.0.1:{closed}: TCP connection to 127.0.0.1 refused: nothing listens on this port"
    )
    assert found[1].what == f"broker {silent}: it accepted the connection but did not answer a Kafka request"
    assert found[2].what == f"broker {web}: something other than Kafka listens on this port"
    assert found[3].what.startswith("broker nowhere.invalid:1: the name nowhere.invalid does not resolve (")


def ledger(next_offset: int) -> Manifest:
    partitions = {0: Partition(0, next_offset)}
    return Manifest("o", 1, "c", None, "batch", "parquet", 1, NOON, SOURCE, partitions, Totals(), {})


def test_the_lag_is_told_by_partition_and_in_all() -> None:
    assert list(topic.lag(SOURCE, {0: Bounds(0, 12), 1: Bounds(3, 5)}, ledger(10))) == [
        ok("partition 0: 2 unread, from offset 10 to 12"),
        ok("partition 1: 2 unread, from offset 3 to 5"),
        ok("lag: 4 messages are unread, in all partitions together"),
    ]
    assert list(topic.lag(SOURCE, {0: Bounds(0, 10)}, ledger(10))) == [
        ok("lag: 0 messages are unread, in all partitions together")
    ]


class Topic:
    """A topic that answers at once."""

    def look_up(self) -> tuple[Source, dict[int, Bounds]]:
        return SOURCE, {0: Bounds(0, 12), 1: Bounds(3, 5)}

    def settings(self) -> dict[str, str | None]:
        return {"retention.ms": DAY_MS}


def test_what_lies_after_the_end_of_a_window_is_not_behind() -> None:
    part = msgspec.structs.replace(ledger(10), window=Window("earliest", "2026-01-31T10:00:00Z", {0: 11}))
    answers: Any = Topic()
    assert [finding.what for finding in topic.examine("tickets", answers, part, NOON)][-3:] == [
        "messages are kept for 1 d",
        "partition 0: 1 unread, from offset 10 to 11",
        "lag: 1 message is unread, in all partitions together",
    ]


def test_of_a_window_that_is_published_the_topic_may_be_deleted() -> None:
    class Deleted(Topic):
        def look_up(self) -> tuple[Source, dict[int, Bounds]]:
            raise BrokerError("the broker has no topic")

    part = msgspec.structs.replace(ledger(11), window=Window("earliest", "2026-01-31T10:00:00Z", {0: 11}))
    answers: Any = Deleted()
    assert list(topic.examine("tickets", answers, part, NOON)) == [
        ok("topic tickets from earliest until 2026-01-31T10:00:00Z is published, and nothing more of it is read")
    ]
    # That of another name is none of it.
    with pytest.raises(BrokerError):
        list(topic.examine("others", answers, part, NOON))


@pytest.mark.parametrize(
    ("found", "bounds", "told"),
    [
        (SOURCE, Bounds(13, 20), "topic tickets: partition 0 begins at offset 13"),
        (SOURCE, Bounds(0, 4), "topic tickets: partition 0 ends at offset 4, but 10 were read"),
        (
            Source("tickets", "cluster-2", "topic-1"),
            Bounds(0, 20),
            "topic tickets: the output was written from cluster cluster-1",
        ),
    ],
)
def test_a_topic_that_lost_what_was_not_read_or_is_another_one_is_a_problem(
    found: Source, bounds: Bounds, told: str
) -> None:
    problem = next(topic.lag(found, {0: bounds}, ledger(10)))
    assert problem.level == "problem"
    assert problem.what.startswith(told)
    assert "--accept-gap" in problem.remedy


@pytest.mark.parametrize(
    ("settings", "unread", "behind", "level", "told"),
    [
        ({"retention.ms": DAY_MS}, 5, timedelta(hours=11), "ok", "messages are kept for 1 d"),
        ({"retention.ms": DAY_MS}, 0, timedelta(days=9), "ok", "messages are kept for 1 d"),
        (
            {"retention.ms": DAY_MS},
            5,
            timedelta(hours=13),
            "warning",
            "messages are kept for 1 d; 5 messages are unread, and the last commit was 13 h ago",
        ),
        ({"retention.ms": "-1", "retention.bytes": "-1"}, 5, timedelta(days=99), "ok", "messages are kept for ever"),
        (
            {"retention.ms": DAY_MS, "retention.bytes": "1000000"},
            0,
            timedelta(0),
            "ok",
            "messages are kept for 1 d, and at most 1,000,000 bytes of a partition",
        ),
        (
            {"retention.ms": DAY_MS, "cleanup.policy": "compact"},
            0,
            timedelta(0),
            "warning",
            "cleanup.policy is compact: the broker removes all but the last ticket of a client",
        ),
    ],
)
def test_retention_is_judged_against_what_is_unread(
    settings: dict[str, str | None], unread: int, behind: timedelta, level: str, told: str
) -> None:
    found = topic.retention(settings, unread, NOON - behind, NOON)
    assert (found.level, found.what) == (level, told)


def test_a_topic_of_many_partitions_is_told_in_a_few_lines() -> None:
    found = list(topic.describe(SOURCE, {n: Bounds(0, 5) for n in range(200)}))
    assert len(found) == 10
    assert found[1].what == "partition 0: oldest offset 0, end 5"
    assert found[-1].what == "192 partitions more; 1,000 offsets are held in all"


def answer(told: dict[str, Any]) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.CompletedProcess([], 0, json.dumps(told).encode() + b"\n", b"")


def test_a_daemon_that_answers_is_told_with_its_user_namespace() -> None:
    assert list(docker.daemon(answer({"ServerVersion": "28.2.2"}), {}, True, True)) == [ok("Docker 28.2.2 answers")]
    rootless = answer({"ServerVersion": "28.2.2", "SecurityOptions": ["name=seccomp", "name=rootless"]})
    assert list(docker.daemon(rootless, {}, True, True))[1].what.startswith("Docker is rootless or remaps users")


@pytest.mark.parametrize(
    ("environ", "there", "allowed", "remedy"),
    [
        ({}, False, False, "start it: sudo systemctl start docker, or Docker Desktop"),
        ({}, True, False, "let this user ask it: sudo usermod -aG docker $USER, then log in again"),
        ({}, True, True, "see whether it runs: sudo systemctl status docker"),
        ({"DOCKER_HOST": "tcp://x:1"}, False, False, "correct or unset DOCKER_HOST (tcp://x:1)"),
    ],
)
def test_a_daemon_that_does_not_answer_is_a_warning(
    environ: dict[str, str], there: bool, allowed: bool, remedy: str
) -> None:
    for silent in (None, answer({"ServerVersion": ""}), subprocess.CompletedProcess([], 1, b"no json", b"")):
        (found,) = docker.daemon(silent, environ, there, allowed)
        assert (found.level, found.remedy) == ("warning", remedy)


@pytest.mark.parametrize(
    ("standalone", "plugin", "level", "told"),
    [
        ("1.29.2", None, "ok", "docker-compose 1.29.2"),
        (None, "v2.24.0", "ok", "docker compose v2.24.0"),
        (
            "1.25.0",
            "2.24.0",
            "warning",
            "docker-compose has version 1.25.0, and docker-compose.yml needs 1.29 or later",
        ),
        (None, None, "ok", "Docker Compose is not installed; only make up and make down need it"),
    ],
)
def test_compose_is_judged_by_the_one_that_make_takes(
    standalone: str | None, plugin: str | None, level: str, told: str
) -> None:
    found = docker.compose(standalone, plugin)
    assert (found.level, found.what) == (level, told)


def test_scripts_with_the_line_ends_of_windows_are_a_problem() -> None:
    found = docker.line_ends({"scripts/setup": b"#!/bin/bash\r\n", "Makefile": b"all:\n"})
    assert found.level == "problem"
    assert found.what.startswith("1 scripts have the line ends of Windows (CRLF), such as scripts/setup")


def test_the_scripts_of_this_clone_are_looked_at() -> None:
    names = {str(file.relative_to(ROOT)) for file in docker._scripts(ROOT)}
    assert {"scripts/setup", "processor/docker-entry.sh", "dashboard/docker-entry.sh", ".ci/run", "Makefile"} <= names


@pytest.mark.parametrize(
    ("owner", "user", "level", "told"),
    [
        (1000, 1000, "ok", "/c/data belongs to user 1000: containers write there as that user"),
        (0, 0, "ok", "/c/data belongs to root, so what containers publish there belongs to user 10001"),
        (
            0,
            1000,
            "warning",
            "/c/data belongs to root, so what containers publish there belongs to user 10001, and a processor outside "
            "of them cannot write there",
        ),
        (None, 1000, "warning", "/c/data is missing: Docker would make it, for root"),
    ],
)
def test_the_owner_of_data_is_judged(owner: int | None, user: int, level: str, told: str) -> None:
    found = docker.data_folder(Path("/c/data"), owner, user)
    assert (found.level, found.what) == (level, told)


def test_a_user_namespace_is_told() -> None:
    assert list(docker.user_namespace("         0          0 4294967295\n")) == []
    (found,) = docker.user_namespace("         0     100000      65536\n")
    assert found.what.startswith("this runs in a user namespace: root here is user 100000 outside")
