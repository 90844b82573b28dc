"""What CLIP has of `torch_reference_vita_clip.VitaCLIP`, as the state dicts of files that training starts from."""

import re

import torch

NOT_OF_CLIP = re.compile(r"time_embed|cls_proj|summary|local_prompts|global_prompts|prompt_learner")
OPENAI = {
    r"^textual\.": "",
    r"cls_token$": "class_embedding",
    r"pos_embed$": "positional_embedding",
    r"patch_embed\.proj": "conv1",
    r"visual\.blocks": "visual.transformer.resblocks",
    r"\.norm([12])": r".ln_\1",
    r"\.fc1": ".c_fc",
    r"\.fc2": ".c_proj",
}
HUGGING_FACE = {
    r"visual\.cls_token": "vision_model.embeddings.class_embedding",
    r"visual\.pos_embed": "vision_model.embeddings.position_embedding.weight",
    r"visual\.patch_embed\.proj": "vision_model.embeddings.patch_embedding",
    r"visual\.ln_pre": "vision_model.pre_layrnorm",
    r"visual\.ln_post": "vision_model.post_layernorm",
    r"visual\.proj$": "visual_projection.weight",
    r"visual\.blocks": "vision_model.encoder.layers",
    r"textual\.token_embedding": "text_model.embeddings.token_embedding",
    r"textual\.positional_embedding": "text_model.embeddings.position_embedding.weight",
    r"textual\.ln_final": "text_model.final_layer_norm",
    r"textual\.text_projection": "text_projection.weight",
    r"textual\.transformer\.resblocks": "text_model.encoder.layers",
    r"\.(?:norm|ln_)([12])": r".layer_norm\1",
    r"\.attn\.": ".self_attn.",
    r"\.c_fc": ".fc1",
    r"\.c_proj": ".fc2",
}


def start_state(model):
    """In the names of Vita-CLIP's authors, with a patch bias of zeros."""
    state = {name: value for name, value in model.state_dict().items() if not NOT_OF_CLIP.search(name)}
    bias = "visual.patch_embed.proj.bias"
    return {**state, bias: torch.zeros_like(state[bias])}


def _renamed(state, patterns):
    for pattern, replacement in patterns.items():
        state = {re.sub(pattern, replacement, name): value for name, value in state.items()}
    return state


def openai_state(model):
    """In OpenAI's names, with the three sizes that its archives hold."""
    state = start_state(model)
    del state["visual.patch_embed.proj.bias"]
    for name in [name for name in state if ".q_proj." in name]:
        parts = [state.pop(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        state[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    side = model.visual.patch_embed["proj"].kernel_size[0]
    sizes = {
        "input_resolution": side * round((len(model.visual.pos_embed) - 1) ** 0.5),
        "context_length": len(model.textual.positional_embedding),
        "vocab_size": model.textual.token_embedding.num_embeddings,
    }
    return {**_renamed(state, OPENAI), **{name: torch.tensor(size) for name, size in sizes.items()}}


def hugging_face_state(model):
    """In the names of Hugging Face's `CLIPModel`."""
    state = start_state(model)
    del state["visual.patch_embed.proj.bias"]
    for name in [name for name in state if ".in_proj_" in name]:
        for part, value in zip("qkv", state.pop(name).chunk(3), strict=True):
            state[name.replace(".in_proj_", f".{part}_proj.")] = value
    for name in ("visual.proj", "textual.text_projection"):
        state[name] = state[name].T.contiguous()
    return _renamed(state, HUGGING_FACE)
