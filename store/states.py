"""The caches beside the ledger: the clients of all tickets and, with ``--dedupe all``, the ids of all tickets.

Each cache belongs to a commit. A commit of any kind prepares them before it is made; otherwise the next batch has to
make them again from the published tickets, which takes time.
"""

from contextlib import closing

from store.clients import open_clients
from store.files import writing
from store.ids import carry_ids
from store.manifest import Manifest
from store.output import Output
from store.staging import Change


def carry_states(output: Output, manifest: Manifest, change: Change) -> None:
    """Prepare clients and ids for the commit ``change``, which leaves the tickets as they are in ``manifest``.

    Raises OutputUnavailable, and DataConflict when the published tickets were changed.
    """
    with closing(open_clients(output, manifest)) as clients, writing(clients.path):
        clients.add(list, change.commit, change.commit_id)
    carry_ids(output, manifest.commit_id, change.commit_id)
