"""What becomes of text that somebody else wrote."""

from runtime.process.foreign_text import on_one_line, visible


def test_invisible_and_direction_changing_characters_are_written_out() -> None:
    assert visible("a\u202eb\u200bc\x00d\ne\tf") == "a\\u202eb\\u200bc\\u0000d\ne\tf"
    assert visible("مرحبا <b>é</b>") == "مرحبا <b>é</b>"


def test_ends_of_lines_and_tabs_become_signs_where_there_is_one_line() -> None:
    assert on_one_line("a\nb\tc\rd\x1b[31me") == "a⏎b→c\\u000dd\\u001b[31me"
