"""Video-FocalNet (Wasim et al., ICCV 2023): the whole architecture, top to bottom as in the paper's Figure 2."""

import inspect

import keras
from keras import ops

from keras_video_focalnet.labels import load_labels
from keras_video_focalnet.layers import FocalBlock, PatchEmbedding
from keras_video_focalnet.layers.dropout import Dropout
from keras_video_focalnet.layers.focal_block import REMATERIALIZATIONS
from keras_video_focalnet.layers.initializers import LinearKernel
from keras_video_focalnet.layers.layer_normalization import LayerNormalization
from keras_video_focalnet.layers.quantization import quantize_layers, quantized_layers
from keras_video_focalnet.layers.validation import choice
from keras_video_focalnet.models.arguments import (
    DEFAULT_SHAPE,
    STAGES,
    choices,
    clip_shape,
    per_stage,
    positive,
    share,
    whole,
)
from keras_video_focalnet.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from keras_video_focalnet.ops.formulation import force
from keras_video_focalnet.weights.loading import open_weights


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class VideoFocalNet(keras.Model):
    """Video-FocalNet as a functional model: four stages of focal blocks after a patch embedding each (paper Figure 2).

    Every block is one layer, `stage{S}_block{B}` (from 0), with three outputs: its tokens and its spatial and temporal
    modulator, each `(batch, frames, height * width, channels)`. `feature_taps(model)` names them all.

    Args:
        embed_dim: int, channels of the first stage; each further stage doubles them.
        depths: four ints, blocks per stage.
        focal_levels: int or four, focal levels L.
        focal_windows: odd int or four, the window of the first level.
        focal_factor: even int or four, what each further level adds to the window.
        mlp_ratio: float, hidden units of a block's MLP over its channels.
        patch_size: int, side of a patch in the stem.
        tubelet_size: int, frames that a patch spans in the stem.
        use_conv_embed: bool, overlapping patches (see `PatchEmbedding`).
        use_layerscale: bool, scale the branches of every block.
        layerscale_value: float, that scale at the start.
        use_postln: bool, layer norms after modulation and MLP instead of before.
        use_postln_in_modulation: bool, a layer norm before the modulation's output projection.
        normalize_modulator: bool, divide the gated sums by L + 1.
        drop_rate: float, dropout after the stem and in the blocks.
        drop_path_rate: float, stochastic depth of the last block; it rises linearly from 0.
        drop_path_per: `"frame"` (as the reference) or `"clip"`.
        rematerialize: False, `"cheap"` or True, or four of them, one a stage: what the backward pass computes again
            instead of keeping it, so that training takes less memory and more time, see `FocalBlock`.
        include_top: bool, the classifier.
        input_tensor: a Keras tensor of shape `(batch, frames, height, width, 3)` to build upon.
        input_shape: `(frames, height, width, 3)`, default `(8, 224, 224, 3)`; frames may be None.
        pooling: without the classifier, None gives the final norm's `(batch, frames, height, width, channels)`, `"avg"`
            and `"max"` reduce it over space, then over frames, to `(batch, channels)`.
        classes: int, classes of the classifier.
        classifier_activation: activation of the classifier; None gives logits. Scores are float32 under every policy.
        include_preprocessing: bool; True takes pixels of 0 to 255 in any dtype and normalizes them with the ImageNet
            mean and standard deviation in float32; False takes what `preprocess_input` gives.
        labels: class names, as a list, the name of a data set or a file, or None; kept in the configuration.
        dtype: dtype policy of all layers but preprocessing and scores, default the global one.
        name: str.
        trainable: bool.

    Raises:
        ValueError: for a shape, an option or a combination that does not fit; the message names the remedy.

    Example:
    >>> model = VideoFocalNet(embed_dim=16, depths=(1, 1, 2, 1), input_shape=(8, 64, 64, 3), classes=9)
    >>> model.predict(np.zeros((1, 8, 64, 64, 3), "uint8"), verbose=0).shape
    (1, 9)
    """

    def __init__(
        self,
        embed_dim=96,
        depths=(2, 2, 6, 2),
        focal_levels=2,
        focal_windows=3,
        focal_factor=2,
        mlp_ratio=4.0,
        patch_size=4,
        tubelet_size=1,
        use_conv_embed=False,
        use_layerscale=False,
        layerscale_value=1e-4,
        use_postln=False,
        use_postln_in_modulation=False,
        normalize_modulator=False,
        drop_rate=0.0,
        drop_path_rate=0.1,
        drop_path_per="frame",
        rematerialize=False,
        include_top=True,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=400,
        classifier_activation="softmax",
        include_preprocessing=True,
        labels=None,
        dtype=None,
        name="video_focalnet",
        trainable=True,
    ):
        embed_dim = whole("embed_dim", embed_dim, 1)
        depths = per_stage("depths", depths, 1)
        focal_levels = per_stage("focal_levels", focal_levels, 0)
        focal_windows = per_stage("focal_windows", focal_windows, 1)
        focal_factor = per_stage("focal_factor", focal_factor, 0)
        mlp_ratio = positive("mlp_ratio", mlp_ratio)
        patch_size = whole("patch_size", patch_size, 1)
        tubelet_size = whole("tubelet_size", tubelet_size, 1)
        drop_rate = share("drop_rate", drop_rate)
        drop_path_rate = share("drop_path_rate", drop_path_rate)
        choice("drop_path_per", drop_path_per, ("frame", "clip"))
        rematerialize = choices("rematerialize", rematerialize, REMATERIALIZATIONS)
        choice("pooling", pooling, (None, "avg", "max"))
        if include_top:
            classes = whole("classes", classes, 1)
            labels = None if labels is None else tuple(load_labels(labels))
            if labels is not None and len(labels) != classes:
                raise ValueError(f"labels has {len(labels)} names but classes={classes}; pass one name a class.")
        frames, height, width, _ = clip_shape(input_tensor, input_shape, tubelet_size)
        dtype = keras.dtype_policies.get(dtype)
        # Preprocessing and scores keep at least float32, whatever the policy of the layers between.
        exact = "float64" if dtype.compute_dtype == "float64" else "float32"

        # === Functional model ===
        clip = input_tensor
        if clip is None:
            clip = keras.Input((frames, height, width, 3), dtype="float32", name="clip")
        # The temporal view: a rank above 4 would keep an exported model off mobile GPU delegates.
        tokens = (-1 if frames is None else frames, height * width, 3)
        x = keras.layers.Reshape(tokens, dtype=exact, name="frames")(clip)
        if include_preprocessing:
            variance = [std**2 for std in IMAGENET_STD]
            x = keras.layers.Normalization(mean=IMAGENET_MEAN, variance=variance, dtype=exact, name="normalization")(x)
        elif not keras.backend.is_float_dtype(clip.dtype):
            x = ops.cast(x, exact)
        embed = PatchEmbedding(
            embed_dim, (height, width), patch_size, tubelet_size, use_conv_embed, dtype=dtype, name="patch_embed"
        )
        x = embed(x)
        if drop_rate:
            x = Dropout(drop_rate, dtype=dtype, name="embed_dropout")(x)

        drop_path_rates = _linear_rise(drop_path_rate, sum(depths))
        for stage in range(STAGES):
            for block in range(depths[stage]):
                x, _, _ = FocalBlock(
                    embed_dim * 2**stage,
                    embed.output_grid,
                    mlp_ratio=mlp_ratio,
                    focal_level=focal_levels[stage],
                    focal_window=focal_windows[stage],
                    focal_factor=focal_factor[stage],
                    use_postln=use_postln,
                    use_postln_in_modulation=use_postln_in_modulation,
                    normalize_modulator=normalize_modulator,
                    use_layerscale=use_layerscale,
                    layerscale_value=layerscale_value,
                    drop_rate=drop_rate,
                    drop_path_rate=next(drop_path_rates),
                    drop_path_per=drop_path_per,
                    rematerialize=rematerialize[stage],
                    dtype=dtype,
                    name=f"stage{stage}_block{block}",
                )(x)
            if stage < STAGES - 1:
                embed = PatchEmbedding(
                    embed_dim * 2 ** (stage + 1),
                    embed.output_grid,
                    patch_size=2,
                    use_conv_embed=use_conv_embed,
                    dtype=dtype,
                    name=f"stage{stage}_downsample",
                )
                x = embed(x)
        x = LayerNormalization(dtype=dtype, name="norm")(x)

        if include_top:
            x = ops.mean(ops.mean(x, axis=2), axis=1)
            x = keras.layers.Dense(
                classes, classifier_activation, kernel_initializer=LinearKernel(), dtype=exact, name="head"
            )(x)
        elif pooling is None:
            x = keras.layers.Reshape((x.shape[1] or -1, *embed.output_grid, x.shape[-1]), dtype=dtype, name="grid")(x)
        else:
            reduce = ops.mean if pooling == "avg" else ops.max
            x = reduce(reduce(x, axis=2), axis=1)

        source = keras.utils.get_source_inputs(clip)
        super().__init__(inputs=source[0] if len(source) == 1 else source, outputs=x, name=name, trainable=trainable)

        # === Config ===
        self._config = {
            "embed_dim": embed_dim,
            "depths": depths,
            "focal_levels": focal_levels,
            "focal_windows": focal_windows,
            "focal_factor": focal_factor,
            "mlp_ratio": mlp_ratio,
            "patch_size": patch_size,
            "tubelet_size": tubelet_size,
            "use_conv_embed": use_conv_embed,
            "use_layerscale": use_layerscale,
            "layerscale_value": layerscale_value,
            "use_postln": use_postln,
            "use_postln_in_modulation": use_postln_in_modulation,
            "normalize_modulator": normalize_modulator,
            "drop_rate": drop_rate,
            "drop_path_rate": drop_path_rate,
            "drop_path_per": drop_path_per,
            "rematerialize": rematerialize,
            "include_top": include_top,
            "input_shape": tuple(clip.shape[1:]),
            "pooling": pooling,
            "classes": classes,
            "classifier_activation": classifier_activation,
            "include_preprocessing": include_preprocessing,
        }
        self._layer_dtype = dtype
        self.classes = classes if include_top else None
        self.labels = labels if include_top else None
        self._clip = clip

    def get_config(self):
        # Serialized here and not in the constructor: Keras's serializer imports TensorFlow on every backend.
        config = {
            **self._config,
            "classifier_activation": keras.activations.serialize(
                keras.activations.get(self._config["classifier_activation"])
            ),
            "labels": self.labels,
            "dtype": keras.dtype_policies.serialize(self._layer_dtype),
            "name": self.name,
            "trainable": self.trainable,
            "quantized": {layer.name: how for layer in self.layers if (how := quantized_layers(layer))},
            "frozen_layers": [layer.name for layer in self.layers if layer.weights and not layer.trainable],
        }
        if not _is_input(self._clip):
            # What stands before the clip belongs to the model too: kept as a model of its own.
            before = keras.Model(keras.utils.get_source_inputs(self._clip), self._clip)
            config["input_graph"] = keras.saving.serialize_keras_object(before)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        frozen, quantized = config.pop("frozen_layers", ()), config.pop("quantized", {})
        with keras.saving.custom_object_scope(custom_objects or {}):
            before = config.pop("input_graph", None)
            if before is not None:
                before = keras.saving.deserialize_keras_object(before)
                config.update(input_tensor=before.output, input_shape=None)
            model = cls(**config)
        for name in frozen:
            model.get_layer(name).trainable = False
        for name, how in quantized.items():
            quantize_layers(model.get_layer(name), how)
        return model

    def export(self, *args, **kwargs):
        """As `keras.Model.export`, with operations that any device and converter knows.

        What is fastest on the CPU of this machine, such as Winograd's filtering in float32, would be slow or inexact on
        a phone's GPU or in half precision. To trace the model by other means, do so inside
        `keras_video_focalnet.ops.formulation.force(temporal_conv="convolution", linear="library")`.
        """
        with force(temporal_conv="convolution", linear="library", modulation="inline"):
            return super().export(*args, **kwargs)

    def reset_classifier(self, classes, labels=None):
        """Give a model with this one's weights and a new, randomly initialized classifier.

        Args:
            classes: int, classes of the new classifier.
            labels: list of their names, or None.

        Returns:
            A new `VideoFocalNet`; this one is left as it is.

        Example:
        >>> VideoFocalNetNano(weights=None, classes=9).reset_classifier(4).output_shape
        (None, 4)
        """
        config = {**self.get_config(), "include_top": True, "classes": classes, "labels": labels, "trainable": True}
        config["classifier_activation"] = self._config["classifier_activation"]
        config["frozen_layers"] = [name for name in config["frozen_layers"] if name != "head"]
        config["quantized"] = {name: how for name, how in config["quantized"].items() if name != "head"}
        model = type(self).from_config(config)
        for layer in self.layers:
            if layer.name != "head" and layer.weights:
                model.get_layer(layer.name).set_weights(layer.get_weights())
        return model


