"""Vita-CLIP in plain PyTorch: an implementation of its own, the oracle of the tests and the peer of the benchmarks.

Vita-CLIP is "Vita-CLIP: Video and text adaptive CLIP via Multimodal Prompting" (Wasim et al., CVPR 2023). Every step
is computed as the paper states it: prompts are tokens beside the others. Parameters have the names, shapes and order
of the authors' checkpoints, and train where theirs do. Clips are `(batch, 3, frames, height, width)`, normalized;
texts are ids of CLIP's tokens.

Example:
    ```python
    import torch
    from weights_conversion.torch_reference_vita_clip import VitaCLIP

    model = VitaCLIP(tokens)  # (400, 77): for each class the ids of "X X X X X X X X its name."
    logits = model(torch.randn(1, 3, 8, 224, 224))  # (1, 400)
    ```
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A parameter of the vision tower trains if its name holds one of these.
TRAINED = ("summary", "local", "global", "time_embed")

Taps = dict[str, Tensor]


def quick_gelu(x: Tensor) -> Tensor:
    """The activation of both towers."""
    return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Self-attention of a set of tokens, `(rows, tokens, width)`."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        for linear in self.children():
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with a QuickGELU between."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        for linear in self.children():
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(quick_gelu(self.fc1(x)))


class VisionBlock(nn.Module):
    """A transformer block over the tokens of a frame, with prompts among them while it computes."""

    def __init__(
        self, width: int, heads: int, hidden: int, frames: int, summary: bool, local: bool, local_bound: float
    ):
        super().__init__()
        self.frames, self.summary, self.local = frames, summary, local
        if local:
            self.local_prompts = nn.Parameter(torch.empty(1, frames, width).uniform_(-local_bound, local_bound))
        self.attn, self.mlp = Attention(width, heads), Mlp(width, hidden)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        if summary or local:
            self.cls_proj = nn.Linear(width, width)
        if summary:
            self.summary_ln = nn.LayerNorm(width)
            self.summary_attn_layer = Attention(width, heads)

    def forward(self, x: Tensor, global_prompts: Tensor | None, taps: Taps) -> Tensor:
        """One step.

        Args:
            x: `(rows, 1 + patches, width)`, class token first; a row is a frame, and `frames` rows after each other
                share local prompts and summaries.
            global_prompts: `(prompts, width)`, or None.
            taps: takes the `"summary"` and `"local"` tokens, `(rows, width)`.

        Returns:
            As `x`.
        """
        rows, tokens, width = x.shape
        shared, local, summary = [], [], []
        if global_prompts is not None:
            shared = [global_prompts.expand(rows, -1, -1)]
        if self.summary or self.local:
            projected = self.cls_proj(x[:, 0].reshape(-1, self.frames, width))
        if self.summary:
            of_clips = projected + self.summary_attn_layer(self.summary_ln(projected))
            taps["summary"] = of_clips.flatten(0, 1)
            summary = [taps["summary"][:, None]]
        if self.local:
            of_clips = self.local_prompts + projected
            taps["local"] = of_clips.flatten(0, 1)
            local = [of_clips.repeat_interleave(self.frames, 0)]
        x = torch.cat([x[:, :1], *local, *shared, x[:, 1:], *summary], 1)
        x = x + self.attn(self.norm1(x))
        start = 1 + self.frames if self.local else 1
        x = torch.cat([x[:, :1], x[:, start : x.shape[1] - len(summary)]], 1)
        x = x + self.mlp(self.norm2(x))
        return torch.cat([x[:, :1], x[:, 1 - tokens :]], 1)


class VisionTower(nn.Module):
    """From clips to video features. The arguments' defaults are those of the published model, ViT-B/16.

    Args:
        input_size: height and width of a frame in pixels.
        patch_size: height and width of a patch; the first counts.
        num_frames: frames of a clip.
        feature_dim: width of the vision tower.
        num_heads: its heads.
        num_layers: its blocks.
        mlp_factor: hidden width of its MLPs over its width.
        embed_dim: size of the features.
        use_summary_token: whether frames have a token that attended to all frames.
        use_local_prompts: whether all frames see prompts shifted by each frame's class token.
        use_global_prompts: whether all frames see prompts of the block.
        num_global_prompts: how many.
    """

    def __init__(
        self,
        input_size: tuple[int, int] = (224, 224),
        patch_size: tuple[int, int] = (16, 16),
        num_frames: int = 8,
        feature_dim: int = 768,
        num_heads: int = 12,
        num_layers: int = 12,
        mlp_factor: float = 4.0,
        embed_dim: int = 512,
        use_summary_token: bool = True,
        use_local_prompts: bool = True,
        use_global_prompts: bool = True,
        num_global_prompts: int = 8,
    ):
        super().__init__()
        side, width = patch_size[0], feature_dim
        patches = (input_size[0] // side) * (input_size[1] // side)
        bound = math.sqrt(6 / (3 * side**2 + width))
        self.num_frames, self.grouped = num_frames, use_summary_token or use_local_prompts
        self.cls_token = nn.Parameter(0.02 * torch.randn(width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1 + patches, width))
        self.time_embed = nn.Parameter(0.02 * torch.randn(num_frames, width))
        self.proj = nn.Parameter(width**-0.5 * torch.randn(width, embed_dim))
        self.global_prompts = [None] * num_layers
        if use_global_prompts:
            prompts = torch.empty(num_layers, num_global_prompts, width)
            self.global_prompts = nn.Parameter(prompts.uniform_(-bound, bound))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, side, side)})
        hidden = round(mlp_factor * width)
        self.blocks = nn.ModuleList(
            VisionBlock(width, num_heads, hidden, num_frames, use_summary_token, use_local_prompts, bound)
            for _ in range(num_layers)
        )
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, clips: Tensor, taps: Taps | None = None) -> Tensor:
        """Features `(batch, embed_dim)` of clips `(batch, 3, frames, height, width)`, not normalized.

        Frames of clips that are longer than the model's get the nearest time embedding, and the blocks see groups of
        `num_frames` frames. `taps` takes what the steps give, `(batch, frames, ...)`.
        """
        batch, _, frames = clips.shape[:3]
        if self.grouped and batch * frames % self.num_frames:
            raise ValueError(
                f"clips have {batch} times {frames} frames, which num_frames={self.num_frames} does not divide; "
                "pass clips of num_frames frames."
            )

        def tap(name: str, value: Tensor) -> None:
            if taps is not None:
                taps[name] = value.reshape(batch, frames, *value.shape[1:])

        x = self.patch_embed["proj"](clips.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), 1, -1), x], 1) + self.pos_embed
        times = self.time_embed[torch.arange(frames, device=x.device) * self.num_frames // frames]
        x = self.ln_pre(x + times.repeat(batch, 1)[:, None])
        tap("embedded/tokens", x)
        for number, (block, prompts) in enumerate(zip(self.blocks, self.global_prompts, strict=True)):
            of_block: Taps = {}
            x = block(x, prompts, of_block)
            for name, value in {**of_block, "tokens": x, "class_token": x[:, 0]}.items():
                tap(f"blocks/{number}/{name}", value)
        features = self.ln_post(x[:, 0]) @ self.proj
        return features.reshape(batch, frames, -1).mean(1)


class TextBlock(nn.Module):
    """A transformer block over the tokens of a text, each of which sees those before it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn, self.ln_1 = nn.MultiheadAttention(width, heads, batch_first=True), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=later)[0]
        return x + self.mlp["c_proj"](quick_gelu(self.mlp["c_fc"](self.ln_2(x))))


