"""What is kept of the tickets of an output beside its ledger: their clients and, where they are wanted, their ids.

Each stands at a commit. A commit of any kind prepares them for itself before it is made. One that does not costs the
next batch the time to make them again.
"""

from contextlib import closing

from store.clients import open_clients
from store.files import writing
from store.ids import carry_ids
from store.manifest import Manifest
from store.output import Output
from store.staging import Change


def carry_states(output: Output, manifest: Manifest, change: Change) -> None:
    """Let clients and ids stand at the commit ``change``, after which the tickets are still those of ``manifest``.

    Raises OutputUnavailable, and DataConflict when the published tickets are not what they were.
    """
    with closing(open_clients(output, manifest)) as clients, writing(clients.path):
        clients.add(list, change.commit, change.commit_id)
    carry_ids(output, manifest.commit_id, change.commit_id)
