"""Our PyTorch rendering of Vita-CLIP against golden data, and against Transformers' CLIP."""

import inspect
import json
import re

import numpy as np
import pytest

from tests.golden import expected, golden

torch = pytest.importorskip("torch")

from tests.clip_states import hugging_face_state, openai_state, start_state  # noqa: E402
from weights_conversion.torch_reference import load_checkpoint  # noqa: E402
from weights_conversion.torch_reference_vita_clip import VisionTower, VitaCLIP  # noqa: E402

pytestmark = pytest.mark.backend_free

LEARNED = ("all_prompts", "local_middle_shared", "global_front")
ZERO_SHOT = ("zeroshot_templates", "summary_only", "no_prompts")
# What float64 adds by rounding, and what storing in float32 does, relative to the largest value of an array.
DOUBLE, STORED = 1e-9, 1e-6
SMALL = {
    "input_size": (16, 16),
    "patch_size": (8, 8),
    "num_frames": 1,
    "feature_dim": 12,
    "num_heads": 3,
    "num_layers": 2,
    "embed_dim": 6,
    "text_transformer_width": 8,
    "text_transformer_heads": 2,
    "text_transformer_layers": 2,
    "text_vocab_size": 50,
    "text_context_length": 9,
    "text_num_prompts": 2,
}
TOKENS = np.array([[48, 9, 9, 4, 2, 49, 0, 0, 0], [48, 9, 9, 5, 49, 0, 0, 0, 0]])


def config_of(name):
    return json.loads((golden(f"vita_clip/{name}") / "config.json").read_text())


def state_of(name):
    state = load_checkpoint(golden(f"vita_clip/{name}") / "checkpoint.pth")
    return {key.removeprefix("module."): value for key, value in state.items()}


def options_of(name):
    """The golden configuration as arguments of `VitaCLIP`."""
    known = {*inspect.signature(VitaCLIP).parameters, *inspect.signature(VisionTower).parameters}
    return {key: value for key, value in config_of(name).items() if key in known}


def texts_of(name):
    data = expected(f"vita_clip/{name}")
    if "tokens" in data:
        return data["tokens"], data["name_lengths"]
    state = state_of(name)
    if "prompt_learner.ctx" not in state:
        return None, None
    # The ids of the names are not in this folder; their vectors are in the checkpoint.
    ids = {vector.numpy().tobytes(): number for number, vector in enumerate(state["textual.token_embedding.weight"])}
    start, names = (state[f"prompt_learner.token_{part}"].numpy() for part in ("prefix", "suffix"))
    context = np.repeat(start, config_of(name)["text_num_prompts"], 1)
    return [[ids[vector.tobytes()] for vector in text] for text in np.concatenate([start, context, names], 1)], None


def build(name):
    """The golden model in float64, and the text features that it takes where it has none of its own."""
    model = VitaCLIP(*texts_of(name), **options_of(name))
    model.load_state_dict(state_of(name))
    given = None
    if name in ZERO_SHOT:
        given = torch.tensor(expected(f"vita_clip/{name}")["text_features"])
    return model.double(), given


def clips_of(name, key="input"):
    return torch.tensor(expected(f"vita_clip/{name}")[key]).permute(0, 4, 1, 2, 3).double()


def agree(actual, wanted, name=""):
    actual, wide = actual.detach().numpy(), wanted.dtype == np.float64
    assert actual.shape == wanted.shape, name
    assert np.abs(actual - wanted).max() < (DOUBLE if wide else STORED * np.abs(wanted).max()), name


@pytest.mark.parametrize("name", LEARNED + ZERO_SHOT)
def test_logits_features_and_gradients(name):
    wanted, (model, given) = expected(f"vita_clip/{name}"), build(name)
    taps = {}
    logits = model(clips_of(name), given, taps)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(wanted["labels"]))
    loss.backward()
    agree(logits, wanted["logits"])
    agree(loss, wanted["loss"])
    if "prompts" in taps:
        taps["prompts"] = taps["prompts"][:, : wanted["prompts"].shape[1]]
    steps = ("embedded/", "blocks/", "text/", "video_features", "text_features", "prompts")
    assert set(taps) == {key for key in wanted.files if key.startswith(steps)}
    for key, value in taps.items():
        agree(value, wanted[key], key)
    gradients = {f"grad/{key}": value.grad for key, value in model.named_parameters() if value.requires_grad}
    if name in ZERO_SHOT:
        assert gradients.pop("grad/prompt_learner.ctx", None) is None
    assert set(gradients) == {key for key in wanted.files if key.startswith("grad/")}
    for key, gradient in gradients.items():
        agree(gradient, wanted[key], key)


@pytest.mark.parametrize("name", LEARNED + ZERO_SHOT)
def test_names_their_order_and_what_trains(name):
    config, (model, _) = config_of(name), build(name)
    trained = [key for key, value in model.named_parameters() if value.requires_grad]
    if name == "zeroshot_templates":
        # The configuration is of zero-shot use, the model has the context that it was trained with.
        assert trained.pop() == "prompt_learner.ctx"
    assert trained == config["trainable"]
    assert list(model.state_dict()) == list(state_of(name))


