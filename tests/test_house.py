"""Which room of the package may import which, and that no room but its own knows a layer of an architecture."""

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.backend_free

PACKAGE = "keras_video_focalnet"
ROOT = Path(__file__).parents[1] / PACKAGE

# What each room may import besides itself and `labels`.
GROUND = {"utils"}
OPS = GROUND | {"ops"}
LAYERS = OPS | {"layers"}
WEIGHTS = GROUND | {"weights"}
DATA = LAYERS | {"data"}
# A model reads the clips that it takes.
MODELS = DATA | WEIGHTS | {"models"}
FUNCTIONS = MODELS
MAY_IMPORT = {
    "utils": set(),
    "labels": GROUND,
    "ops": GROUND,
    "layers": OPS,
    "weights": GROUND,
    "models": MODELS,
    "data": DATA,
    "training": FUNCTIONS,
    "evaluation": FUNCTIONS,
    "exporting": FUNCTIONS,
    "visualization": FUNCTIONS,
    # What the command line tells it is handed in.
    "app": FUNCTIONS | {"evaluation", "visualization"},
    "cli": FUNCTIONS | {"training", "evaluation", "exporting", "visualization", "app"},
    "__main__.py": {"cli"},
}

# Where the layers of architectures are made and named, and the list of public names.
AT_HOME = ("models/video_focalnet/", "models/sifa/", "models/vita_clip/", "layers/", "ops/")
PUBLIC_NAMES = "__init__.py"
OF_AN_ARCHITECTURE = re.compile(
    r"stage\d|stage\{|_block(?![a-z])|patch_embed|downsample|FocalBlock|VideoFocalNet|SIFA|InterFrameAttention|VitaCLIP|PromptedBlock"
)


def modules():
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


def imports(tree, module):
    """The modules of the package that a module imports anywhere, with their lines."""
    folder = [PACKAGE, *Path(module).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((name.split("."), node.lineno) for name in names if name.split(".")[0] == PACKAGE)


def words(tree):
    """Names and texts of a module's code with their lines; texts that stand alone document and are left out."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield (
                "".join(value.value if isinstance(value, ast.Constant) else "{}" for value in node.values),
                node.lineno,
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in alone and id(node) not in parts:
                yield node.value, node.lineno
        else:
            for field in ("id", "attr", "arg", "name"):
                if isinstance(name := getattr(node, field, None), str):
                    yield name, getattr(node, "lineno", 0)


def test_imports_point_one_way():
    wrong = []
    for module, tree in modules().items():
        room = module.split("/")[0]
        if room == "__init__.py":
            continue
        for (_, *imported), line in imports(tree, module):
            name = imported[0] if imported else "the package itself"
            if name not in {room, "labels", "__version__", *MAY_IMPORT[room]}:
                wrong.append(f"{module}:{line} imports {'.'.join(imported)}")
    assert not wrong, "\n".join(wrong)


def test_every_room_has_its_place():
    assert {module.split("/")[0] for module in modules()} - {"__init__.py"} <= set(MAY_IMPORT)


def test_no_other_room_knows_a_layer_or_class_of_an_architecture():
    found = [
        f"{module}:{line} {word}"
        for module, tree in modules().items()
        if not module.startswith(AT_HOME) and module != PUBLIC_NAMES
        for word, line in words(tree)
        if OF_AN_ARCHITECTURE.search(word)
    ]
    assert not found, "\n".join(found)


def test_what_is_looked_for_is_found_in_code_and_not_in_docstrings():
    code = '"""stage0_block0"""\nname = f"stage{index}"\nVideoFocalNetT = model.patch_embed("a downsample")\n'
    found = [word for word, _ in words(ast.parse(code)) if OF_AN_ARCHITECTURE.search(word)]
    assert sorted(found) == ["VideoFocalNetT", "a downsample", "patch_embed", "stage{}"]
    tree = ast.parse("def call():\n    from keras_video_focalnet.cli import main\nfrom ..models import registry\n")
    assert [name[1] for name, _ in imports(tree, "weights/loading.py")] == ["models", "cli"]
