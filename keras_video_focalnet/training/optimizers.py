"""The optimizers of the recipes: PyTorch's SGD for published runs, AdamW by depth for fine-tuning, Muon from scratch.

The first two state their rule twice, for one variable and for all at once: PyTorch, which compiles nothing, would
otherwise spend more time on launching operations than on the update.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.models.network import CLASSIFIER, STEM, find_network, find_networks, role_kinds
from keras_video_focalnet.utils.checks import check_number


def _as_built(optimizer: type) -> type:
    """Find the class of which Keras makes an instance: on PyTorch it is one that updates all variables at once."""
    return type(optimizer.__new__(optimizer))


class _CommonRules:
    """Rules that all optimizers here follow: PyTorch's clipping, and weight decay of matrices and kernels only, unless
    vectors and numbers are to decay too.
    """

    def __init__(self, *args: Any, decay_vectors: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.decay_vectors = decay_vectors

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, from which `from_config` makes the same optimizer."""
        return {**super().get_config(), "decay_vectors": self.decay_vectors}

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the optimizer's variables."""
        if self.built:
            return
        super().build(variables)
        self.gradient_norm = self.add_variable((), dtype="float32", name="gradient_norm")

    def _use_weight_decay(self, variable: keras.Variable) -> bool:
        decays = self.decay_vectors or len(variable.shape) > 1
        return decays and super()._use_weight_decay(variable)

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Do nothing, because the update step of a variable decays it too."""

    def _decay_apart(self, variable: keras.Variable, rate: Any) -> None:
        """Apply decoupled weight decay, at the rate of the update."""
        if self.weight_decay and self._use_weight_decay(variable):
            self.assign_sub(variable, ops.multiply(variable, rate * self.weight_decay))

    def _clip_gradients(self, grads: Sequence[Any]) -> list[Any]:
        norm = _global_norm(grads)
        self.gradient_norm.assign(norm)
        if not self.global_clipnorm:
            return super()._clip_gradients(grads)
        scale = ops.minimum(self.global_clipnorm / (norm + 1e-6), 1.0)
        return [grad * ops.cast(scale, grad.dtype) for grad in grads]


def _global_norm(grads: Sequence[Any]) -> Any:
    """Compute the norm of all gradients as one vector."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    return ops.sqrt(ops.sum(ops.stack([ops.sum(ops.square(grad)) for grad in grads])))


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class TorchSGD(_CommonRules, _as_built(keras.optimizers.SGD)):
    """Stochastic gradient descent by PyTorch's rule, as the published Video-FocalNets were trained.

    The gradient is clipped by its global norm; `weight_decay` times the parameter is added to it, for matrices and
    kernels only (variables of two or more axes); then `velocity = momentum * velocity + gradient` and
    `parameter -= learning_rate * (gradient + momentum * velocity)`, or without Nesterov `learning_rate * velocity`.
    Keras's SGD keeps the learning rate inside the velocity and decays apart from the gradient, so that with a changing
    rate the two part. Under a bare `tf.distribute` strategy Keras clips the part of each replica by itself.

    Args:
        learning_rate: A number, a schedule or a callable; 0.1 by default.
        momentum: From 0 to 1, 0.9 by default.
        nesterov: Whether the momentum is Nesterov's, True by default.
        weight_decay: 1e-4 by default; None does not decay. `exclude_from_weight_decay` excludes further variables.
        global_clipnorm: What the norm of the entire gradient is clipped to, 5 by default; None does not clip.
        **kwargs: `decay_vectors`, False by default, whether variables of one axis or none decay too; and those of
            `keras.optimizers.Optimizer`: `use_ema`, `gradient_accumulation_steps`, `loss_scale_factor`, ...

    Attributes:
        gradient_norm: float32 variable, once built: the global norm of the last update's gradient before clipping.

    Example:
    >>> weight = keras.Variable([[1.0]])
    >>> optimizer = TorchSGD(0.1, weight_decay=0.5)
    >>> optimizer.apply([ops.ones((1, 1))], [weight])  # 1 - 0.1 * (1.5 + 0.9 * 1.5)
    >>> round(float(weight.numpy()[0, 0]), 4), float(optimizer.gradient_norm.numpy())
    (0.715, 1.0)
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float | None = 1e-4,
        global_clipnorm: float | None = 5.0,
        **kwargs: Any,
    ):
        rule = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(learning_rate, global_clipnorm=global_clipnorm, **rule, **kwargs)

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Update one variable."""
        gradient = ops.cast(gradient, variable.dtype)
        if self._decay(variable):
            gradient = ops.add(gradient, ops.multiply(variable, self._decay(variable)))
        step = gradient
        if self.momentum:
            velocity = self.momentums[self._get_variable_index(variable)]
            self.assign(velocity, ops.add(ops.multiply(velocity, self.momentum), gradient))
            step = ops.add(gradient, ops.multiply(velocity, self.momentum)) if self.nesterov else velocity
        self.assign_sub(variable, ops.multiply(step, ops.cast(learning_rate, variable.dtype)))

    def _parallel_update_step(
        self, grads: Sequence[Any], variables: Sequence[keras.Variable], learning_rate: Any
    ) -> None:
        """Update all variables, on PyTorch."""
        import torch

        parameters = [variable.value for variable in variables]
        decays = [self._decay(variable) for variable in variables]
        step = grads = torch._foreach_add(torch._foreach_mul(parameters, decays), grads)
        if self.momentum:
            velocities = [self.momentums[self._get_variable_index(variable)].value for variable in variables]
            torch._foreach_mul_(velocities, self.momentum)
            torch._foreach_add_(velocities, grads)
            step = torch._foreach_add(grads, velocities, alpha=self.momentum) if self.nesterov else velocities
        # `alpha` would need the rate as a number, and wait for the device to compute it.
        torch._foreach_sub_(parameters, torch._foreach_mul(step, ops.cast(learning_rate, parameters[0].dtype)))

    def _decay(self, variable: keras.Variable) -> float:
        return (self.weight_decay or 0.0) * self._use_weight_decay(variable)


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class LayerwiseAdamW(_CommonRules, _as_built(keras.optimizers.AdamW)):
    """AdamW whose learning rate depends on the layer, so that pretrained layers near the input change less.

    A layer's multiplier scales its update and its decoupled weight decay alike. Weight decay is for matrices and
    kernels only (variables of two or more axes). Clipping is as in `TorchSGD`.

    Args:
        learning_rate: A number, a schedule or a callable; 1e-3 by default.
        weight_decay: 0.05 by default; `exclude_from_weight_decay` excludes further variables.
        multipliers: What the learning rate of a layer's variables is multiplied by, by the name of the layer, as
            `layerwise_multipliers` gives it; 1 for layers that are not in it. None (the default) gives all layers 1.
        **kwargs: `decay_vectors`, False by default, whether variables of one axis or none decay too; and those of
            `keras.optimizers.AdamW`: `beta_1`, `use_ema`, `gradient_accumulation_steps`, ...

    Attributes:
        gradient_norm: float32 variable, once built: the global norm of the last update's gradient before clipping.

    Example:
    >>> model = VideoFocalNetNano(weights=None, classes=4)
    >>> optimizer = LayerwiseAdamW(1e-3, multipliers=layerwise_multipliers(model, decay=0.75))
    >>> model.compile(optimizer, "categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        weight_decay: float = 0.05,
        multipliers: Mapping[str, float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)
        self.multipliers = dict(multipliers or {})

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the optimizer's variables, and look up each variable's multiplier."""
        super().build(variables)
        self._factors = [self._multiplier(variable) for variable in variables]

    def _multiplier(self, variable: keras.Variable) -> float:
        """Look up the multiplier of the outermost layer around the variable that has one."""
        layers = getattr(variable, "path", variable.name).split("/")
        return next((self.multipliers[layer] for layer in layers if layer in self.multipliers), 1.0)

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Update one variable."""
        rate = ops.cast(learning_rate, variable.dtype) * self._factors[self._get_variable_index(variable)]
        self._decay_apart(variable, rate)
        super().update_step(gradient, variable, rate)

    def _parallel_update_step(
        self, grads: Sequence[Any], variables: Sequence[keras.Variable], learning_rate: Any
    ) -> None:
        """Update all variables, on PyTorch: those of one multiplier at once."""
        import torch

        rate = ops.cast(learning_rate, variables[0].dtype)
        groups = {}
        for grad, variable in zip(grads, variables, strict=True):
            groups.setdefault(self._factors[self._get_variable_index(variable)], []).append((grad, variable))
        for factor, group in groups.items():
            decayed = [variable.value for _, variable in group if self._use_weight_decay(variable)]
            if decayed:
                torch._foreach_mul_(decayed, 1 - rate * (factor * self.weight_decay))
            super()._parallel_update_step(*map(list, zip(*group, strict=True)), rate * factor)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "multipliers": dict(self.multipliers)}


_ROLES = (f"role:{STEM}", f"role:{CLASSIFIER}")


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class Muon(_CommonRules, keras.optimizers.Muon):
    """Keras's Muon for kernels of convolutions too: all directions of a matrix are learnt at about the same pace.

    The momentum of a matrix is brought near the closest orthogonal matrix before it is subtracted: its large singular
    values come to 0.7 to 1.2, and very small ones stay below. It is then scaled to the size of an update of Adam's (Liu
    et al. 2025), so that both share a rate. A matrix is the kernel of a dense layer, a tap of a temporal convolution,
    or the kernel of any other convolution with its patch flattened to one axis. What `exclude_layers` names,
    embeddings, depth-wise kernels and vectors take Adam's update. Clipping and decoupled weight decay are as in
    `LayerwiseAdamW`.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982.

    Args:
        learning_rate: A number, a schedule or a callable; 2e-3 by default.
        weight_decay: A number, 0.02 by default, or None; `exclude_from_weight_decay` excludes further variables.
        exclude_layers: List of regular expressions, or None for none; a variable whose path one of them matches takes
            Adam's update. `"role:stem"` and `"role:classifier"`, the default, stand for layers that bear the names of
            those of a registered architecture; `muon_exclusions(model)` adds a last layer of your own.
        adam_beta_2: At least 0 and below 1, 0.99 by default.
        **kwargs: `decay_vectors`, False by default, whether variables of one axis or none decay too; and those of
            `keras.optimizers.Muon`: `momentum`, `ns_steps`, `use_ema`, ..., but for `adam_weight_decay`.

    Attributes:
        gradient_norm: float32 variable, once built: the global norm of the last update's gradient before clipping.

    Raises:
        ValueError: `exclude_layers` is one string or names an unknown role, or `adam_weight_decay` is given.

    Example:
    >>> weight = keras.Variable([[3.0, 0.0], [0.0, 4.0]])
    >>> Muon(1.0, weight_decay=0.0).apply([ops.convert_to_tensor([[0.3, 0.0], [0.0, 5.0]])], [weight])
    >>> [bool(0.15 < 3.0 - weight[0, 0] < 0.35), bool(0.15 < 4.0 - weight[1, 1] < 0.35)]  # of gradients of 0.3 and 5
    [True, True]
    """

    def __init__(
        self,
        learning_rate: Any = 2e-3,
        weight_decay: float | None = 0.02,
        exclude_layers: Sequence[str] | None = _ROLES,
        adam_beta_2: float = 0.99,
        **kwargs: Any,
    ):
        if isinstance(exclude_layers, str):
            raise ValueError(
                f"exclude_layers must be a list of expressions, received {exclude_layers!r}; put it in one."
            )
        unknown = [path for path in exclude_layers or () if path.startswith("role:") and path not in _ROLES]
        if unknown:
            raise ValueError(f"exclude_layers names {unknown[0]!r}; the roles that it takes are {', '.join(_ROLES)}.")
        if "adam_weight_decay" in kwargs:
            raise ValueError(
                f"adam_weight_decay={kwargs['adam_weight_decay']!r} cannot be set: weight_decay is that of all "
                "matrices and kernels; call exclude_from_weight_decay for those that shall not decay."
            )
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            exclude_layers=list(exclude_layers or ()),
            adam_beta_2=adam_beta_2,
            **kwargs,
        )

    def _should_use_adamw(self, variable):
        shape = variable.shape
        excluded = [*self.exclude_layers, *(["(?i:embedding)"] if self.exclude_embeddings else [])]
        roles = {path for path in self.exclude_layers if path.startswith("role:")}
        if roles and any(f"role:{kind}" in roles for kind in role_kinds(variable.path)):
            return True
        # Keras asks for two axes; a depth-wise kernel has one output a channel, which is no matrix.
        return len(shape) < 2 or shape[-1] == 1 or any(re.search(path, variable.path) for path in excluded)

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Update one variable."""
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        self._decay_apart(variable, rate)
        super().update_step(gradient, variable, rate)

    def _muon_update_step(self, gradient, variable, rate, momentum):
        self.assign(momentum, ops.add(ops.multiply(momentum, self.momentum), gradient))
        step = ops.add(gradient, ops.multiply(momentum, self.momentum)) if self.nesterov else momentum
        matrices = ops.reshape(step, _as_matrices(variable.shape))
        update = ops.reshape(self.zeropower_via_newtonschulz5(matrices, self.ns_steps), variable.shape)
        scale = max(matrices.shape[1:]) ** 0.5 * self.rms_rate if self.rms_rate else 1.0
        self.assign_sub(variable, ops.multiply(update, rate * scale))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["adam_weight_decay"]
        return config


