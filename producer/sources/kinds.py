"""Choose the class that reads a source."""

from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

from producer.sources.config import STDIN, SourceConfig
from producer.sources.file import FileSource
from producer.ticket import RowSource
from runtime.errors import SettingError
from runtime.settings.text_files import read_text


def identity(config: SourceConfig) -> str:
    """Return the identity of a source, for its state: if it differs, the place in the state is not valid."""
    if config.is_sql:
        what = (config.table and f"table {config.table}") or f"query {config.query}"
        return f"{what} by {config.watermark}"
    if config.is_http:
        # The query may say which tickets are wanted. It may hold a secret too, so only its checksum is stored.
        query = urlsplit(config.source).query
        return f"{config.shown} with query {sha256(query.encode()).hexdigest()[:12]}" if query else config.shown
    # A file is recognized by its content, not by its path.
    return "file"


def open_source(config: SourceConfig, wait: Callable[[float], bool]) -> RowSource:
    """Return the source of ``config``; ``wait`` sleeps and returns whether to stop. Raises SettingError."""
    secret = read_text(config.secret_file).strip() if config.secret_file else None
    if config.is_sql:
        _require("sqlalchemy", "pymysql", "cryptography")
        from producer.sources.sql import SqlSource

        return SqlSource(
            config.source,
            secret,
            config.query or config.table or "",
            config.query is not None,
            config.watermark or "",
            dict(config.columns)["ticket_id"],
            config.overlap_s,
        )
    if config.is_http:
        _require("httpx")
        from producer.sources import http

        return http.HttpSource(
            http.connect(secret),
            config.source,
            config.items,
            config.next_link,
            config.cursor,
            config.cursor_parameter,
            wait,
        )
    path = None if config.source == STDIN else Path(config.source)
    return FileSource(path, config.encoding, config.delimiter, config.follow)


def _require(*packages: str) -> None:
    """Raise SettingError if a package is missing that only some sources need."""
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError:
            raise SettingError(
                f"this source needs the package {package}, which is not installed; run `make setup-sources` once"
            ) from None
