"""The documentation site: a page with an example for each public name, tables of the registry, and no dead link."""

import json
import re
from pathlib import Path

import pytest

import keras_video_focalnet
from docs.hooks import links, notebook, parts, reference, repository
from keras_video_focalnet.cli.main import main
from keras_video_focalnet.models import registry

ROOT = Path(__file__).parents[1]
NAMES = reference.names()
backend_free = pytest.mark.backend_free


@backend_free
def test_every_public_name_has_one_page():
    pages = {name.name: name.page for name in NAMES}
    assert {*keras_video_focalnet.__all__, *reference.public_layers()} <= set(pages)
    assert len(set(pages.values())) == len(NAMES)
    assert all(reference.sections().values()), "a section of the reference is empty"


@backend_free
def test_every_page_of_the_reference_is_in_the_menu():
    listed = [page for section in reference.menu()[1:] for entries in section.values() for page in entries]
    assert [place for entry in listed for place in entry.values()] == [name.page for name in NAMES]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.name)
def test_every_public_name_has_an_example_that_runs(name):
    """`make test-docs` runs the examples."""
    docstring = name.docstring()
    assert docstring, f"{name.module}.{name.name} has no docstring"
    assert re.search(r"^ *>>> ", docstring, re.MULTILINE), f"{name.module}.{name.name} has no example that runs"


@backend_free
def test_tables_have_all_builders_and_weights():
    weights, builders = parts.weights(), parts.builders()
    for entry in registry.entries():
        assert f'| `{entry.architecture}` | `"{entry.name}"` |' in weights
    for family in registry.own_families():
        for builder in family.builders:
            assert f"| `{builder.name}` | `--model {builder.short_name}` |" in builders
    assert {line.count("|") for line in weights.splitlines()} == {12}


@backend_free
def test_the_page_of_commands_has_the_help_of_each():
    page = parts.commands()
    for name, command in main.commands.items():
        assert f"## video-focalnet {name}\n" in page
        assert all(option in page for parameter in command.params for option in parameter.opts if option[:2] == "--")


@backend_free
def test_every_page_of_the_site_is_a_file_and_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text()
    for path, place in repository.pages().items():
        assert (ROOT / path).is_file(), path
        assert not place.endswith(".md") or f": {place}\n" in menu, place


@backend_free
def test_links_between_files_become_links_between_pages():
    places = {"docs/a.md": "a.md", "notebooks/b.ipynb": "notebooks/b.md", "README.md": "README.md"}
    text = "[b](../notebooks/b.ipynb#x) [self](#y) [far](https://example.org/a.md)\n```\n[code](../README.md)\n```\n"
    followed, lost = repository.follow_links(text, "docs/a.md", places)
    assert followed == text.replace("../notebooks/b.ipynb#x", "notebooks/b.md#x") and not lost
    assert repository.follow_links("![a](docs/a.md)", "README.md", places) == ("![a](a.md)", [])
    assert repository.follow_links("[home](../README.md)", "notebooks/b.ipynb", places) == ("[home](../README.md)", [])


@backend_free
def test_a_link_to_a_file_that_is_not_on_the_site_is_told():
    assert repository.follow_links("[make](../Makefile)", "docs/a.md", {"docs/a.md": "a.md"})[1] == ["../Makefile"]


@backend_free
def test_a_notebook_becomes_a_page_with_its_outputs(tmp_path):
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["\x1b[31m```\x1b[0m\n"]},
        {"output_type": "display_data", "data": {"image/png": "aGVsbG8=", "text/plain": ["<Figure>"]}},
        {"output_type": "execute_result", "data": {"text/plain": ["42"]}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": ["draw()"], "outputs": outputs},
        {"cell_type": "code", "source": [], "outputs": []},
    ]
    path = tmp_path / "two.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    page, pictures = notebook.render(path)
    assert pictures == {"two_1.png": b"hello"}
    assert page.startswith("# Title\ntext\n\n```python\ndraw()\n```\n\n````text\n```\n````\n\n![")
    assert page.endswith("](two_1.png)\n\n```text\n42\n```\n")


@backend_free
@pytest.mark.parametrize(
    "example", ["    >>> 1\n    1\n", ">>> 1\n1\n", "\n>>> 1\n1"], ids=["indented", "not indented", "after a line"]
)
def test_examples_are_told_as_griffe_knows_them(example):
    from docs.hooks.docstrings import with_examples

    before = "What it is.\n\nReturns:\n    A number.\n\n"
    assert with_examples(f"{before}Example:\n{example}") == f"{before}Examples:\n    >>> 1\n    1\n"
    assert with_examples(before) == before


PAGE = '<html><body><h1 id="top">x</h1>{}</body></html>'
WRONG = {
    '<a href="b.html">gone</a>': "leads to no file",
    '<a href="a.html#middle">no such place</a>': "leads to no place",
    '<a href="#middle">no such place</a>': "leads to no place",
    '<a href="../a.html">outside</a>': "leads to no file",
    '<img src="c.png">': "leads to no file",
    '<script src="https://example.org/x.js"></script>': "is fetched from another host",
    '<link rel="stylesheet" href="//example.org/x.css">': "is fetched from another host",
    '<div style="background: url(https://example.org/x.png)"></div>': "is fetched from another host",
}


@backend_free
@pytest.mark.parametrize("part", WRONG)
def test_dead_links_and_what_is_fetched_are_found(part, tmp_path):
    (tmp_path / "a.html").write_text(PAGE.format(part))
    (fault,) = links.faults(tmp_path)
    assert fault.startswith("a.html: ") and WRONG[part] in fault


@backend_free
def test_a_style_that_fetches_a_font_is_found(tmp_path):
    (tmp_path / "a.css").write_text("@font-face { src: url('https://example.org/x.woff2') } b { color: red }")
    assert links.faults(tmp_path) == ["a.css: https://example.org/x.woff2 is fetched from another host"]


@backend_free
def test_a_whole_site_has_no_fault(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "index.html").write_text(PAGE.format('<a href="../a.html#top">a</a><a href="/">root</a>'))
    good = '<a href="in/">in</a><a href="#top">top</a><a href="https://example.org">far</a><a href="mailto:x@y">m</a>'
    (tmp_path / "a.html").write_text(PAGE.format(f'{good}<img src="data:image/png;base64,AA=="><img src="b%20c.png">'))
    (tmp_path / "b c.png").write_bytes(b"")
    (tmp_path / "index.html").write_text(PAGE.format(""))
    assert links.faults(tmp_path) == []
