"""What is measured: our model on each backend, our PyTorch reference, and Transformers' video models.

Each `build` runs in a process of its own (`benchmarks.worker`) and returns a function of no arguments that does one
call on the same clip and waits for the answer.
"""

import dataclasses
import functools
import itertools
import math

import click
import numpy as np

from keras_video_focalnet.models import registry

CLASSES = 400
VITA_CLIP = "vita-clip"
# The functions of `weights_conversion.torch_sifa` that build the sizes of SIFA, for clips of 224x224.
SIFA = {"sifa50": "sifa_net50", "sifa-s": "sifa_transformer_s", "sifa-b": "sifa_transformer_b"}


@dataclasses.dataclass(frozen=True)
class Subject:
    """One of the things that are compared.

    Attributes:
        label: Name in tables.
        framework: The Keras backend, or `"torch"` for a peer.
        architecture: `"registered"` for ours and the reference, which have every size, otherwise a peer's name.
        is_ours: Whether it is this package.
        mode: How it runs: `"graph"`, `"xla"`, `"eager"` or `"compile"`.
        frames: Frames of its clips; None: as many as the size takes by default.
        dtype: Policy of ours; None: float32 on a CPU, `"mixed_bfloat16"` on a GPU.
        half_products: How ours computes half precision, as `force` takes it; None: as the rule says.
    """

    label: str
    framework: str
    architecture: str = "registered"
    is_ours: bool = False
    mode: str = "eager"
    frames: int | None = None
    dtype: str | None = None
    half_products: str | None = None

    def sizes(self, sizes):
        """The sizes of `sizes` that it has: all of ours, one of a peer's."""
        return sizes if self.architecture == "registered" else ("base",)


CEILINGS = {
    subject.label: subject
    for subject in (Subject("matrix product jax", "jax"), Subject("matrix product torch", "torch"))
}
SUBJECTS = {
    subject.label: subject
    for subject in (
        Subject("reference eager", "torch"),
        Subject("reference compile", "torch", mode="compile"),
        Subject("ours tensorflow graph", "tensorflow", is_ours=True, mode="graph"),
        Subject("ours tensorflow xla", "tensorflow", is_ours=True, mode="xla"),
        Subject("ours jax", "jax", is_ours=True, mode="xla"),
        Subject("ours torch", "torch", is_ours=True),
        Subject("VideoMAE-B 16x224", "torch", "videomae", frames=16),
        Subject("TimeSformer-B 8x224", "torch", "timesformer", frames=8),
        Subject("ViViT-B 32x224", "torch", "vivit", frames=32),
    )
}


def _in_low_precision():
    """Ours on each backend in float32, and in bfloat16 by the rule, natively and widened to float32."""
    for label in ("ours tensorflow graph", "ours jax", "ours torch"):
        yield SUBJECTS[label]
        for products in (None, "native", "widened"):
            name = f"{label}, bfloat16, {products or 'by rule'}"
            yield dataclasses.replace(SUBJECTS[label], label=name, dtype="mixed_bfloat16", half_products=products)


LOW_PRECISION = {subject.label: subject for subject in _in_low_precision()}


@dataclasses.dataclass(frozen=True)
class ExportedFile:
    """A model as a file, in its own runtime.

    Attributes:
        label: Name in tables.
        format: As `export` takes it.
        precision: As `export` takes it.
        computes_in: As `load_exported` takes `precision`.
    """

    label: str
    format: str
    precision: str = "float32"
    computes_in: str | None = None
    framework: str = "tensorflow"
    is_ours: bool = True

    def path(self, folder, name):
        """Where the file of a size lies; one file may serve several."""
        from keras_video_focalnet.exporting.formats import FORMATS

        return f"{folder}/{name}_{self.format}_{self.precision}{FORMATS[self.format].suffix}"


EXPORTED = {
    file.label: file
    for file in (
        ExportedFile("LiteRT float32", "litert"),
        ExportedFile("LiteRT float16", "litert", "float16"),
        ExportedFile("LiteRT int8", "litert", "int8"),
        ExportedFile("LiteRT int8_full", "litert", "int8_full"),
        ExportedFile("SavedModel", "saved_model"),
        ExportedFile("ONNX Runtime", "onnx"),
        ExportedFile("OpenVINO, its own precision", "openvino", computes_in="own"),
        ExportedFile("OpenVINO, float32", "openvino", computes_in="float32"),
        ExportedFile("OpenVINO float16", "openvino", "float16"),
    )
}


def frames_of(name):
    """Frames of a clip that a size takes by default."""
    return registry.find_builder(name).input_shape[0]


def rematerializes(name):
    """Whether a size has the option `rematerialize`: those of Video-FocalNet have."""
    return registry.find_family(name).name == "video_focalnet"


