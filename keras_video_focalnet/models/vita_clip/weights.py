"""Where the tensors of Vita-CLIP's checkpoints go, and those of CLIP's that training starts from."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.models.network import Network
from keras_video_focalnet.models.vita_clip.checkpoint_options import check_options
from keras_video_focalnet.models.vita_clip.tokenizer import START
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.slots import Slot, State, dense_slots, norm_slots, vector_slot

TEXT_FEATURES, CONTEXT, EMBEDDING = "text_features", "prompt_learner.ctx", "textual.token_embedding.weight"
_PREFIX, SUFFIX = "prompt_learner.token_prefix", "prompt_learner.token_suffix"
CLASS_TOKEN, TIMES, PROJECTION = "visual.cls_token", "visual.time_embed", "visual.proj"
# What the classifier holds, also where a Keras file names it by the layer.
_OF_THE_HEAD = ("textual.", "prompt_learner.", TEXT_FEATURES, "logit_scale", "visual.proj", "layers/vita_clip_head/")
# What a file of the vision tower alone need not have.
_BESIDE_THE_TOWER = re.compile(r"^textual\.|^visual\.proj$")
# What every model with prompts of any kind has.
_OF_PROMPTS = re.compile(r"cls_proj|global_prompts")
# What CLIP does not have.
_NOT_OF_CLIP = re.compile(r"time_embed|cls_proj|summary|local_prompts|global_prompts|prompt_learner|logit_scale")


# Patterns of names in other layouts of CLIP, in turn, and what becomes of them.
_FROM_OPENAI = (
    (r"^(transformer|token_embedding|positional_embedding|ln_final|text_projection)\b", r"textual.\1"),
    (r"^visual\.class_embedding$", "visual.cls_token"),
    (r"^visual\.positional_embedding$", "visual.pos_embed"),
    (r"^visual\.conv1\.", "visual.patch_embed.proj."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.ln_([12])\.", r"visual.blocks.\1.norm\2."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"visual.blocks.\1.mlp.fc1."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"visual.blocks.\1.mlp.fc2."),
    (r"^visual\.transformer\.resblocks\.", "visual.blocks."),
)
_FROM_HUGGING_FACE = (
    (r"^vision_model\.embeddings\.class_embedding$", "visual.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.patch_embed.proj."),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.", r"visual.blocks.\1.attn."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.", r"visual.blocks.\1.norm\2."),
    (r"^vision_model\.encoder\.layers\.", "visual.blocks."),
    (r"^text_model\.embeddings\.token_embedding\.", "textual.token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "textual.positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "textual.ln_final."),
    (r"^text_model\.encoder\.layers\.(\d+)\.self_attn\.", r"textual.transformer.resblocks.\1.attn."),
    (r"^text_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.", r"textual.transformer.resblocks.\1.ln_\2."),
    (r"^text_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.", r"textual.transformer.resblocks.\1.mlp.c_fc."),
    (r"^text_model\.encoder\.layers\.(\d+)\.mlp\.fc2\.", r"textual.transformer.resblocks.\1.mlp.c_proj."),
)
# Sizes and counts that files of CLIP hold beside the weights, and a mask that follows from them.
_SIZES = ("input_resolution", "context_length", "vocab_size")
_MASK = ".attn_mask"
_POSITION_IDS = ("vision_model.embeddings.position_ids", "text_model.embeddings.position_ids")


@dataclass(frozen=True)
class ContextSlot(Slot):
    """The place of a learned context.

    Attributes:
        names: What the classes are called, or None where they have numbers alone.
        suffix_ids: The ids that follow each class's context, in the reference's order.
        words: The ids that the context starts from, or None.
        shared: Whether all classes have the same.
    """

    names: tuple[str, ...] | None = None
    suffix_ids: np.ndarray | None = None
    words: tuple[int, ...] | None = None
    shared: bool = False


@dataclass(frozen=True)
class FeaturesSlot(Slot):
    """The place of the text features of all classes.

    Attributes:
        named: Whether they can be computed of the classes' names.
    """

    named: bool = False


# === Slots ===


def layer_slots(layer: keras.layers.Layer) -> dict[str, Slot]:
    """The slots of one layer of Vita-CLIP, known by the name that the model gives it."""
    if layer.name == "patch_embed":
        return _embedding_slots(layer)
    if layer.name == "norm":
        return norm_slots("visual.ln_post", layer)
    if layer.name == "head":
        return _head_slots(layer)
    return _block_slots(f"visual.blocks.{layer.name.removeprefix('block')}", layer)


def _embedding_slots(layer):
    kernel = layer.patches.kernel
    side, _, colors, channels = kernel.shape
    slots = {
        CLASS_TOKEN: vector_slot(layer.cls_token),
        "visual.pos_embed": vector_slot(layer.pos_embed),
        TIMES: vector_slot(layer.time_embed),
        "visual.patch_embed.proj.weight": Slot(kernel, (channels, colors, side, side), (2, 3, 1, 0)),
        "visual.patch_embed.proj.bias": vector_slot(layer.patches.bias),
        **norm_slots("visual.ln_pre", layer.ln_pre),
    }
    if layer.global_prompts is not None:
        slots["visual.global_prompts"] = vector_slot(layer.global_prompts)
    return slots


def _attention_slots(name, layer):
    parts = ("q_proj", "k_proj", "v_proj", "out_proj")
    return {key: slot for part in parts for key, slot in dense_slots(f"{name}.{part}", getattr(layer, part)).items()}


def _block_slots(name, block):
    slots = {
        **norm_slots(f"{name}.norm1", block.norm1),
        **_attention_slots(f"{name}.attn", block.attention),
        **norm_slots(f"{name}.norm2", block.norm2),
        **dense_slots(f"{name}.mlp.fc1", block.fc1),
        **dense_slots(f"{name}.mlp.fc2", block.fc2),
    }
    if block.cls_proj is not None:
        slots |= dense_slots(f"{name}.cls_proj", block.cls_proj)
    if block.summary:
        slots |= norm_slots(f"{name}.summary_ln", block.summary_norm)
        slots |= _attention_slots(f"{name}.summary_attn_layer", block.summary_attention)
    if block.local:
        slots[f"{name}.local_prompts"] = vector_slot(block.local_prompts)
    return slots


def _head_slots(head):
    slots = {PROJECTION: vector_slot(head.proj), "logit_scale": vector_slot(head.logit_scale)}
    if head.textual is not None:
        slots |= _text_slots(head.textual)
    if head.ctx is not None:
        (texts,) = head.texts
        shape = tuple(head.ctx.shape)
        known = head.class_names, texts.suffix_ids, texts.words, head.shares_context
        slots[CONTEXT] = ContextSlot(head.ctx, shape, tuple(range(len(shape))), *known)
    features = head.kept.features
    named = head.textual is not None and head.class_names is not None
    return {**slots, TEXT_FEATURES: FeaturesSlot(features, tuple(features.shape), (0, 1), named)}


def _text_slots(tower):
    slots = {
        EMBEDDING: vector_slot(tower.token_embedding),
        "textual.positional_embedding": vector_slot(tower.positional_embedding),
        "textual.text_projection": vector_slot(tower.text_projection),
        **norm_slots("textual.ln_final", tower.ln_final),
    }
    for place, block in enumerate(tower.blocks):
        name = f"textual.transformer.resblocks.{place}"
        joined = dense_slots(f"{name}.attn.in_proj", block.attention.in_proj)
        slots |= {key.replace("in_proj.", "in_proj_"): slot for key, slot in joined.items()}
        slots |= dense_slots(f"{name}.attn.out_proj", block.attention.out_proj)
        slots |= norm_slots(f"{name}.ln_1", block.ln_1) | norm_slots(f"{name}.ln_2", block.ln_2)
        slots |= dense_slots(f"{name}.mlp.c_fc", block.c_fc) | dense_slots(f"{name}.mlp.c_proj", block.c_proj)
    return slots


def unused_state(network: Network) -> dict[str, np.ndarray | None]:
    """What a checkpoint of Vita-CLIP holds beside the slots: the vectors around each context. It has no text features,
    which are computed.
    """
    head = network.classifier
    state = {} if head is None or head.textual is None else {TEXT_FEATURES: None}
    if head is not None and head.ctx is not None:
        (texts,) = head.texts
        embedding = keras.ops.convert_to_numpy(head.textual.token_embedding)
        state[_PREFIX] = embedding[np.full((head.classes, 1), START)]
        state[SUFFIX] = embedding[texts.suffix_ids]
    return state


def copy_texts(source: keras.layers.Layer, target: keras.layers.Layer, places: Sequence[int] | None = None) -> None:
    """Gives a classifier the weights of another one that do not belong to its classes, quantized as they are there.

    Where all classes are known there, `places` tells which each is; then it also gets what belongs to these.
    """
    pairs = [(source.proj, target.proj), (source.logit_scale, target.logit_scale)]
    if source.textual is not None:
        quantize_layers(target, quantized_layers(source))
        target.textual.set_weights(source.textual.get_weights())
        if target.ctx is not None and source.shares_context and target.shares_context:
            pairs.append((source.ctx, target.ctx))
    for old, new in pairs:
        # As arrays: JAX would have both layers hold one buffer, which what one of them does may free.
        new.assign(keras.ops.convert_to_numpy(old))
    if places is not None:
        source.refresh_kept()
        of_classes = [(source.kept.features, target.kept.features)]
        if target.ctx is not None and not target.shares_context:
            of_classes.append((source.ctx, target.ctx))
        for old, new in of_classes:
            new.assign(keras.ops.convert_to_numpy(old)[list(places)])
        target.trust_kept()


# === Other checkpoints ===


def complete_state(slots: Mapping[str, Slot], state: State) -> tuple[State, list[str]]:
    """As the contract says: CLIP's weights in OpenAI's, Hugging Face's or the authors' names get Vita-CLIP's, without
    what CLIP does not have; a checkpoint of Vita-CLIP loses what the model computes itself.
    """
    state = in_own_names(state)
    if TEXT_FEATURES not in slots:
        state = {name: array for name, array in state.items() if not name.startswith(_OF_THE_HEAD)}
    of_clip = CLASS_TOKEN in state and TIMES not in state
    shapes = {name: np.shape(array) for name, array in state.items()}
    if CLASS_TOKEN in state:
        check_options({name: slot.reference_shape for name, slot in slots.items()}, shapes, of_clip)
    missing: list[str] = []
    if of_clip:
        weight = shapes.get("visual.patch_embed.proj.weight", ())
        state.setdefault("visual.patch_embed.proj.bias", np.zeros(weight[:1], "float32"))
        left = [_NOT_OF_CLIP]
        if not any(name.startswith("textual.") for name in state):
            left.append(_BESIDE_THE_TOWER)
            _tell_of_no_texts(slots, state)
        if not any(_OF_PROMPTS.search(name) for name in slots):
            # Without prompts the model is CLIP on every frame.
            state.setdefault(TIMES, np.zeros(slots[TIMES].reference_shape, "float32"))
        missing = [name for name in slots if name not in state and any(part.search(name) for part in left)]
        if EMBEDDING not in slots or EMBEDDING in state:
            _tell_of_random_parts(slots, missing)
    if TEXT_FEATURES not in slots:
        return state, missing
    _complete_context(slots, state, missing)
    slot, context = slots[TEXT_FEATURES], slots.get(CONTEXT)
    of_others = TEXT_FEATURES in state and np.shape(state[TEXT_FEATURES]) != slot.reference_shape
    if slot.named and (context is None or context.shared):
        # Nothing of the classifier belongs to classes.
        of_others = False
    if not of_others and (slot.named or (EMBEDDING in slots and TEXT_FEATURES not in state)):
        # Zeros are computed anew, of the names that this model has.
        state[TEXT_FEATURES] = np.zeros(slot.reference_shape, "float32")
    return state, missing


def _tell_of_no_texts(slots, state):
    """Refuses CLIP's vision tower alone where nothing that trains could make up for its text tower, else warns."""
    if EMBEDDING not in slots:
        return
    if CONTEXT not in slots and not slots[EMBEDDING].variable.trainable:
        raise WeightsFileError(
            "it has CLIP's vision tower alone, and with context=None the model's texts are those of a text tower that "
            "would stay random. Pass a file of both towers; or build the model with text_depth=None, for text features "
            "of your own, with include_top=False, for features of clips, or with a learned context."
        )
    absent = "text tower" if PROJECTION in state else "text tower and projection"
    warnings.warn(
        f"the file has CLIP's vision tower alone: the model keeps random weights for its {absent}, and scores mean "
        "nothing before it is trained; those for other class names than it is trained for mean nothing after it "
        "either. A file of both towers has what is missing.",
        stacklevel=2,
    )


