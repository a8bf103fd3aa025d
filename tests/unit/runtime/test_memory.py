from pathlib import Path

import pytest

from runtime.process.memory import memory_limit_mib

V1 = "sys/fs/cgroup/memory/memory.limit_in_bytes"
V2 = "sys/fs/cgroup/memory.max"


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal:       16384000 kB\nMemFree: 1 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("name", [V1, V2])
def test_a_container_limit_below_the_machines_memory_counts(tmp_path: Path, name: str) -> None:
    assert memory_limit_mib(machine(tmp_path, {name: "4294967296\n"})) == 4096


@pytest.mark.parametrize(("name", "text"), [(V1, "9223372036854771712\n"), (V2, "max\n")])
def test_without_a_limit_the_machines_memory_counts(tmp_path: Path, name: str, text: str) -> None:
    assert memory_limit_mib(machine(tmp_path, {name: text})) == 16000


def test_where_nothing_can_be_read_nothing_is_known(tmp_path: Path) -> None:
    assert memory_limit_mib(tmp_path) is None
