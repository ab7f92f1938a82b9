import re
import sys

from benchmarks import awkward
from tests.conftest import ROOT


def own_words(text):
    """The text; on other systems than that of the page, without their words and those of other libraries."""
    if sys.platform == "linux":
        return text
    return re.sub(r"\([^()\n]*\)|\[Errno \d+\] ", "", text)


def test_the_page_has_the_outcomes_that_refusals_and_plain_images_have(tmp_path, monkeypatch):
    page = own_words((ROOT / "docs" / "pictures.md").read_text())
    plain, compared = [], 0
    for i, (label, data, flags) in enumerate(awkward.cases()):
        name, why = label.split(": ", 1)
        refused = own_words(awkward.table_row(name, why, "2; ")[:-1]) in page
        if refused or i < 4:
            folder = tmp_path / str(i)
            folder.mkdir()
            monkeypatch.chdir(folder)
            outcome, clean = awkward.row(name, data, flags, plain)
            assert clean, outcome
            assert own_words(awkward.table_row(name, why, outcome)) in page
            compared += 1
    assert compared > 40
