"""Which clients are erased, known only by digests of their ids. Functions on values: no I/O."""

import hmac
import secrets
from collections.abc import Collection, Iterable, Mapping

from store.manifest import Erasure, Partition
from store.mentions import IsClient

_SALT_BYTES = 16
_DIGEST_BYTES = 16


def erasure_of(client_ids: Collection[str], below: Mapping[int, int]) -> Erasure:
    """Return what the ledger keeps of ``client_ids``, whose messages before the offsets ``below`` were not read yet."""
    salt = secrets.token_hex(_SALT_BYTES)
    ids = [client_id.encode() for client_id in client_ids]
    digests = sorted(_digest(bytes.fromhex(salt), client_id) for client_id in ids)
    return Erasure(salt, digests, sorted({len(client_id) for client_id in ids}), dict(below))


def is_erased(erasure: Erasure) -> IsClient:
    """Return a function that says whether an id belongs to ``erasure``."""
    salt, digests, lengths = bytes.fromhex(erasure.salt), set(erasure.digests), set(erasure.lengths)
    return lambda found: len(found) in lengths and _digest(salt, found) in digests


def _digest(salt: bytes, client_id: bytes) -> str:
    return hmac.digest(salt, client_id, "sha256")[:_DIGEST_BYTES].hex()


def still_to_come(erasures: Iterable[Erasure], partitions: Mapping[int, Partition]) -> list[Erasure]:
    """Return the erasures that still concern messages which were not read yet."""
    return [e for e in erasures if any(not _is_read(partitions.get(p), offset) for p, offset in e.below.items())]


def _is_read(partition: Partition | None, end: int) -> bool:
    return partition is not None and partition.next_offset >= end
