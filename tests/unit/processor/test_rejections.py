"""The line of the log on rejected messages."""

from processor.receipt import Receipt, decode_receipt, encode_receipt
from processor.rejections import MOST_KINDS, Rejections, count_rejections, told
from tests.support import golden

BAD_PRIORITY = "priority: must be one of low, medium, high, critical"


def test_the_three_commonest_reasons_are_told_with_a_count_and_an_offset_each() -> None:
    first = {
        "not UTF-8 but UTF-16": Rejections(120_000, 0, 17),
        "empty message": Rejections(1, 0, 5),
        BAD_PRIORITY: Rejections(20, 0, 9),
    }
    second = {"not UTF-8": Rejections(15, 3, 1), "not UTF-8 but UTF-16": Rejections(4, 3, 2_000_000)}
    assert str(told(7, 120_042, [first, second])) == (
        "120,040 of 120,042 messages were rejected as invalid; rejected_messages holds them with the reason: "
        "120,004 times not UTF-8 but UTF-16 (as at offset 17 of partition 0); "
        "20 times priority: must be one of low, medium, high, critical (as at offset 9 of partition 0); "
        "15 times not UTF-8 (as at offset 1 of partition 3); and others"
    )


def test_a_single_reason_is_named_without_others() -> None:
    assert str(told(7, 9, [{"no value (a tombstone)": Rejections(2, 1, 3)}, {}])) == (
        "2 of 9 messages were rejected as invalid; rejected_messages holds them with the reason: "
        "2 times no value (a tombstone) (as at offset 3 of partition 1)"
    )


def test_reasons_are_counted_by_kind_and_the_log_shows_nothing_of_a_message() -> None:
    known: dict[str, Rejections] = {}
    count_rejections(
        known,
        [
            (f'{BAD_PRIORITY}, found "secret, found"', 2, 40),
            (f"{BAD_PRIORITY}, found null", 2, 41),
            ("not JSON: JSON is malformed: invalid character (byte 1)", 2, 42),
            ("not JSON: JSON is malformed: invalid character (byte 77)", 2, 43),
        ],
    )
    assert known == {
        BAD_PRIORITY: Rejections(2, 2, 40),
        "not JSON: JSON is malformed: invalid character": Rejections(2, 2, 42),
    }


def test_a_receipt_stays_small_whatever_is_in_the_topic() -> None:
    known: dict[str, Rejections] = {}
    count_rejections(known, ((f"reason {number}", 0, number) for number in range(100_000)))
    assert len(known) == MOST_KINDS + 1
    assert known["other reasons"] == Rejections(100_000 - MOST_KINDS, 0, MOST_KINDS)
    receipt = Receipt(reasons=known)
    assert len(encode_receipt(receipt)) < 2_000
    assert decode_receipt(encode_receipt(receipt)) == receipt
    event = told(7, 100_000, [known])
    assert str(event).startswith("100,000 of 100,000 messages were rejected as invalid;")
    assert (event.batch, event.read, event.rejected, len(event.reasons)) == (7, 100_000, 100_000, MOST_KINDS + 1)
    assert event.reasons["reason 0"] == 1


def test_all_golden_rejections_together_have_few_kinds() -> None:
    known: dict[str, Rejections] = {}
    count_rejections(known, ((example.reason, 0, number) for number, example in enumerate(golden.rejected())))
    assert "not a JSON object" in known
    assert len(known) < 40
    assert not any("found" in kind or "(byte" in kind for kind in known)