def _linear_rise(rate, blocks):
    """Stochastic depth of each block: from 0 to `rate`, evenly."""
    return (rate * block / max(blocks - 1, 1) for block in range(blocks))


def _is_input(tensor):
    return isinstance(tensor._keras_history.operation, keras.layers.InputLayer)


OPTIONS = tuple(
    name for name in inspect.signature(VideoFocalNet.__init__).parameters if name not in ("self", "input_shape")
)


def _builder(function_name, summary, weights, shape, **preset):
    """A function in the `keras.applications` convention that builds one published configuration."""

    def build(
        include_top=True,
        weights=weights,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=None,
        classifier_activation="softmax",
        include_preprocessing=True,
        name=preset["name"],
        temporal_init="identity",
        **options,
    ):
        unknown = [option for option in options if option not in OPTIONS]
        if unknown:
            raise TypeError(f"{function_name} has no argument {unknown[0]!r}; of VideoFocalNet: {', '.join(OPTIONS)}.")
        choice("temporal_init", temporal_init, ("identity", "random"))
        # What cannot be built is refused before anything is downloaded.
        clip_shape(input_tensor, input_shape, whole("tubelet_size", options.get("tubelet_size", 1), 1))
        source = open_weights(function_name, weights)
        if classes is None:
            classes = source.classes or 400
        labels = source.labels if include_top and classes == source.classes else None
        if input_tensor is None and input_shape is None:
            input_shape = shape
        model = VideoFocalNet(
            include_top=include_top,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            include_preprocessing=include_preprocessing,
            **{**preset, "labels": labels, "name": name, **options},
        )
        source.load_into(model, temporal_init=temporal_init)
        return model

    build.__name__ = build.__qualname__ = function_name
    build.default_shape = shape
    build.__doc__ = BUILDER_DOC.format(summary=summary, function=function_name, shape=shape, weights=weights)
    return build