def clip_of(subject, name, batch, frames=None, size=224):
    """Random normalized clips in the layout of the subject: channels last for ours, and for our PyTorch rendering of
    SIFA; channels first for peers.
    """
    shape = (batch, frames or subject.frames or frames_of(name), size, size, 3)
    clip = np.random.default_rng(0).standard_normal(shape, dtype="float32")
    return clip if subject.is_ours or name in SIFA else np.ascontiguousarray(clip.transpose(0, 1, 4, 2, 3))


def our_model(name, frames=None, size=224, **options):
    """Our model with random weights, from normalized clips to logits."""
    builder = registry.find_family(name).function(registry.find_builder(name))
    options = {"classes": CLASSES, **options}
    return builder(
        weights=None,
        input_shape=(frames or frames_of(name), size, size, 3),
        include_preprocessing=False,
        classifier_activation=None,
        **options,
    )


def with_scales_and_shifts(model):
    """The model with other scales than 1 and other shifts than 0, which a converter would leave out."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        if len(weight.shape) == 1:
            weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    return model


def peer_model(subject, name):
    """A PyTorch model from clips to logits, with random weights: speed does not depend on them."""
    if subject.architecture == "registered" and name in SIFA:
        from weights_conversion import torch_sifa

        return getattr(torch_sifa, SIFA[name])(CLASSES)
    if subject.architecture == "registered" and name == VITA_CLIP:
        return _KnowsTexts()
    if subject.architecture == "registered":
        from weights_conversion import torch_reference

        return getattr(torch_reference, f"video_focalnet_{name}")(CLASSES)
    import transformers

    kinds = {"videomae": "VideoMAE", "timesformer": "Timesformer", "vivit": "Vivit"}
    kind = kinds[subject.architecture]
    config = getattr(transformers, f"{kind}Config")(num_frames=subject.frames, num_labels=CLASSES)
    return _Logits(getattr(transformers, f"{kind}ForVideoClassification")(config))


class _KnowsTexts:
    """Our rendering of Vita-CLIP, whose text features are computed once."""

    def __init__(self):
        import torch

        from keras_video_focalnet.labels import load_labels
        from keras_video_focalnet.models.vita_clip.tokenizer import tokenize
        from weights_conversion.torch_reference_vita_clip import VitaCLIP

        names = [f"{'X ' * 8}{name}." for name in load_labels("k400")]
        self.model = VitaCLIP(tokenize(names))
        # The tower's features of 400 texts are of no account here.
        self.texts = torch.randn(len(names), self.model.visual.proj.shape[1])

    def __call__(self, clip):
        return self.model(clip.transpose(1, 2), self.texts)

    def eval(self):
        self.model.eval()
        return self

    def to(self, device):
        self.model.to(device)
        self.texts = self.texts.to(device)
        return self


class _Logits:
    """A Transformers model that gives its logits alone."""

    def __init__(self, model):
        self.model = model

    def __call__(self, clip):
        return self.model(pixel_values=clip).logits

    def eval(self):
        self.model.eval()
        return self

    def to(self, device):
        self.model.to(device)
        return self


def build_inference(subject, name, batch, device="cpu", frames=None, size=224, dtype=None):
    """A function that classifies one batch of clips and gives the logits as NumPy; ours in a dtype policy."""
    clip = clip_of(subject, name, batch, frames, size)
    if not subject.is_ours:
        return _peer_inference(peer_model(subject, name).eval(), clip, subject.mode, device)
    import keras

    from keras_video_focalnet.models.kept import refresh_kept
    from keras_video_focalnet.ops.autodiff.compilation import compiler_options
    from keras_video_focalnet.ops.autodiff.formulation import force

    dtype = dtype or subject.dtype or ("mixed_bfloat16" if device == "gpu" else None)
    model = our_model(name, clip.shape[1], size, dtype=dtype)
    # What is computed of weights alone is computed once, as `predict` does it.
    refresh_kept(model)
    choices = {"half_products": subject.half_products} if subject.half_products else {}
    call = with_kept(model, **choices)
    if subject.framework == "tensorflow":
        import tensorflow as tf

        forward, tensor = tf.function(call, jit_compile=subject.mode == "xla", autograph=False), tf.constant(clip)
        return lambda: forward(tensor).numpy()
    if subject.framework == "jax":
        import jax

        weights = [[v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)]
        options = dict(compiler_options(training=False))  # as `predict` compiles it
        forward = with_kept(lambda *arguments: model.stateless_call(*arguments)[0], **choices)
        forward = jax.jit(forward, compiler_options=options)
        tensor = jax.numpy.asarray(clip)
        return lambda: np.asarray(forward(*weights, tensor))
    import torch

    tensor = keras.ops.convert_to_tensor(clip)

    def infer():
        with torch.inference_mode(), force(**choices):
            return keras.ops.convert_to_numpy(model(tensor, training=False))

    return infer


def build_several(subject, tasks, device="cpu"):
    """A function of whose calls each is one of the next task, and after the last of the first one again.

    Args:
        subject: Ours, or the reference.
        tasks: List of dicts of what `build_inference` takes. Of those that are the same one is built.
        device: `"cpu"` or `"gpu"`, of all.
    """
    different = [task for place, task in enumerate(tasks) if task not in tasks[:place]]
    built = [build_inference(subject, device=device, **task) for task in different]
    order = itertools.cycle([built[different.index(task)] for task in tasks])
    return lambda: next(order)()


def with_kept(function, **choices):
    """A function that reads what layers keep, when it is traced, and computes in the given formulations."""
    from keras_video_focalnet.ops.autodiff.formulation import force

    def call(*arguments):
        with force(kept_features="stored", **choices):
            return function(*arguments)

    return call


def build_exported(subject, name, folder):
    """A function that classifies one clip by a file that `export` wrote into a folder."""
    from keras_video_focalnet.exporting.runtime import load_exported

    model = load_exported(subject.path(folder, name), precision=subject.computes_in)
    clip = np.random.default_rng(0).integers(0, 256, (1, *model.input_shape)).astype("uint8")
    return lambda: model.predict(clip)


def heads_of(outputs):
    """The logits of each head of a PyTorch model, which gives a tuple of them where it has several."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def joined(heads):
    """Logits of one head as they are, of several the logarithm of the mean of their softmaxes."""
    import torch

    if len(heads) == 1:
        return heads[0]
    return torch.stack([logits.log_softmax(-1) for logits in heads]).logsumexp(0) - math.log(len(heads))


