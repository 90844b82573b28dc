"""Tables and sentences of a page, rendered from results.

They stand between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import json
import re

from benchmarks import tables_of_report, tables_of_runs

BLOCK = re.compile(r"(?P<begin><!-- table: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def render(text, folder):
    """The text with every table rendered anew.

    Args:
        text: Of a page in Markdown.
        folder: `Path` of the results: a JSON file for each of the longer runs, and `report` with one for each machine.

    Raises:
        ValueError: If the page asks for a table that there is none of, or leaves one out.
    """
    tables = everything(folder)
    asked = [match["name"] for match in BLOCK.finditer(text)]
    if unlike := set(asked) ^ set(tables):
        raise ValueError(f"the page and the tables differ in {sorted(unlike)}: begin each with <!-- table: NAME -->.")
    return BLOCK.sub(lambda match: f"{match['begin']}{tables[match['name']]}\n{match['end']}", text)


def everything(folder):
    """Every table and sentence, by name."""
    runs = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    machines = [json.loads(path.read_text()) for path in sorted((folder / "report").glob("*.json"))]
    return tables_of_report.tables(machines, runs) | tables_of_runs.tables(runs)


def outside_of_tables(text):
    """What of a page is written by hand."""
    return BLOCK.sub("", text)
