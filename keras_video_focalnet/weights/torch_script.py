"""The modules of a TorchScript archive as one dictionary of tensors, without what they compute.

`torch.jit.save` writes a zip archive like that of `torch.save`, whose `data.pkl` holds the module itself: an object of
a class that begins with `__torch__`, with parameters, buffers and further modules as attributes. The program of those
classes lies beside it under `code/` and is never looked at.
"""

from typing import Any

from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.safe_pickle import MAX_NAME_LENGTH, Placeholder

SCRIPT_CLASSES = "__torch__"
"""What the modules of all classes of an archive's own program begin with."""

# Modules and tensors of an archive. A module that is an attribute of many counts each time, as it has as many names.
_MAX_ATTRIBUTES = 100_000
_MAX_DEPTH = 100


class ScriptObject(Placeholder):
    """An object of a class of the archive's own program: what it holds, and nothing that it could do.

    Args:
        parts: The parts of the class's name.

    Attributes:
        attributes: Dict of its attributes by name; empty until a pickle gives them.
    """

    __slots__ = ("attributes",)

    def __init__(self, *parts: str):
        """Keeps the name."""
        super().__init__(*parts)
        self.attributes: dict[Any, Any] = {}

    def __call__(self, *args, **kwargs) -> "ScriptObject":
        """Calling it, as a pickle creates an object of its class, gives another one."""
        return ScriptObject(*self._parts)

    def set_state(self, state: Any):
        """Takes the attributes that a pickle gives."""
        if isinstance(state, dict):
            self.attributes = state


def module_entries(module: ScriptObject, tensor: type) -> dict[str, Any]:
    """Gives the tensors of a module and of all modules in it, by names that are joined with dots.

    Args:
        module: The module.
        tensor: The class of what stands for a tensor.
    """
    entries: dict[str, Any] = {}
    waiting, seen = [("", module, 0)], 0
    while waiting:
        prefix, inside, depth = waiting.pop()
        modules = []
        for attribute, value in inside.attributes.items():
            seen += 1
            name = f"{prefix}{attribute}"
            if seen > _MAX_ATTRIBUTES or depth > _MAX_DEPTH or len(name) > MAX_NAME_LENGTH:
                raise WeightsFileError(
                    f"the modules of the TorchScript archive have more than {_MAX_ATTRIBUTES:,} attributes, lie more "
                    f"than {_MAX_DEPTH} deep or have names of over {MAX_NAME_LENGTH:,} characters; save the model's "
                    "state_dict() with torch.save"
                )
            if isinstance(value, ScriptObject):
                modules.append((f"{name}.", value, depth + 1))
            # A tensor of a kind that is not read keeps its name, which the error about it tells.
            elif isinstance(value, tensor) or _was_tensor(value):
                entries[name] = value
        waiting += reversed(modules)
    if not entries:
        raise WeightsFileError(
            f"the module {module.name} of the TorchScript archive has no parameters; one that was frozen holds them in "
            "its program: save it before torch.jit.freeze, or its state_dict() with torch.save"
        )
    return entries


def _was_tensor(value):
    return isinstance(value, Placeholder) and value.name.startswith(("torch._utils.", "torch.Tensor"))