def _tell_of_random_parts(slots, missing):
    """Warns where prompts or a context are left as they are drawn, on which every score depends."""
    random = ["prompts"] if any(_OF_PROMPTS.search(name) for name in missing) else []
    if CONTEXT in missing and slots[CONTEXT].words is None:
        random.append("learned context")
    if random:
        warnings.warn(
            f"the weights are CLIP's, which has no {' and no '.join(random)}: the model's are random, a start for "
            "training, and until then its scores mean nothing. To score without training build it with prompts=() and "
            "context=None.",
            stacklevel=2,
        )


def _complete_context(slots, state, missing):
    """Checks that a context of each class is of the model's classes; starts one of words from the file's vectors."""
    slot, suffix = slots.get(CONTEXT), state.pop(SUFFIX, None)
    state.pop(_PREFIX, None)
    if slot is None:
        # Without a context texts are of the names alone, whatever was learned for others.
        state.pop(CONTEXT, None)
        return
    has_vectors = np.shape(state.get(EMBEDDING)) == slots[EMBEDDING].reference_shape
    if CONTEXT in missing and slot.words is not None and has_vectors:
        state[CONTEXT] = np.asarray(state[EMBEDDING], "float32")[list(slot.words)]
        missing.remove(CONTEXT)
    if slot.shared or CONTEXT not in state:
        return
    if suffix is not None and has_vectors:
        _check_same_names(slot, suffix, state[EMBEDDING])
    found, needed = np.shape(state[CONTEXT])[0], slot.reference_shape[0]
    if found != needed:
        if TEXT_FEATURES not in state:
            warnings.warn(
                f"the learned context is of {found} classes and the model has {needed}: the model's keeps its random "
                "weights. Pass the class_names that it was learned for to load it.",
                stacklevel=2,
            )
        del state[CONTEXT]
        missing.append(CONTEXT)


