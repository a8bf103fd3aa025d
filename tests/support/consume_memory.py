"""Measure the memory of reading, in MiB: ``python -m tests.support.consume_memory BROKER TOPIC MESSAGES``.

It is a process of its own, because the peak of a process never goes down again.
"""

import sys
import time
from pathlib import Path

from processor.consume import consume
from processor.plan import OffsetRange


def peak_mib() -> int:
    """Return the largest resident size of this process so far."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) >> 10


def main(broker: str, topic: str, messages: int) -> None:
    """Read partition 0 as a task does: one piece at a time, and slower than pieces are fetched."""
    before = peak_mib()
    read = 0
    for piece in consume(broker, {}, topic, [OffsetRange(0, 0, messages)]):
        read += len(piece.messages)
        time.sleep(0.01)
    assert read == messages, f"{read} messages instead of {messages}"
    print(peak_mib() - before)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