@pytest.mark.parametrize(
    "name, case",
    [("all_prompts", "long"), ("all_prompts", "straddle"), ("summary_only", "long"), ("no_prompts", "long")],
)
def test_clips_of_another_length(name, case):
    wanted, (model, given) = expected(f"vita_clip/{name}"), build(name)
    with torch.no_grad():
        agree(model.visual(clips_of(name, f"{case}/input")), wanted[f"{case}/video_features"])
        if f"{case}/logits" in wanted:
            agree(model(clips_of(name, f"{case}/input"), given), wanted[f"{case}/logits"])


@pytest.mark.parametrize("phrase", [0, 1])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_a_context_of_words(phrase, position):
    data, config = expected("vita_clip/global_front"), config_of("global_front")
    options = options_of("global_front") | {"text_prompt_init": config["words"][phrase], "text_prompt_pos": position}
    model = VitaCLIP(data[f"words/{phrase}/tokens"], data["name_lengths"], **options)
    state = {key: value for key, value in state_of("global_front").items() if "prompt_learner" not in key}
    model.load_state_dict(state, strict=False)
    model.prompt_learner.embed(model.textual.token_embedding)
    model = model.double()
    agree(model.prompt_learner.ctx, data[f"words/{phrase}/context"])
    agree(model.text_features(), data[f"words/{phrase}/{position}/text_features"])


@pytest.mark.parametrize("name", LEARNED)
def test_constant_vectors_come_from_the_token_embedding(name):
    model, state = build(name)[0], state_of(name)
    model.prompt_learner.embed(model.textual.token_embedding)
    for part in ("token_prefix", "token_suffix"):
        assert torch.equal(getattr(model.prompt_learner, part), state[f"prompt_learner.{part}"].double())


def test_features_of_plain_text():
    data, model = expected("vita_clip/zeroshot_templates"), build("zeroshot_templates")[0]
    clips = clips_of("zeroshot_templates")
    with torch.no_grad():
        for template in ("class_only", "template"):
            features = model.text_features(torch.tensor(data[f"{template}/tokens"]))
            agree(features, data[f"{template}/text_features"])
            agree(model(clips, features), data["logits" if template == "class_only" else "template/logits"])
        # Its own classes, with their context.
        agree(model(clips), data["supervised/logits"])


def test_full_size():
    full = json.loads((golden("vita_clip/full_size") / "shapes.json").read_text())
    counts, wanted = full["parameters_by_part"], {}
    for name, entry in full["entries"].items():
        for number in range(12) if "{0..11}" in name else [0]:
            wanted[name.replace("{0..11}", str(number))] = entry
    with torch.device("meta"):
        model = VitaCLIP(np.zeros((400, 77), int))
        longer = VitaCLIP(np.zeros((400, 77), int), num_frames=16)
    trains = {name: "trained" if value.requires_grad else "frozen" for name, value in model.named_parameters()}
    given = {name: [list(value.shape), trains.get(name, "buffer")] for name, value in model.state_dict().items()}
    assert len(given) == 512 and given == wanted
    for size, totals in ((model, [counts["total"], counts["trainable"]]), (longer, full["gmac"]["params_16_frames"])):
        sizes = [(value.numel(), value.requires_grad) for value in size.parameters()]
        assert [sum(number for number, _ in sizes), sum(number for number, trains in sizes if trains)] == totals
    assert sum(value.numel() for name, value in model.state_dict().items() if name not in trains) == counts["buffers"]


def small(**options):
    torch.manual_seed(0)
    plain = {f"use_{kind}": False for kind in ("summary_token", "local_prompts", "global_prompts")}
    model = VitaCLIP(TOKENS, **{**SMALL, **plain, **options})
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model


def test_transformers_clip_gives_the_same_features():
    transformers = pytest.importorskip("transformers")
    model = small()
    with torch.no_grad():
        model.visual.time_embed.zero_()
        model.visual.patch_embed["proj"].bias.zero_()
    shared = {"hidden_act": "quick_gelu", "num_hidden_layers": 2, "projection_dim": 6}
    config = transformers.CLIPConfig(
        projection_dim=6,
        vision_config=shared
        | {"hidden_size": 12, "intermediate_size": 48, "num_attention_heads": 3, "image_size": 16, "patch_size": 8},
        text_config=shared
        | {
            "hidden_size": 8,
            "intermediate_size": 32,
            "num_attention_heads": 2,
            "vocab_size": 50,
            "max_position_embeddings": 9,
            "eos_token_id": 49,
            "bos_token_id": 48,
        },
    )
    clip = transformers.CLIPModel(config).double().eval()
    clip.load_state_dict(hugging_face_state(model))
    model, frames, tokens = model.double(), torch.randn(3, 3, 16, 16).double(), torch.tensor(TOKENS)
    with torch.no_grad():
        given = clip(pixel_values=frames, input_ids=tokens, attention_mask=torch.ones_like(tokens))
        agree(model(frames[:, :, None], model.text_features(tokens)), given.logits_per_image.numpy())


