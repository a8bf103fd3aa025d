"""Logging, set up once by an entry point: one event a line on standard error."""

import json
import logging
import sys
import time
from dataclasses import dataclass, fields
from typing import Any, ClassVar

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
FORMATS = ("text", "json")

# Libraries that log each attempt to reconnect as an error, and at DEBUG the bytes of a login. We log the outcome.
_CHATTY = ("kafka", "py4j", "faker")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, with its values: ``str`` is the sentence for people, the fields are for programs.

    A text log shows the sentence. A JSON log has beside it ``event``, which is ``name``, and each field by its name,
    but those that begin with an underscore, which are for the sentence only. docs/logs.md lists all of them.
    """

    name: ClassVar[str]
    level: ClassVar[int] = logging.INFO

    def values(self) -> dict[str, Any]:
        """Return what a JSON log has beside the sentence."""
        names = (field.name for field in fields(self) if not field.name.startswith("_"))
        return {"event": self.name, **{name: _rounded(getattr(self, name)) for name in names}}


def _rounded(value: Any) -> Any:
    """Return a number of seconds, or a rate, to three places."""
    return round(value, 3) if isinstance(value, float) else value


def tell(logger: logging.Logger, event: Event, *, traceback: bool = False) -> None:
    """Log an event, with the traceback of the exception that is being handled if asked for."""
    logger.log(event.level, "%s", event, exc_info=traceback or None, extra={"event": event}, stacklevel=2)


# A file name or a broker's text may hold control characters that move the cursor and so forge a log line.
_SHOWN = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class _TextFormatter(logging.Formatter):
    """Text for people; control characters are written out."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(_SHOWN)


class _JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message; then the values of an event, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        event = getattr(record, "event", None)
        if isinstance(event, Event):
            line |= event.values()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(level: str, log_format: str) -> None:
    """Send everything from ``level`` up to standard error, as text or JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(_TextFormatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.INFO if level == "DEBUG" else logging.CRITICAL)
    logging.getLogger().addFilter(_not_of_py4j)


def _not_of_py4j(record: logging.LogRecord) -> bool:
    """Drop what py4j logs on the root logger when a connection breaks; the filter sees only that logger's own lines."""
    return record.module != "java_gateway"
