"""The errors that a user can meet, each with its exit code.

    PipelineError
    ├── SettingError        2  a setting or flag that cannot be used
    ├── BrokerError         3  the broker, the topic or the source of tickets cannot be reached
    │   └── SourceUnreachable  the database or API that tickets come from; trying again may help
    ├── DataConflict        4  going on would lose or mix data
    ├── OutputUnavailable   5  the output or the source is locked, not writable or full
    └── NotAcknowledged     6  some tickets were not acknowledged by the broker

A message says what was wrong, what was found and what would work. These print no traceback; anything else is a bug,
prints one and exits 1.
"""


class PipelineError(Exception):
    """An expected failure; ``exit_code`` is what the process ends with."""

    exit_code = 1


class SettingError(PipelineError):
    """A setting or flag that cannot be used."""

    exit_code = 2


class BrokerError(PipelineError):
    """The broker, the topic or the source of tickets cannot be reached."""

    exit_code = 3


class SourceUnreachable(BrokerError):
    """The database or API that tickets come from cannot be reached; this may be transient."""


class DataConflict(PipelineError):
    """Going on would lose or mix data."""

    exit_code = 4


class OutputUnavailable(PipelineError):
    """The output or the source is locked, not writable or full."""

    exit_code = 5


class NotAcknowledged(PipelineError):
    """Some tickets were not acknowledged by the broker."""

    exit_code = 6
