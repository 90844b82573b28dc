"""Image augmentation layers of Keras and KerasCV on clips.

This is the one file of `data/` that imports Keras, and nothing else of `data/` imports it: data workers stay free of
Keras and of every backend.
"""

import contextlib
import random
import threading

import keras
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.layers.preprocessing.data_layer import DataLayer

MIXES_BATCHES = ("CutMix", "FourierMix", "MixUp", "Mosaic")
"""Layers that mix images with others of their batch, which takes labels too."""

DRAWS_IN_BRANCHES = ("AugMix", "RandAugment", "RandomApply", "RandomAugmentationPipeline", "RandomChoice")
"""Layers of KerasCV that draw inside of branches of a graph, whose values cannot leave them."""

_REPLAYING = threading.RLock()


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class ClipAugmentation(DataLayer):
    """Lets an image augmentation layer change clips: one random draw for all the frames of a clip.

    Image layers refuse 5-D input, and would draw anew for every frame if frames were passed as a batch. Here the layer
    is called once for each position in the clip, on that frame of all clips of the batch, and whatever it draws from
    repeats for every position what it gave for the first. So what a layer draws for each image of a batch is drawn for
    each clip; a layer that measures an image (`AutoContrast`, `Equalization`) still measures every frame by itself.

    It works wherever the layer does: in a model, eagerly, and on every backend in the `map` of `tf.data` and of Grain.
    Some of Keras's layers draw once for the whole batch, so that it is the same in all clips of one: `RandomCrop` and
    `AugMix` everything, `RandAugment` the choice of operations, `RandomElasticTransform` and `RandomGaussianBlur` the
    strength. To draw for each clip, map the layer over single clips before batching. `AugMix` chooses its operations
    when a graph is traced, and never again in that graph; this is so without the wrapper too.

    Layers of KerasCV work too. Those that KerasCV maps over the images of a batch (its `BaseImageAugmentationLayer`,
    such as `GridMask`) need a known batch size, or single clips. Those that choose among layers (its `RandAugment`,
    `AugMix`, `RandomChoice`, ...) are refused: Keras has its own of the first two. Noise that fills a hole
    (`RandomCutout(fill_mode="gaussian_noise")`) still differs from frame to frame.

    Args:
        layer: The image layer. A `keras.layers.Pipeline` of several works too.
        **kwargs: of `keras.layers.Layer`.

    Input shape: `(batch, frames, height, width, channels)`, or `(frames, height, width, channels)` for a single clip,
        any real dtype, in the value range that the layer was given. The number of frames must be known when a graph is
        built.

    Output shape: the same, with the height and width that the layer gives, floating.

    Raises:
        TypeError: `layer` is no Keras layer.
        ValueError: `layer` mixes batches, for which `keras_video_focalnet.data.mixing.Mixing` is; or it cannot be
            replayed; or the input is of another rank, or of an unknown number of frames.

    Example:
    >>> clips = np.random.default_rng(0).uniform(0, 255, (2, 8, 32, 32, 3)).astype("float32")
    >>> turned = ClipAugmentation(keras.layers.RandomRotation(0.1))(clips, training=True)
    >>> turned.shape
    (2, 8, 32, 32, 3)
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(f"layer must be a Keras layer, received {layer!r}; pass keras.layers.RandomRotation(0.1).")
        for part in layer._flatten_layers():
            name = type(part).__name__
            if name in MIXES_BATCHES:
                raise ValueError(
                    f"layer={name} mixes the images of a batch and their labels; "
                    "use keras_video_focalnet.data.mixing.Mixing, which does so with clips."
                )
            if name in DRAWS_IN_BRANCHES and type(part).__module__.startswith("keras_cv."):
                raise ValueError(
                    f"layer={name} of KerasCV draws inside of branches, which cannot be replayed for every frame; use "
                    "keras.layers.RandAugment, keras.layers.AugMix, or the layers that it would choose from."
                )
        self.layer = layer

    def build(self, input_shape):
        """Nothing: the layer builds itself when it is first called."""

    def call(self, clips, training=True):
        # Keras hands `training` down to the layer.
        self._check_shape(clips.shape)
        clips = self.backend.cast(clips, self.compute_dtype)
        if len(clips.shape) == 4:
            return self._change(clips, time=0)
        if any(hasattr(part, "augment_image") for part in self.layer._flatten_layers()):
            # KerasCV draws inside of a map over the batch, from where no value can be taken to the next frame.
            if clips.shape[0] is None:
                raise ValueError(
                    f"layer={type(self.layer).__name__} of KerasCV needs a known batch size, received shape "
                    f"{tuple(clips.shape)}; map it over single clips, or batch with drop_remainder=True."
                )
            return self.backend.numpy.stack([self._change(clips[index], time=0) for index in range(clips.shape[0])])
        return self._change(clips, time=1)

    def _change(self, clips, time):
        """The frames along the axis `time`, each changed by the layer with the draws of the first."""
        changed = []
        with _REPLAYING, _replayed(self._draws()) as rewind:
            for index in range(clips.shape[time]):
                rewind()
                changed.append(self.layer(clips[index] if time == 0 else clips[:, index]))
        return self.backend.numpy.stack(changed, axis=time)

    def compute_output_spec(self, clips, **kwargs):
        self._check_shape(clips.shape)
        images = self.layer.compute_output_spec(keras.KerasTensor(clips.shape[-3:], self.compute_dtype))
        return keras.KerasTensor((*clips.shape[:-3], *images.shape), images.dtype)

    def compute_output_shape(self, input_shape):
        return self.compute_output_spec(keras.KerasTensor(input_shape)).shape

    def get_config(self):
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})

    def _check_shape(self, shape):
        if len(shape) not in (4, 5):
            raise ValueError(
                f"{type(self).__name__} takes clips of shape (batch, frames, height, width, channels) or (frames, "
                f"height, width, channels), received shape {tuple(shape)}."
            )
        if shape[-4] is None:
            raise ValueError(
                f"The number of frames must be known, received shape {tuple(shape)}; give the model's input, or the "
                "tf.data element, a shape with the number of frames (tf.ensure_shape)."
            )

    def _draws(self):
        """What the layer draws with on the running backend: objects, each with the name of the method that draws."""
        found = []
        for layer in self.layer._flatten_layers():
            if hasattr(layer, "get_random_transformation_batch"):
                found.append((layer, "get_random_transformation_batch"))
            elif hasattr(layer, "augment_image"):
                found.append((layer, "get_random_transformation"))
            elif self.backend.name == keras.backend.backend():
                generators = [item for item in vars(layer).values() if isinstance(item, keras.random.SeedGenerator)]
                found += [(generator, "next") for generator in generators]
            elif isinstance(layer, DataLayer) and hasattr(layer, "generator"):
                # A graph of tf.data under another backend: there a layer draws from a second generator.
                layer.backend.set_backend(self.backend.name)
                found.append((layer._get_seed_generator(self.backend.name), "next"))
                layer.backend.reset()
        return found


@contextlib.contextmanager
def _replayed(draws):
    """Within it, draws repeat from the first on whenever the function that it yields is called.

    No state of a seed generator is set back, so that calls of one graph that run side by side, as in `tf.data`, cannot
    disturb each other. Python's and torch's own generators are set back: `AugMix` draws from the former, and
    `RandomElasticTransform` on PyTorch from the latter.
    """
    tapes = [_Tape(getattr(owner, name)) for owner, name in draws]
    shared = [(random.setstate, random.getstate())]
    if keras.backend.backend() == "torch":
        import torch

        shared.append((torch.set_rng_state, torch.get_rng_state()))
        if torch.cuda.is_initialized():
            shared.append((torch.cuda.set_rng_state, torch.cuda.get_rng_state()))

    def rewind():
        for tape in tapes:
            tape.position = 0
        for restore, state in shared:
            restore(state)

    try:
        for (owner, name), tape in zip(draws, tapes, strict=True):
            vars(owner)[name] = tape
        yield rewind
    finally:
        for owner, name in draws:
            vars(owner).pop(name, None)


class _Tape:
    """A method that draws once and repeats."""

    def __init__(self, draw):
        self.draw = draw
        self.values = []
        self.position = 0

    def __call__(self, *args, **kwargs):
        if in_symbolic_scope():
            # Keras builds a layer, or asks for its output's shape, by tracing it: such a value means nothing elsewhere.
            return self.draw(*args, **kwargs)
        if self.position == len(self.values):
            self.values.append(self.draw(*args, **kwargs))
        self.position += 1
        return self.values[self.position - 1]