def test_files_that_training_starts_from():
    model = small(use_local_prompts=True, num_frames=4)
    state = model.state_dict()
    start, openai = start_state(model), openai_state(model)
    assert start.keys() == {
        key for key in state if not re.search("time_embed|local_prompts|cls_proj|prompt_learner", key)
    }
    assert not start["visual.patch_embed.proj.bias"].any()
    assert openai["visual.transformer.resblocks.1.attn.in_proj_weight"].shape == (36, 12)
    assert torch.equal(
        openai["visual.transformer.resblocks.1.attn.in_proj_bias"][12:24], state["visual.blocks.1.attn.k_proj.bias"]
    )
    for theirs, ours in {
        "logit_scale": "logit_scale",
        "visual.class_embedding": "visual.cls_token",
        "visual.positional_embedding": "visual.pos_embed",
        "visual.conv1.weight": "visual.patch_embed.proj.weight",
        "visual.ln_pre.bias": "visual.ln_pre.bias",
        "visual.proj": "visual.proj",
        "visual.transformer.resblocks.0.attn.out_proj.bias": "visual.blocks.0.attn.out_proj.bias",
        "visual.transformer.resblocks.0.ln_2.weight": "visual.blocks.0.norm2.weight",
        "visual.transformer.resblocks.0.mlp.c_proj.weight": "visual.blocks.0.mlp.fc2.weight",
        "transformer.resblocks.1.mlp.c_fc.weight": "textual.transformer.resblocks.1.mlp.c_fc.weight",
        "token_embedding.weight": "textual.token_embedding.weight",
        "positional_embedding": "textual.positional_embedding",
        "ln_final.weight": "textual.ln_final.weight",
        "text_projection": "textual.text_projection",
    }.items():
        assert torch.equal(openai[theirs], state[ours]), theirs
    assert {key: int(openai[key]) for key in ("input_resolution", "context_length", "vocab_size")} == {
        "input_resolution": 16,
        "context_length": 9,
        "vocab_size": 50,
    }
    # Three parts become one in each vision block, the patch bias has no place, three sizes are new.
    assert len(openai) == len(start) - 2 * 4 - 1 + 3


def test_start_values():
    """Ranges where a parameter starts uniform, spreads where it starts normal."""
    torch.manual_seed(0)
    sizes = {"feature_dim": 96, "num_frames": 8, "embed_dim": 64, "text_transformer_width": 64, "text_vocab_size": 500}
    state = VitaCLIP(TOKENS, **{**SMALL, **sizes}).state_dict()
    uniform = {
        "global_prompts": (6 / 288) ** 0.5,
        "blocks.0.local_prompts": (6 / 288) ** 0.5,
        "blocks.0.attn.q_proj.weight": (6 / 192) ** 0.5,
        "blocks.0.summary_attn_layer.out_proj.weight": (6 / 192) ** 0.5,
        "blocks.0.mlp.fc1.weight": (6 / 480) ** 0.5,
        "blocks.0.cls_proj.weight": 96**-0.5,
        "blocks.0.cls_proj.bias": 96**-0.5,
        "patch_embed.proj.weight": 192**-0.5,
        "patch_embed.proj.bias": 192**-0.5,
    }
    for name, bound in uniform.items():
        assert 0.9 * bound < state[f"visual.{name}"].abs().max() <= bound, name
    normal = {
        "visual.pos_embed": 0.02,
        "visual.time_embed": 0.02,
        "visual.cls_token": 0.02,
        "visual.proj": 96**-0.5,
        "visual.blocks.0.mlp.fc2.bias": 1e-6,
        "prompt_learner.ctx": 0.02,
        "textual.token_embedding.weight": 1,
        "textual.positional_embedding": 0.01,
        "textual.text_projection": 1 / 8,
    }
    for name, spread in normal.items():
        assert state[name].std().item() == pytest.approx(spread, rel=0.2), name
    assert not state["visual.blocks.0.summary_attn_layer.q_proj.bias"].any()
    assert state["logit_scale"].exp().item() == pytest.approx(1 / 0.07)


def test_what_does_not_fit_is_refused_with_a_remedy():
    with pytest.raises(ValueError, match="which num_frames=4 does not divide; pass clips of num_frames frames"):
        small(num_frames=4, use_summary_token=True).visual(torch.zeros(1, 3, 5, 16, 16))
    with pytest.raises(ValueError, match="text_prompt_pos='begin' is unknown; pass"):
        small(text_prompt_pos="begin")
    with pytest.raises(ValueError, match="text_prompt_pos='front' needs name_lengths; pass"):
        small(text_prompt_pos="front")