BUILDER_DOC = """{summary}

    Args:
        include_top: bool, the classifier.
        weights: None (random), a data set ("k400", "k600", "ssv2", "diving48", "activitynet", "camera_motion" or their
            long names; `list_models()` tells which exist), "imagenet" (the spatial branch from FocalNet), a path (.pth,
            Keras 2 .h5, .weights.h5, .keras, .safetensors) or a URL.
        input_tensor: a Keras tensor of shape `(batch, frames, height, width, 3)` to build upon.
        input_shape: `(frames, height, width, 3)`, default {shape}; frames may be None.
        pooling: without the classifier: None, "avg" or "max", see `VideoFocalNet`.
        classes: int; None means the weights' own count, else 400. A different count loads all but the classifier, and
            warns.
        classifier_activation: activation of the classifier; None gives logits.
        include_preprocessing: bool; True takes pixels of 0 to 255, False takes what `preprocess_input` gives.
        name: str.
        temporal_init: of weights that have no temporal branch (ImageNet): "identity" makes the temporal modulator 1, so
            that at first a still clip gives the image model's answer; "random" is the reference's initialization.
        **options: any further argument of `VideoFocalNet`.

    Returns:
        A `VideoFocalNet`.

    Raises:
        ValueError: for arguments or weights that do not fit; the message names the remedy.

    Example:

    >>> model = {function}(weights=None, classes=10)
    >>> model.output_shape
    (None, 10)
    """

