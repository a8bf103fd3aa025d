"""From the text of a setting to its value."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runtime.settings import parsers
from runtime.settings.location import OutputLocation


def a_readable_file(text: str) -> Path:
    return parsers.readable_file(text, Path("/"))


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parsers.brokers, "localhost:9092", "localhost:9092"),
        (parsers.brokers, "a:1, [::1]:9092 ,b-2.example.com:65535", "a:1,[::1]:9092,b-2.example.com:65535"),
        (parsers.address, "0.0.0.0", "0.0.0.0"),
        (parsers.address, "::1", "::1"),
        (parsers.address, "metrics.example.com", "metrics.example.com"),
        (parsers.topic, "client.tickets_v-2", "client.tickets_v-2"),
        (parsers.topic, "t" * 249, "t" * 249),
        (parsers.number(0, "20"), "0", 0.0),
        (parsers.number(0, "20"), "0.5", 0.5),
        (parsers.number(0, "20"), "1e3", 1000.0),
        (parsers.integer(1, "4", 10), "10", 10),
        (parsers.choice("parquet", "json", fold=str.lower), "JSON", "json"),
        (parsers.memory, "512m", "512m"),
        (parsers.memory, "4G", "4g"),
        (parsers.spark_master, "local[*]", "local[*]"),
        (parsers.spark_master, "local[2,3]", "local[2,3]"),
        (parsers.spark_master, "spark://a:7077,b:7077", "spark://a:7077,b:7077"),
    ],
)
def test_valid_texts_are_parsed(parse: Callable[[str], Any], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "texts"),
    [
        (parsers.brokers, ["", "localhost", ":9092", "a:0", "a:99999", "a:b", "a:1,,b:2", "http://a:9092", "a b:1"]),
        # The last three the resolver would refuse with an error of its own.
        (parsers.address, ["", "a b", "http://a", "a:80", "[::1]", "..", "a..b", "a" * 64]),
        (parsers.topic, ["", ".", "..", "a b", "a/b", "é", "t" * 250, "a\n"]),
        (parsers.number(0, "20"), ["", "-1", "nan", "inf", "-inf", "1e999", "ten", "0x10"]),
        (parsers.number(0, "20", above=True), ["0"]),
        (parsers.integer(1, "4", 10), ["", "0", "11", "1.5", "1e1", "٣", "1_0", " 5"]),
        (parsers.choice("parquet", "json"), ["", "csv", "JSON"]),
        (parsers.memory, ["", "2x", "2", "511m", "0g", "-1g", "1.5g", "2gb", "512 m"]),
        (parsers.spark_master, ["", "yarn", "local[0]", "local[]", "spark://a", "k8s://a:1", "spark://a:b"]),
        (
            parsers.moment,
            [
                *("", "latest", "now", "2026-01-31", "2026-01-31T09:30:00", "2026-01-31 09:30", "20260131T093000Z"),
                *("2026-01-31T09:30:00+1", "2026-01-31T09:30:00 Z", "2026-01-31T09:30:00CET", "2026-W05-6T09:30:00Z"),
                *(
                    "2026-02-30T09:30:00Z",
                    "2026-01-31T24:30:00Z",
                    "2026-01-31T09:30:60Z",
                    "2026-01-31T09:30:00.1234567Z",
                ),
                *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "٢٠٢٦-01-31T09:30:00Z"),
            ],
        ),
        (parsers.place_in_time, ["", "first", "now", "-1h", "2026-01-31", "2026-01-31T09:30:00"]),
        (a_readable_file, ["", "/nowhere/ca.pem", "/"]),
    ],
)
def test_invalid_texts_are_refused_with_what_would_work(parse: Callable[[str], Any], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=r"^must (be|name|say) "):
            parse(text)


def test_a_readable_file_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()

    assert parsers.readable_file(str(file), Path("/elsewhere")) == file
    assert parsers.readable_file("ca.pem", tmp_path) == file


@pytest.mark.skipif(os.geteuid() == 0, reason="this machine lacks an unprivileged user: root may read every file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch(0o000)

    with pytest.raises(ValueError, match="must name a file that can be read"):
        parsers.readable_file(str(file), tmp_path)


@pytest.mark.parametrize(
    ("text", "path"), [("data/output", "/base/data/output"), ("/absolute", "/absolute"), (".", "/base")]
)
def test_a_relative_path_starts_at_the_base(text: str, path: str) -> None:
    assert parsers.path(text, Path("/base")) == Path(path)
    assert OutputLocation.parse(text, Path("/base")) == OutputLocation(Path(path))


@pytest.mark.parametrize("text", ["s3://bucket/prefix", "file:///data", "hdfs://n:8020/x"])
def test_an_output_location_is_a_folder(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be a folder, e\.g\. data/output$"):
        OutputLocation.parse(text, Path("/base"))


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")

    assert parsers.path("~/out", Path("/base")) == Path("/home/alice/out")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("earliest", "earliest"),
        ("LATEST", "latest"),
        ("2026-01-31T09:30:00Z", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        ("2026-01-31t09:30:00z", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        ("2026-01-31 10:30+01:00", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        ("2026-01-31T09:30:00.25-00:30", datetime(2026, 1, 31, 10, 0, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_a_place_in_time_is_a_word_or_a_time_in_utc(text: str, found: str | datetime) -> None:
    assert parsers.place_in_time(text) == found


def test_a_time_without_a_zone_is_given_back_with_one() -> None:
    with pytest.raises(ValueError, match=r"e\.g\. 2026-01-31T09:30:00Z for UTC or 2026-01-31T09:30:00\+01:00$"):
        parsers.place_in_time("2026-01-31T09:30:00")


def test_a_place_in_time_is_told_in_utc() -> None:
    assert parsers.rfc_3339("latest") == "latest"
    assert parsers.rfc_3339(parsers.moment("2026-01-31T10:30:00+01:00")) == "2026-01-31T09:30:00Z"
    assert parsers.rfc_3339(parsers.moment("2026-01-31T10:30:00.5Z")) == "2026-01-31T10:30:00.500000Z"