def check_names_of_weights(network: Network, names: Sequence[str], origin: str) -> None:
    """As the contract says: vectors that were learned for each class are of these names alone, in this order."""
    slot = network.slots().get(CONTEXT)
    if slot is None or slot.shared or slot.names is None or len(names) != len(slot.names):
        return
    other = next((place for place, (old, new) in enumerate(zip(names, slot.names, strict=True)) if old != new), None)
    if other is not None:
        raise WeightsFileError(
            f"{origin}: its learned context is of other class names: its class {other} is {names[other]!r}, the "
            f"model's {slot.names[other]!r}. Pass class_names as it was trained with; for other names, what open_model "
            "makes of a run or a whole model has set_class_names, which needs no training."
        )


def _check_same_names(slot, suffix, embedding):
    remedy = (
        "Pass class_names as it was trained with, and the same number and place of learned vectors; or context=None, "
        "which scores any names by their texts alone."
    )
    needed = (*slot.suffix_ids.shape, np.shape(embedding)[1])
    if np.shape(suffix) != needed:
        raise WeightsFileError(
            f"the checkpoint's learned context is of (classes, tokens behind it, channels)={np.shape(suffix)}, the "
            f"model's of {needed}. {remedy}"
        )
    if slot.names is None:
        raise WeightsFileError(
            f"the checkpoint's learned context is of {needed[0]} names, and the model was built without class_names. "
            f"{remedy}"
        )
    same = (np.asarray(embedding)[slot.suffix_ids] == suffix).all(axis=(1, 2))
    if not same.all():
        place = int(np.argmin(same))
        raise WeightsFileError(
            f"the checkpoint's learned context is of other class names: its class {place} is not "
            f"{slot.names[place]!r}. {remedy}"
        )