VideoFocalNetT = _builder(
    "VideoFocalNetT",
    "Video-FocalNet-Tiny: 49.6 M parameters, 63 GMAC a clip of 8x224x224 (paper 3.2).",
    weights="k400",
    shape=DEFAULT_SHAPE,
    embed_dim=96,
    depths=(2, 2, 6, 2),
    drop_path_rate=0.2,
    name="video_focalnet_t",
)
VideoFocalNetS = _builder(
    "VideoFocalNetS",
    "Video-FocalNet-Small: 88.7 M parameters, 124 GMAC a clip of 8x224x224 (paper 3.2).",
    weights="k400",
    shape=DEFAULT_SHAPE,
    embed_dim=96,
    depths=(2, 2, 18, 2),
    drop_path_rate=0.3,
    name="video_focalnet_s",
)
VideoFocalNetB = _builder(
    "VideoFocalNetB",
    "Video-FocalNet-Base: 157.4 M parameters, 221 GMAC a clip of 8x224x224 (paper 3.2).",
    weights="k400",
    shape=DEFAULT_SHAPE,
    embed_dim=128,
    depths=(2, 2, 18, 2),
    drop_path_rate=0.5,
    name="video_focalnet_b",
)
VideoFocalNetNano = _builder(
    "VideoFocalNetNano",
    "Video-FocalNet-Nano: a small configuration of ours, whose camera-motion weights ship in the package.",
    weights="camera_motion",
    shape=(8, 64, 64, 3),
    embed_dim=16,
    depths=(1, 1, 2, 1),
    drop_path_rate=0.0,
    name="video_focalnet_nano",
)
