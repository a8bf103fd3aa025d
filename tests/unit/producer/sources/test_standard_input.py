"""Standard input that another program is still writing to."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from producer.sources.standard_input import ArrivingLines
from runtime.settings.setting import ROOT

# Prints each row at once; a thread reads, as in the producer. At a stop it ends when that thread waits for input.
READER = """
import signal, sys, threading, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
from producer.sources.file import FileSource

def read():
    for rows in FileSource(None).read(None):
        print(*(row.values["text"] for row in rows), flush=True)

thread = threading.Thread(target=read, daemon=True)
thread.start()
signal.sigwait([signal.SIGTERM])
while sys._current_frames()[thread.ident].f_code.co_name != "readline":
    time.sleep(0.01)
time.sleep(0.01)
"""


@pytest.fixture
def pipe() -> Iterator[tuple[ArrivingLines, BinaryIO]]:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb", buffering=0) as writer:
        yield ArrivingLines(reader), writer


def test_lines_are_known_to_be_there_before_they_are_read(pipe: tuple[ArrivingLines, BinaryIO]) -> None:
    lines, writer = pipe
    assert lines.waiting()
    writer.write(b"a\nb\nc")
    assert not lines.waiting()
    assert lines.readline() == b"a\n"
    assert not lines.waiting()
    assert lines.readline() == b"b\n"
    assert lines.waiting()
    writer.close()
    assert not lines.waiting()
    assert [lines.readline(), lines.readline()] == [b"c", b""]


def test_a_row_is_read_when_it_is_written_and_a_stop_does_not_wait_for_the_next_one() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", READER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as reader:
        assert reader.stdin
        assert reader.stdout
        assert reader.stderr
        # A row that does not come must not hold up the tests.
        deadline = threading.Timer(30, reader.kill)
        deadline.start()
        reader.stdin.write(b"text\nfirst\n")
        assert reader.stdout.readline() == b"first\n"
        reader.stdin.write(b"second\n")
        assert reader.stdout.readline() == b"second\n"
        # The reader waits for a third row now.
        reader.terminate()
        assert reader.wait() == 0, reader.stderr.read().decode()
        deadline.cancel()


@pytest.mark.parametrize(
    ("redirection", "result"),
    [("<&-", "standard input is closed; redirect a file to it: --source - < tickets.csv"), ("</dev/null", "[]")],
)
def test_a_process_with_nothing_at_its_standard_input(redirection: str, result: str) -> None:
    code = """
from producer.sources.file import FileSource
from runtime.errors import SettingError
try:
    print(list(FileSource(None).read(None)))
except SettingError as error:
    print(error)
"""
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == f"{result}\n"