def _as_matrices(shape):
    """A kernel's shape as `(matrices, inputs, outputs)`: `(k, 1, ...)` are taps over time, `(k, k, ...)` is a patch."""
    taps = shape[0] if len(shape) == 4 and shape[1] == 1 else 1
    return taps, math.prod(shape[:-1]) // taps, shape[-1]


def layerwise_multipliers(model, decay):
    """What to multiply the learning rate of each layer by: `decay` to the power of its depth below the classifier.

    The classifier and the final norm have depth 0, the last block 1 and so on to the first block; a patch embedding
    between two stages goes with the block that follows it, and the stem is the deepest, as when image transformers are
    fine-tuned (BEiT, Bao et al. 2022).

    Args:
        model: A built `VideoClassifier`, a clone of one, or a model around one; layers around it are not listed.
        decay: Number above 0 and at most 1.

    Returns:
        Dict from a layer's name to its multiplier.

    Raises:
        ValueError: `decay` is outside (0, 1], or the model holds no network of ours, or more than one.

    Example:
    >>> multipliers = layerwise_multipliers(VideoFocalNetNano(weights=None), decay=0.5)
    >>> [multipliers[name] for name in ("head", "stage3_block0", "stage2_downsample", "stage2_block1", "patch_embed")]
    [1.0, 0.5, 0.5, 0.25, 0.015625]
    """
    decay = check_number("decay", decay, above=0, maximum=1, remedy="1 gives every layer the same rate")
    return {layer.name: decay**depth for layer, depth in find_network(model).depths().items()}


def muon_exclusions(model: keras.Model) -> list[str]:
    """What Muon leaves to Adam's update, as regular expressions for its `exclude_layers`: the stem, the classifier, and
    a last layer of the user's own; of a model that holds no `VideoClassifier` only the last layer.
    """
    names = [layer.name for network in find_networks(model) for layer in network.layers_of(STEM, CLASSIFIER)]
    # The last layer that learns is found by its place: a softmax may stand behind it, and it may have any name.
    names += [layer.name for layer in reversed(model.layers) if layer.trainable_weights][:1]
    return [rf"(^|/){re.escape(name)}/" for name in dict.fromkeys(names)]
