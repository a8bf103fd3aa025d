"""Fixtures of the unit tier."""

import pytest

from store import exchange


@pytest.fixture(autouse=True)
def _no_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no exchange of folders wait for readers where there are none; a test of that wait sets it again."""
    monkeypatch.setattr(exchange, "LISTING_S", 0.0)
