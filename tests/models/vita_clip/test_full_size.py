"""The model of full size: names, sizes, cost, the original's training checkpoint there and back, and logits."""

import json
import math

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models import registry
from tests.models.vita_clip.models import BARE, arrays, clips, rendering, training_checkpoint, undrawn
from tests.vita_golden import SINGLE, folder

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.slow

KINDS = {"summary": "use_summary_token", "local": "use_local_prompts", "global": "use_global_prompts"}
NAMES = ("opening a door", "closing a door", "hurling (sport)", "passing American football (in game)")


@pytest.fixture(scope="module")
def golden():
    return json.loads((folder("full_size") / "shapes.json").read_text())


@pytest.fixture(scope="module")
def state():
    """A random state in the reference's names, by PyTorch, and the file that its training saves."""
    model = rendering({}, kvf.load_labels("k400"), spread=0.02)
    return training_checkpoint(model), arrays(model.state_dict())


@pytest.fixture(scope="module")
def model(state, tmp_path_factory):
    """The model with the weights of the file."""
    path = tmp_path_factory.mktemp("full") / "training.pth"
    torch.save(state[0], path)
    with undrawn():
        made = kvf.VitaCLIPB(weights=path, class_names="k400")
    assert kvf.load_weights(made, path) == []
    path.unlink()
    return made


def built(**options):
    with undrawn():
        return kvf.VitaCLIPB(weights=None, **options)


def expected_entries(golden):
    entries = {}
    for name, entry in golden["entries"].items():
        for number in range(12) if "{0..11}" in name else [0]:
            entries[name.replace("{0..11}", str(number))] = entry
    return entries


def trained(model):
    """Names and sizes of what trains and of all parameters, by the reference."""
    trains = {id(variable) for variable in model.trainable_variables}
    sizes = {name: math.prod(slot.reference_shape) for name, slot in model.network.slots().items()}
    del sizes["text_features"]
    names = {name for name, slot in model.network.slots().items() if id(slot.variable) in trains}
    return names, sum(sizes[name] for name in names), sum(sizes.values())


def test_names_shapes_and_what_trains(model, golden):
    entries, (names, training, total) = expected_entries(golden), trained(model)
    assert len(entries) == 512
    shapes = {name: list(slot.reference_shape) for name, slot in model.network.slots().items()}
    shapes |= {
        name: list(array.shape) for name, array in model.unused_state(model.network).items() if array is not None
    }
    del shapes["text_features"]
    assert shapes == {name: shape for name, (shape, _) in entries.items()}
    assert names == {name for name, (_, kind) in entries.items() if kind == "trained"}
    counts = golden["parameters_by_part"]
    assert (total, training) == (counts["total"], counts["trainable"]) == (186_867_457, 30_158_849)
    assert registry.find_entry("VitaCLIPB", "k400").parameters == total
    # Keras counts what it keeps of the texts besides, which never trains.
    assert model.count_params() == total + 400 * 512
    assert sum(math.prod(variable.shape) for variable in model.trainable_variables) == training


def test_the_originals_training_checkpoint_there_and_back(model, state):
    """Bit for bit, all 512 entries."""
    written = model.state(unused=True)
    assert len(written) == 512 and written.keys() == state[1].keys()
    for name, array in state[1].items():
        assert written[name].dtype == array.dtype and written[name].tobytes() == array.tobytes(), name


def of_reference(model):
    """Multiply-adds as the reference counts them: of the vision tower with its projection alone.

    It projects the class token of every frame and then takes the mean; ours takes the mean and then projects it, and
    compares it with each class.
    """
    frames, classes = model.input_shape[1], model.output_shape[-1]
    width, features = 768, 512
    return kvf.count_macs(model) - width * features - classes * features + frames * width * features


def test_multiply_adds(model, golden):
    assert of_reference(model) == golden["gmac"]["vision_8_frames"] == 149_296_447_488
    assert round(of_reference(model) / 1e9, 2) == registry.find_entry("VitaCLIPB", "k400").gmac


@pytest.mark.parametrize("prompts", [(), *((kind,) for kind in KINDS)], ids=lambda kinds: "".join(kinds) or "none")
def test_sizes_and_cost_of_other_prompts(golden, prompts):
    model = built(class_names="k400", prompts=prompts)
    case = KINDS[prompts[0]] if prompts else "no prompts"
    assert of_reference(model) == golden["gmac"][f"vision_8_frames {case}"]
    parts = {"local": "local_prompts", "global": "global_prompts", "summary": "summary_"}
    left_out = [part for kind, part in parts.items() if kind not in prompts]
    if not {"summary", "local"} & set(prompts):
        left_out.append("cls_proj")
    wanted = {
        name: math.prod(shape)
        for name, (shape, kind) in expected_entries(golden).items()
        if kind != "buffer" and not any(part in name for part in left_out)
    }
    assert set(model.network.slots()) == {*wanted, "text_features"}
    assert trained(model)[2] == sum(wanted.values())


def test_sizes_and_cost_of_16_frames(golden):
    model = built(class_names="k400", num_frames=16)
    assert of_reference(model) == golden["gmac"]["vision_16_frames"]
    assert list(trained(model)[:0:-1]) == golden["gmac"]["params_16_frames"] == [186_947_329, 30_238_721]


def test_logits():
    """Of one clip, by the rendering and by ours in float32; a wrong reading moves them by 3e-4 or more."""
    reference = rendering({}, NAMES, spread=0.02)
    ours, clip = built(class_names=NAMES, **BARE), clips((8, 224, 224, 3), count=1)
    assert ours.load_state(arrays(reference.state_dict())) == []
    with torch.no_grad():
        taps = {}
        wanted = reference(torch.tensor(clip).permute(0, 4, 1, 2, 3), taps=taps).numpy()
    error = np.abs(ours.predict(clip, verbose=0) - wanted).max()
    assert error < SINGLE, (error, wanted)
    for name, array in (
        ("video_features", ours.video_features(clip)),
        ("text_features", keras.ops.convert_to_numpy(ours.text_features)),
    ):
        relative = np.abs(array - taps[name].numpy()).max() / np.abs(taps[name].numpy()).max()
        assert relative < 1e-5, (name, relative)
    assert np.ptp(wanted) > 0.01
