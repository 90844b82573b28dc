"""The page of designs says what the command prints."""

from pathlib import Path

from benchmarks import design_variants
from benchmarks.alternation import table

PAGE = Path(__file__).parents[2] / "docs" / "design_variants.md"


def test_the_page_has_the_table_that_the_command_prints():
    assert table(*design_variants.as_table()) in PAGE.read_text()