class TextTower(nn.Module):
    """From token vectors to text features."""

    def __init__(self, length: int, vocabulary: int, width: int, heads: int, layers: int, embed_dim: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(length, width))
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, embed_dim))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(TextBlock(width, heads) for _ in range(layers))})
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.ln_final = nn.LayerNorm(width)

    def forward(self, vectors: Tensor, tokens: Tensor, taps: Taps | None = None) -> Tensor:
        """Features `(texts, embed_dim)`, not normalized.

        Args:
            vectors: `(texts, length, width)`.
            tokens: `(texts, length)`, in which the first of the greatest id is the end.
            taps: takes what each block gives at the end, `(texts, width)`.
        """
        rows, end = torch.arange(len(tokens), device=tokens.device), tokens.argmax(-1)
        x = vectors + self.positional_embedding
        for number, block in enumerate(self.transformer["resblocks"]):
            x = block(x)
            if taps is not None:
                taps[f"text/blocks/{number}/eot"] = x[rows, end]
        return self.ln_final(x)[rows, end] @ self.text_projection


class PromptLearner(nn.Module):
    """The learned context, among the token vectors of the classes' names.

    Args:
        tokens: `(classes, length)` ids, in which places 1 to `num_prompts` are the context's.
        name_lengths: `(classes,)` tokens of each name alone; needed in the middle and in front.
        token_embedding: gives vectors of ids.
        num_prompts: tokens of the context.
        position: of the context, "end", "middle" or "front".
        class_specific: whether each class has a context of its own.
        words: whether the context begins as the words that stand in its place.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        name_lengths: np.ndarray | None,
        token_embedding: nn.Embedding,
        num_prompts: int,
        position: str,
        class_specific: bool,
        words: bool,
    ):
        super().__init__()
        if position not in ("end", "middle", "front"):
            raise ValueError(f'text_prompt_pos={position!r} is unknown; pass "end", "middle" or "front".')
        if position != "end" and name_lengths is None:
            raise ValueError(f"text_prompt_pos={position!r} needs name_lengths; pass the tokens of each name alone.")
        self.num_prompts, self.words, self.position = num_prompts, words, position
        self.name_lengths = None if name_lengths is None else [int(length) for length in name_lengths]
        shape = (num_prompts, token_embedding.embedding_dim)
        self.ctx = nn.Parameter(0.02 * torch.randn((len(tokens), *shape) if class_specific else shape))
        self.register_buffer("tokens", torch.tensor(tokens, dtype=torch.long), persistent=False)
        self.register_buffer("token_prefix", None)
        self.register_buffer("token_suffix", None)
        self.embed(token_embedding)

    @torch.no_grad()
    def embed(self, token_embedding: nn.Embedding) -> None:
        """Takes what comes from the token embedding from it anew: the constant vectors, and a context of words."""
        vectors = token_embedding(self.tokens)
        self.token_prefix, self.token_suffix = vectors[:, :1].clone(), vectors[:, 1 + self.num_prompts :].clone()
        if self.words:
            self.ctx.copy_(vectors[0, 1 : 1 + self.num_prompts])

    def forward(self) -> Tensor:
        """Token vectors of the classes, `(classes, length, width)`."""
        context = self.ctx.expand(len(self.tokens), -1, -1)
        if self.position == "end":
            return torch.cat([self.token_prefix, context, self.token_suffix], 1)
        first = self.num_prompts // 2 if self.position == "middle" else 0
        texts = []
        for start, learned, suffix, name in zip(
            self.token_prefix, context, self.token_suffix, self.name_lengths, strict=True
        ):
            texts.append(torch.cat([start, learned[:first], suffix[:name], learned[first:], suffix[name:]]))
        return torch.stack(texts)


class VitaCLIP(nn.Module):
    """Vita-CLIP: `forward` gives logits. The arguments' defaults are those of the published model, ViT-B/16.

    Args:
        tokens: `(classes, text_context_length)` integers, for each class the ids of `text_prompt_init`, or as many
            "X" as there are text prompts, and its name with a full stop; None without text prompt learning.
        name_lengths: `(classes,)` integers, tokens of each name alone; not needed with `text_prompt_pos="end"`.
        use_text_prompt_learning: whether there are a learned context and a text tower.
        text_context_length: tokens of a text.
        text_vocab_size: ids of tokens.
        text_transformer_width: width of the text tower.
        text_transformer_heads: its heads.
        text_transformer_layers: its blocks.
        text_num_prompts: tokens of the learned context.
        text_prompt_pos: its place: "end" (before the name), "middle" or "front" (after the name).
        text_prompt_init: words that it begins as, which then give its length and which all classes share.
        text_prompt_CSC: whether it is class-specific.
        embed_dim: size of the features.
        **vision_options: the other arguments of `VisionTower`.
    """

    def __init__(
        self,
        tokens: np.ndarray | None = None,
        name_lengths: np.ndarray | None = None,
        use_text_prompt_learning: bool = True,
        text_context_length: int = 77,
        text_vocab_size: int = 49408,
        text_transformer_width: int = 512,
        text_transformer_heads: int = 8,
        text_transformer_layers: int = 12,
        text_num_prompts: int = 8,
        text_prompt_pos: str = "end",
        text_prompt_init: str = "",
        text_prompt_CSC: bool = True,
        embed_dim: int = 512,
        **vision_options,
    ):
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.visual = VisionTower(embed_dim=embed_dim, **vision_options)
        if use_text_prompt_learning:
            self.textual = TextTower(
                text_context_length,
                text_vocab_size,
                text_transformer_width,
                text_transformer_heads,
                text_transformer_layers,
                embed_dim,
            )
            words = text_prompt_init.replace("_", " ").split(" ") if text_prompt_init else []
            self.prompt_learner = PromptLearner(
                tokens,
                name_lengths,
                self.textual.token_embedding,
                len(words) or text_num_prompts,
                text_prompt_pos,
                text_prompt_CSC and not words,
                bool(words),
            )
        for name, parameter in self.named_parameters():
            trained = not name.startswith(("visual.", "textual.")) or any(part in name for part in TRAINED)
            parameter.requires_grad_(trained)

    def text_features(self, tokens: Tensor | None = None, taps: Taps | None = None) -> Tensor:
        """Features `(texts, embed_dim)` of plain texts, or of the classes with their context; not normalized.

        Args:
            tokens: `(texts, text_context_length)` ids of plain texts; None: the classes.
            taps: takes the token vectors and what each block gives.
        """
        if tokens is None:
            vectors, tokens = self.prompt_learner(), self.prompt_learner.tokens
        else:
            vectors = self.textual.token_embedding(tokens)
        if taps is not None:
            taps["prompts"] = vectors
        return self.textual(vectors, tokens, taps)

    def forward(self, clips: Tensor, text_features: Tensor | None = None, taps: Taps | None = None) -> Tensor:
        """Logits `(batch, texts)`.

        Args:
            clips: `(batch, 3, frames, height, width)`.
            text_features: `(texts, embed_dim)`; None: those of the classes with their context.
            taps: takes what the steps give.
        """
        text = self.text_features(taps=taps) if text_features is None else text_features
        video = self.visual(clips, taps)
        if taps is not None:
            taps["video_features"], taps["text_features"] = video, text
        video, text = (features / features.norm(dim=-1, keepdim=True) for features in (video, text))
        return self.logit_scale.exp() * video @ text.T