def _peer_inference(model, clip, mode, device):
    import torch

    device = {"cpu": "cpu", "gpu": "cuda"}[device]
    model, tensor = model.to(device), torch.tensor(clip, device=device)
    forward = torch.compile(model) if mode == "compile" else model
    autocast = functools.partial(torch.autocast, "cuda", torch.bfloat16, enabled=device == "cuda")

    def infer():
        with torch.inference_mode(), autocast():
            return joined(heads_of(forward(tensor))).float().cpu().numpy()

    return infer


def build_prompting(subject, name, batch, trains, classes):
    """A function that does one step of AdamW on a model that knows names, of which what `trains` says trains."""
    import keras

    from keras_video_focalnet.labels import load_labels

    names = load_labels("k400")[:classes]
    model = our_model(name, classes=classes, class_names=names, trains=trains)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(4e-4, weight_decay=0.05), loss, jit_compile=subject.mode == "xla")
    clip, labels = clip_of(subject, name, batch), np.arange(batch) % classes
    clip, labels = keras.ops.convert_to_tensor(clip), keras.ops.convert_to_tensor(labels)
    return lambda: float(model.train_on_batch(clip, labels))


def build_training(subject, name, batch, device="cpu", frames=None, size=224, rematerialize=False):
    """A function that does one step of gradient descent with momentum and gives the loss."""
    clip = clip_of(subject, name, batch, frames, size)
    labels = np.arange(batch) % CLASSES
    if not subject.is_ours:
        return _peer_training(peer_model(subject, name), clip, labels, subject.mode, device)
    import keras

    options = {"rematerialize": rematerialize} if rematerializes(name) else {}
    model = our_model(name, clip.shape[1], size, dtype="mixed_bfloat16" if device == "gpu" else None, **options)
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=subject.mode == "xla",
    )
    clip, labels = keras.ops.convert_to_tensor(clip), keras.ops.convert_to_tensor(labels)
    return lambda: float(model.train_on_batch(clip, labels))


def _peer_training(model, clip, labels, mode, device):
    import torch

    device = {"cpu": "cpu", "gpu": "cuda"}[device]
    model = model.to(device)
    tensor, labels = torch.tensor(clip, device=device), torch.tensor(labels, device=device)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True)
    forward = torch.compile(model) if mode == "compile" else model

    def step():
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
            # Of several heads the losses are added, as ours do.
            loss = sum(torch.nn.functional.cross_entropy(logits, labels) for logits in heads_of(forward(tensor)))
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def build_ceiling(subject, side=4096, device="cpu"):
    """A function that multiplies two large square matrices: the speed that arithmetic can have on the machine."""
    dtype = "bfloat16" if device == "gpu" else "float32"
    matrix = np.random.default_rng(0).standard_normal((side, side), dtype="float32")
    if subject.framework == "jax":
        import jax

        left, product = jax.numpy.asarray(matrix, dtype), jax.jit(lambda a: a @ a)
        return lambda: product(left).block_until_ready()
    import torch

    left = torch.tensor(matrix, dtype=getattr(torch, dtype), device={"cpu": "cpu", "gpu": "cuda"}[device])
    return lambda: (left @ left)[0, 0].item()


def parse(labels):
    """The subjects of a comma-separated list of labels.

    Raises:
        click.BadParameter: If there is none of that name.
    """
    unknown = [label for label in labels.split(",") if label not in SUBJECTS]
    if unknown:
        raise click.BadParameter(f"there is no subject {unknown[0]!r}; take one of {', '.join(SUBJECTS)}.")
    return [SUBJECTS[label] for label in labels.split(",")]
