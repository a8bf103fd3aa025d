"""An output that a test publishes to while a page shows it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from contract.ticket import encode
from runtime.settings.location import OutputLocation
from store.convert import convert
from store.manifest import Manifest
from store.output import Output
from store.status import Progress, State, StatusFile
from tests.support.disks import QuickDisk
from tests.support.staging import messages, publish_batch, ticket


class Published:
    """Writes the datasets and the status that a processor would write."""

    def __init__(self, location: OutputLocation) -> None:
        self.output = Output(location, QuickDisk())
        self.manifest: Manifest | None = None
        self._count = 0

    def tickets(self, count: int, file_format: str = "parquet", ago_s: float = 5, **changes: Any) -> None:
        """Publish a batch of ``count`` equal tickets that were created ``ago_s`` seconds ago."""
        created = datetime.now(UTC) - timedelta(seconds=ago_s)
        plain = {"created_at": created, **changes}
        values = [encode(ticket(self._count + number, **plain)) for number in range(1, count + 1)]
        self._count += count
        self.batch(values, file_format)

    def batch(self, values: Sequence[bytes | None], file_format: str = "parquet") -> None:
        """Publish a batch of messages, and write the status."""
        start = self.manifest.next_offsets[0] if self.manifest else 0
        piece = messages(values, first_offset=start)
        self.manifest = publish_batch(self.output, self.manifest, file_format, [[piece]], datetime.now(UTC))
        self.says("idle")

    def says(
        self,
        state: State,
        ago_s: float = 0,
        interval_s: float = 30,
        progress: Progress | None = None,
        unread: Mapping[int, int] | None = None,
    ) -> None:
        """Write the status that a processor wrote ``ago_s`` seconds ago."""
        self.output.root.mkdir(parents=True, exist_ok=True)
        moment = datetime.now(UTC) - timedelta(seconds=ago_s)
        ends = dict(unread or (self.manifest.next_offsets if self.manifest else {}))
        StatusFile(self.output.root, interval_s, self.output.disk, lambda: moment).set(state, progress, ends)

    def convert(self, file_format: str) -> None:
        """Write everything again in another format."""
        assert self.manifest is not None
        self.manifest = convert(self.output, self.manifest, file_format, datetime.now(UTC))
        self.says("idle")
