"""What the Markdown files say is there: files, commands, options, names and the table of models."""

import ast
import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import keras_video_focalnet
from keras_video_focalnet.cli.main import main

pytestmark = pytest.mark.backend_free

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FOLDERS = ("docs", "benchmarks", "examples")
BESIDE = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
PAGES = [README, *BESIDE, *sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
MODULE_PATH = re.compile(r"[\w/]+/\w+\.py")


def fences(page, language):
    """The contents of the fenced blocks in that language; `""` stands for blocks without one."""
    return [content for found, content in FENCE.findall(page.read_text()) if found == language]


def inline_code(page):
    """What stands between backticks outside fenced blocks, with line breaks as spaces."""
    return [code.replace("\n", " ") for code in INLINE_CODE.findall(FENCE.sub("", page.read_text()))]


def commands(page, program):
    """Every command line of a page that calls the program, as a list of the words behind its name."""
    lines = [line for block in fences(page, "") for line in block.splitlines()]
    found = []
    for line in [*lines, *inline_code(page)]:
        words = line.split()
        while words and ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        if words[:1] == [program]:
            found.append([word for word in shlex.split(line, comments=True) if not ASSIGNMENT.fullmatch(word)][1:])
    return found


def long_options(words):
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def test_readme_is_short_and_begins_with_the_two_commands():
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    first_screen = "\n".join(lines[:25])
    assert "make demo" in first_screen and "make test" in first_screen


@each_page
def test_links_lead_to_files(page):
    for target in LINK.findall(page.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


@each_page
def test_python_blocks_parse_and_import_what_there_is(page):
    for block in fences(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if not isinstance(node, ast.ImportFrom) or node.module.partition(".")[0] != "keras_video_focalnet":
                continue
            if node.module == "keras_video_focalnet":
                missing = {alias.name for alias in node.names} - set(keras_video_focalnet.__all__)
                assert not missing, missing
            else:
                path = ROOT / node.module.replace(".", "/")
                assert path.is_dir() or path.with_suffix(".py").is_file(), node.module


@each_page
def test_modules_that_are_run_are_there_with_their_options(page):
    for words in commands(page, "python"):
        assert words[0] == "-m", words
        spec = importlib.util.find_spec(words[1])
        assert spec is not None, words
        if words[1] == "pytest":
            assert all((ROOT / word).exists() for word in words if word.startswith("tests/")), words
            continue
        source = Path(spec.origin).read_text()
        missing = [option for option in long_options(words) if f'"{option}"' not in source]
        assert not missing, (words, missing)


@each_page
def test_commands_of_video_focalnet_are_there_with_their_options(page):
    for words in commands(page, "video-focalnet"):
        command = main.commands[words[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert long_options(words) <= known, words


@each_page
def test_targets_of_make_are_there(page):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    (backends,) = re.findall(r"^BACKENDS := (.*)$", makefile, re.MULTILINE)
    targets |= {f"test-{backend}" for backend in backends.split()}
    assert {word for words in commands(page, "make") for word in words} <= targets


@each_page
def test_modules_that_are_named_by_their_path_are_there(page):
    for code in inline_code(page):
        for path in MODULE_PATH.findall(code):
            assert any((folder / path).is_file() for folder in (ROOT, ROOT / "keras_video_focalnet")), path


def readme_models():
    """The rows of the table of models: `builder/weights` -> cells by column.

    A row may be of several builders, all of one family or each of its own.
    """
    lines = README.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| family |"))
    header, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines[start : next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))]
    )
    models = {}
    for cells in (dict(zip(header, row, strict=True)) for row in rows):
        builders, sizes = INLINE_CODE.findall(cells["builder"]), cells["model"].split(", ")
        families = cells["family"].split(", ")
        families = families if len(families) > 1 else families * len(builders)
        for builder, size, family in zip(builders, sizes, families, strict=True):
            models[f"{builder}/{cells['weights']}"] = {**cells, "builder": builder, "model": size, "family": family}
    return models


def test_the_table_of_models_is_that_of_the_registry():
    assert sorted(readme_models()) == sorted(keras_video_focalnet.list_models())


def test_the_table_of_models_says_what_the_command_prints():
    result = CliRunner().invoke(main, ["models", "--json"])
    assert result.exit_code == 0, result.output
    printed = {(row["model"], row["weights"]): row for row in json.loads(result.stdout)}
    shown = {(row["model"], row["weights"]): row for row in readme_models().values()}
    assert printed.keys() == shown.keys()
    for key, row in shown.items():
        columns = set(row) & set(printed[key])
        assert {"data set", "classes", "top-1 %", "views", "GMAC a view", "licence"} <= columns
        for column in columns:
            value = printed[key][column]
            assert row[column] == ("" if value is None else str(value)), (key, column)
