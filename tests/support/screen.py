"""A display that records what it shows."""

from runtime.process.logs import Event


class Screen:
    """Takes a line every five seconds."""

    every_s = 5.0

    def __init__(self) -> None:
        self.lines: list[str] = []

    def show(self, progress: Event) -> None:
        """Record a line."""
        self.lines.append(str(progress))

    def close(self) -> None:
        """Record that it was closed."""
        self.lines.append("closed")
