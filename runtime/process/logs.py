"""Logging, set up once by an entry point: one event a line on standard error."""

import json
import logging
import sys
import time

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
FORMATS = ("text", "json")

# Libraries that log each attempt to reconnect as an error, and at DEBUG the bytes of a login. We log the outcome.
_CHATTY = ("kafka", "py4j", "faker")


# A file name or a broker's text may hold control characters that move the cursor and so forge a log line.
_SHOWN = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class _TextFormatter(logging.Formatter):
    """Text for people; control characters are written out."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(_SHOWN)


class _JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        event = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False)


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
