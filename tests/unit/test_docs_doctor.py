"""What docs/doctor.md says of the doctor is in the code, and proved by tests that exist."""

import re

from runtime.settings.setting import ROOT
from tests.support import documents

ROWS = documents.table(
    documents.section(documents.read("docs/doctor.md"), "What users of such pipelines complain about")
)


def test_every_pain_names_a_message_that_the_code_writes() -> None:
    written = list(documents.strings_of_the_code())
    assert len(ROWS) > 25
    assert [message for _, message, _ in ROWS if not any(message in string for string in written)] == []


def test_every_pain_names_a_test_that_exists() -> None:
    for pain, _, proof in ROWS:
        assert pain
        file, _, name = proof.partition("::")
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), proof
