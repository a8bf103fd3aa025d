"""What the ledger keeps of erased clients."""

from store.erasure import erasure_of, is_erased, still_to_come
from store.manifest import Erasure, Partition


def test_an_erasure_recognizes_the_clients_without_keeping_their_ids() -> None:
    erasure = erasure_of(["CLIENT_1", "Zoë"], {0: 7})
    known = is_erased(erasure)
    assert [known(each) for each in (b"CLIENT_1", "Zoë".encode(), b"CLIENT_2", b"CLIENT_11", b"")] == [
        *(True, True),
        *(False, False, False),
    ]
    assert erasure.lengths == [4, 8]
    assert erasure.below == {0: 7}
    assert "CLIENT_1" not in repr(erasure)


def test_the_same_client_has_another_digest_each_time() -> None:
    assert not set(erasure_of(["CLIENT_1"], {}).digests) & set(erasure_of(["CLIENT_1"], {}).digests)


def test_the_digest_is_the_one_that_other_programs_compute() -> None:
    # printf CLIENT_1 | openssl dgst -sha256 -mac HMAC -macopt hexkey:00112233445566778899aabbccddeeff
    erasure = Erasure("00112233445566778899aabbccddeeff", ["cc69972806ba605955c98ad17d3ec120"], [8], {})
    assert is_erased(erasure)(b"CLIENT_1")


def test_an_erasure_is_kept_until_all_its_messages_were_read() -> None:
    erasure = Erasure("", [], [], {0: 10, 3: 4})
    assert still_to_come([erasure], {0: Partition(0, 9), 3: Partition(0, 4)}) == [erasure]
    assert still_to_come([erasure], {0: Partition(0, 12)}) == [erasure]
    assert still_to_come([erasure], {0: Partition(0, 10), 3: Partition(0, 4)}) == []
