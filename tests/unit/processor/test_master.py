"""A master of a cluster that is there, that is not, and that is late."""

import pytest

from processor.master import require_master
from runtime.errors import SettingError
from tests.support.listeners import free_ports, server


def test_one_of_several_masters_is_enough() -> None:
    (closed,) = free_ports(1)
    with server(b"") as address:
        require_master(f"spark://{address}", patience_s=0)
        require_master(f"spark://127.0.0.1:{closed},{address}", patience_s=0)


def test_a_master_that_cannot_be_reached_is_named_with_what_would_help() -> None:
    first, second = free_ports(2)
    with pytest.raises(SettingError) as caught:
        require_master(f"spark://127.0.0.1:{first},127.0.0.1:{second}", patience_s=0)
    assert str(caught.value) == (
        f"no Spark master can be reached at spark://127.0.0.1:{first},127.0.0.1:{second} "
        f"(127.0.0.1:{first}: Connection refused; 127.0.0.1:{second}: Connection refused); start it, or correct "
        "SPARK_MASTER"
    )
