"""Send a source of real tickets, from where the last run stopped."""

import logging
from contextlib import ExitStack

from producer.config import ProducerConfig
from producer.events import GoingOn
from producer.producer import Report, send
from producer.reading import RealTickets
from producer.sources.config import STDIN
from producer.sources.kinds import identity, open_source
from producer.state import State
from runtime.process.heartbeat import Heartbeat
from runtime.process.logs import tell
from runtime.process.shutdown import Shutdown

_log = logging.getLogger(__name__)


def send_source(
    config: ProducerConfig, topic_id: str | None, stop: Shutdown, report: Report, heartbeat: Heartbeat
) -> None:
    """Send what is new in the source of ``config``, and save how far it was sent. Raises PipelineError."""
    source = config.source
    with ExitStack() as stack:
        state = None
        if source.source != STDIN:
            state = stack.enter_context(State(source.state, source.known_as, identity(source), config.topic, topic_id))
            if state.sent.place is not None:
                tell(_log, GoingOn(state.sent.tickets, str(state.file)))
        rows = open_source(source, stop.wait)
        poll_s = source.poll_s if source.follow else None
        tickets = RealTickets(rows, source.rules, state, stop.wait, poll_s, heartbeat).start()
        try:
            send(tickets, config, 0, stop, report)
        finally:
            tickets.close()