def in_own_names(state: State) -> State:
    """A state of CLIP or of its vision tower in the names of Vita-CLIP; any other as it is."""
    if "visual.class_embedding" in state:
        state = _renamed(state, _FROM_OPENAI)
        return _with_parts(
            {name: array for name, array in state.items() if name not in _SIZES and not name.endswith(_MASK)}
        )
    if "vision_model.embeddings.class_embedding" in state:
        state = {name: array for name, array in state.items() if name not in _POSITION_IDS}
        for old, new in (
            ("visual_projection.weight", "visual.proj"),
            ("text_projection.weight", "textual.text_projection"),
        ):
            if old in state:
                state[new] = np.ascontiguousarray(np.transpose(state.pop(old)))
        return _with_joined(_renamed(state, _FROM_HUGGING_FACE))
    if "cls_token" in state and any(name.startswith("blocks.") for name in state):
        return {f"visual.{name}": array for name, array in state.items()}
    return dict(state)


def _renamed(state, patterns):
    for pattern, replacement in patterns:
        state = {re.sub(pattern, replacement, name): array for name, array in state.items()}
    return state


def _with_parts(state):
    """With a matrix each for queries, keys and values in the vision tower."""
    parted = {}
    for name, array in state.items():
        found = re.fullmatch(r"(visual\.blocks\.\d+\.attn\.)in_proj_(weight|bias)", name)
        if found is None:
            parted[name] = array
            continue
        if not np.ndim(array) or len(array) % 3:
            raise WeightsFileError(
                f"the tensor {name!r} has shape {np.shape(array)}, which is not of queries, keys and values; download "
                "or convert the file again."
            )
        for part, rows in zip("qkv", np.split(np.asarray(array), 3), strict=True):
            parted[f"{found[1]}{part}_proj.{found[2]}"] = rows
    return parted


def _with_joined(state):
    """With one matrix for queries, keys and values in the text tower."""
    joined = dict(state)
    for name in state:
        found = re.fullmatch(r"(textual\.transformer\.resblocks\.\d+\.attn\.)q_proj\.(weight|bias)", name)
        if found is not None:
            parts = [joined.pop(f"{found[1]}{part}_proj.{found[2]}", None) for part in "qkv"]
            if any(part is None for part in parts):
                raise WeightsFileError(f"{name!r} has no keys or values beside it; the file is not whole.")
            if len({np.shape(part)[1:] for part in parts}) > 1 or not np.ndim(parts[0]):
                raise WeightsFileError(f"{name!r} has keys or values of another shape; the file is not whole.")
            joined[f"{found[1]}in_proj_{found[2]}"] = np.concatenate(parts)
    return joined
