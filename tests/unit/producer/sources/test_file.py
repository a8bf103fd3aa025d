"""Files in many formats, and the place at which reading resumes."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from producer.sources.csv import sniff_delimiter
from producer.sources.file import FileSource
from producer.ticket import Place, Row
from runtime.errors import SettingError

HEADER = "id,text\n"


def rows(file: Path, after: Place | None = None, **given: Any) -> list[Row]:
    with closing(FileSource(file, **given)) as source:
        return [row for batch in source.read(after) for row in batch]


def read(file: Path, after: Place | None = None, **given: Any) -> list[tuple[Any, ...]]:
    """Return the values of the rows, or their problems."""
    return [tuple(row.values.values()) or (row.problem,) for row in rows(file, after, **given)]


def place_after(file: Path, number: int, **given: Any) -> Place:
    """Return the place in the state once the rows up to ``number`` are in the topic."""
    with closing(FileSource(file, **given)) as source:
        found = [row for batch in source.read(None) for row in batch]
        return json.loads(json.dumps(source.keep(found[number - 1].place)))  # type: ignore[no-any-return]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "export.csv"


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("a,b,c", ","),
        ("a;b;c", ";"),
        ("a\tb\tc", "\t"),
        ("a|b", "|"),
        ('"a,b,c,d";e', ";"),
        ("Prix, en euros;Sujet;Type", ";"),
        ("only", ","),
    ],
)
def test_the_delimiter_is_what_the_header_has_outside_of_quotes(header: str, delimiter: str) -> None:
    assert sniff_delimiter(header) == delimiter


@pytest.mark.parametrize(
    "content",
    [
        b'id,text\n1,"caf\xc3\xa9\n2, ""no"""\n2,b\n',
        b'\xef\xbb\xbfid,text\r\n1,"caf\xc3\xa9\n2, ""no"""\r\n2,b\r\n',
        b'id;text\n1;"caf\xc3\xa9\n2, ""no"""\n\n2;b',
        b'sep=;\r\n"id";"text"\r\n1;"caf\xc3\xa9\n2, ""no"""\r\n2;b\r\n',
        'id\ttext\n1\t"café\n2, ""no"""\n2\tb\n'.encode("utf-16"),
        gzip.compress(b'id,text\n1,"caf\xc3\xa9\n2, ""no"""\n2,b\n'),
        b'{"id": "1", "text": "caf\xc3\xa9\\n2, \\"no\\""}\n\n{"id": "2", "text": "b"}\n',
        gzip.compress('\ufeff{"id": "1", "text": "café\\n2, \\"no\\""}\n{"id": "2", "text": "b"}'.encode()),
    ],
    ids=["plain", "bom, crlf", "semicolons", "excel", "utf-16", "gzip", "json", "packed json"],
)
def test_the_same_content_in_many_file_formats(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert read(file) == [("1", 'café\n2, "no"'), ("2", "b")]


def test_a_named_encoding_and_delimiter_count(file: Path) -> None:
    file.write_bytes(b"id#text\n1#caf\xe9\n")
    assert read(file, encoding="cp1252", delimiter="#") == [("1", "café")]


def test_another_encoding_is_named_with_the_byte_and_what_would_work(file: Path) -> None:
    file.write_bytes(b"id,text\n1,a\n2,caf\xe9\n3,c\n")
    with pytest.raises(SettingError, match=r"must be in UTF-8, found the byte 0xe9 at offset 17, .* --encoding cp1252"):
        read(file)
    # With --encoding, rows with other bytes are bad rows, and the file is read.
    assert read(file, encoding="utf-8") == [
        ("1", "a"),
        ("holds bytes that are not in the encoding of the file",),
        ("3", "c"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "is a zip file or an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an Excel workbook; unpack it, or save it as CSV"),
        (lzma.compress(b"id,text\n1,a\n"), "is compressed with xz"),
        (bz2.compress(b"id,text\n1,a\n"), "is compressed with bzip2"),
        (b"\x28\xb5\x2f\xfd\x04", "is compressed with zstd"),
        (b"%PDF-1.7\n", "is a PDF"),
        (b'{"tickets": [\n{"id": 1}\n]}', "it is an array, or one JSON value over several lines"),
        (b'{\n  "tickets": []\n}', "it is an array, or one JSON value over several lines"),
        (b'[{"id": 1}]', r"; turn it into lines with the program jq: jq -c '\.\[\]' FILE, or"),
        (b"i\0d\0,\0", "name its encoding, e.g. --encoding utf-16-le"),
        (gzip.compress(b"id,text\n" + b"1,abc\n" * 90_000)[:-40], "is compressed, and damaged or cut off"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_a_remedy(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingError, match=message):
        read(file)


def test_a_bad_row_does_not_affect_other_rows(file: Path) -> None:
    file.write_bytes(b'id,text\n1,a\n2\n3,c,c\n4,"d" d\n5,e\n\n6,"f\n7,g\n')
    found = rows(file)
    assert [(row.number, row.problem or tuple(row.values.values())) for row in found] == [
        (1, ("1", "a")),
        (2, "has 1 fields, and the first line names 2 columns"),
        (3, "has 3 fields, and the first line names 2 columns"),
        (4, "is not CSV: ',' expected after '\"'"),
        (5, ("5", "e")),
        (6, "is not CSV: unexpected end of data"),
        (7, ("7", "g")),
    ]
    # The rest of the sixth row may still be written, so the next run begins there.
    assert found[6].place["offset"] == found[4].place["offset"]


def test_bad_json_lines_do_not_affect_other_lines(file: Path) -> None:
    file.write_bytes(b'{"id": 1}\n{"id": \n[2]\n{"id": 3}\n{"id": ')
    assert [row.problem or row.values["id"] for row in rows(file)] == [
        1,
        "is not JSON: Input data was truncated",
        "is not a JSON object",
        3,
        "the file ends in the middle of it",
    ]


def test_a_repeated_column_is_the_first_of_its_name(file: Path) -> None:
    file.write_text("Labels,Id,Labels\na,1,b\n")
    assert rows(file)[0].values == {"Labels": "a", "Id": "1"}


def test_reading_resumes_after_any_row(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbfid,text\r\n1,"a\r\nb"\r\n2,b\r\n3,c')
    assert read(file, place_after(file, 1)) == [("2", "b"), ("3", "c")]
    assert read(file, place_after(file, 2)) == [("3", "c")]
    assert read(file, place_after(file, 3)) == []
    assert rows(file, place_after(file, 2))[0].number == 3


def test_a_file_that_grew_is_read_from_where_it_ended(file: Path) -> None:
    file.write_text("id,text\n1,a\n2,b")
    place = place_after(file, 2)
    file.write_text("id,text\n1,a\n2,b\n3,c\n")
    assert [(row.number, *row.values.values()) for row in rows(file, place)] == [(3, "3", "c")]
    # The last line looked like a complete row, but was not.
    file.write_text("id,text\n1,a\n2,bb\n3,c\n")
    assert [(row.number, *row.values.values()) for row in rows(file, place)] == [(2, "2", "bb"), (3, "3", "c")]


def test_another_file_under_the_same_name_is_read_from_its_start(file: Path) -> None:
    file.write_text("id,text\n1,a\n2,b\n")
    place = place_after(file, 2)
    file.write_text("id,text\n1,A\n2,b\n3,c\n")
    assert read(file, place) == [("1", "A"), ("2", "b"), ("3", "c")]
    file.write_text("id,text\n1,a\n")
    assert read(file, place) == [("1", "a")]


def test_a_compressed_file_is_resumed_only_if_it_is_unchanged(file: Path) -> None:
    file.write_bytes(gzip.compress(b"id,text\n1,a\n2,b\n3,c\n", mtime=0))
    place = place_after(file, 2)
    assert read(file, place) == [("3", "c")]
    file.write_bytes(gzip.compress(b"id,text\n1,a\n2,b\n3,c\n4,d\n", mtime=0))
    assert len(read(file, place)) == 4


def test_the_rest_of_a_file_that_was_rotated_between_two_runs_is_read_first(file: Path) -> None:
    file.write_text("id,text\n1,a\n2,b\n")
    place = place_after(file, 1)
    file.rename(file.with_name("export.csv.1"))
    file.write_text("id,text\n3,c\n")
    assert read(file, place) == [("2", "b"), ("3", "c")]


class Follower:
    """Polls a file as the producer does."""

    def __init__(self, file: Path) -> None:
        self._source = FileSource(file, follow=True)
        self._after: Place | None = None

    def close(self) -> None:
        self._source.close()

    def poll(self) -> list[tuple[Any, ...]]:
        found = []
        for batch in self._source.read(self._after):
            self._after = batch[-1].place
            found += [tuple(row.values.values()) or (row.problem,) for row in batch]
        return found


@pytest.fixture
def follow() -> Iterator[Callable[[Path], Follower]]:
    with ExitStack() as stack:
        yield lambda file: stack.enter_context(closing(Follower(file)))


def test_a_file_is_followed_while_it_grows(file: Path, follow: Callable[[Path], Follower]) -> None:
    file.write_text("")
    follower = follow(file)
    assert follower.poll() == []
    written: Iterator[tuple[str, list[tuple[str, str]]]] = iter(
        [
            ("id,te", []),
            ("xt\n1,", []),
            ("a\n2,b", [("1", "a")]),
            ('\n3,"c\n', [("2", "b")]),
            ('d"', []),
            ("\n", [("3", "c\nd")]),
            ("", []),
        ]
    )
    for text, expected in written:
        with file.open("a") as out:
            out.write(text)
        assert follower.poll() == expected, text


def test_a_file_is_followed_when_it_is_rotated_or_truncated(file: Path, follow: Callable[[Path], Follower]) -> None:
    file.write_text("id,text\n1,a\n")
    follower = follow(file)
    assert follower.poll() == [("1", "a")]
    with file.open("a") as out:
        out.write("2,b\n3,c")
    file.rename(file.with_name("old"))
    # The new file does not exist yet.
    assert follower.poll() == [("2", "b")]
    file.write_text("id,text\n4,d\n")
    assert follower.poll() == [("3", "c"), ("4", "d")]
    file.write_text("id,text\n")
    assert follower.poll() == []
    with file.open("a") as out:
        out.write("5,e\n")
    assert follower.poll() == [("5", "e")]
    # The file is longer than before, but it is another one.
    file.write_text("id,text\n6,ffffffff\n7,g\n")
    assert follower.poll() == [("6", "ffffffff"), ("7", "g")]


def test_what_cannot_be_followed_is_refused(file: Path) -> None:
    file.write_bytes(gzip.compress(b"id\n1\n"))
    with pytest.raises(SettingError, match="is compressed; --follow cannot follow that"):
        read(file, follow=True)
