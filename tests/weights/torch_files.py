"""Files as torch.save writes them, made by hand: without torch, and with values that torch would refuse."""

import io
import os
import pickle
import zipfile

import numpy as np


class Attack:
    """Its pickle runs a command when it is loaded carelessly."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Attribute:
    """A reference to a global, for hand-made pickles."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Storage:
    """A persistent id, for hand-made pickles."""

    def __init__(self, kind, key, count):
        self.pid = ("storage", Attribute("torch", kind), key, "cpu", count)


class Pickler(pickle._Pickler):
    """Writes what torch.save would, without torch, so that hostile values can be written too."""

    dispatch = dict(pickle._Pickler.dispatch)

    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Storage) else None

    def save_attribute(self, obj):
        self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())

    def save_call(self, obj):
        function, *args = obj
        self.save(function)
        self.save(tuple(args))
        self.write(pickle.REDUCE)

    def save_script_module(self, module):
        self.save_attribute(Attribute("__torch__.some", module.name))
        self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        self.memoize(module)
        self.save(module.attributes)
        self.write(pickle.BUILD)

    dispatch[Attribute] = save_attribute


class Call(tuple):
    """A function and its arguments, for hand-made pickles."""


class ScriptModule:
    """A module of a TorchScript archive, for hand-made pickles."""

    def __init__(self, attributes, name="Module"):
        self.attributes, self.name = attributes, name


Pickler.dispatch[Call] = Pickler.save_call
Pickler.dispatch[ScriptModule] = Pickler.save_script_module


def pickled(value, protocol=2):
    buffer = io.BytesIO()
    Pickler(buffer, protocol).dump(value)
    return buffer.getvalue()


def tensor(key, size, stride, offset=0, kind="FloatStorage", count=6):
    rebuild = Attribute("torch._utils", "_rebuild_tensor_v2")
    return Call((rebuild, Storage(kind, key, count), offset, size, stride, False, Call((ORDERED_DICT,))))


ORDERED_DICT = Attribute("collections", "OrderedDict")


def write_zip(
    path, value, storages, folder="any", byteorder=b"little", compression=zipfile.ZIP_STORED, raw=None, program=None
):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", pickled(value) if raw is None else raw)
        if byteorder is not None:
            archive.writestr(f"{folder}/byteorder", byteorder)
        for key, data in storages.items():
            archive.writestr(f"{folder}/data/{key}", data)
        if program is not None:
            archive.writestr(f"{folder}/code/__torch__/some.py", program, zipfile.ZIP_DEFLATED)
            archive.writestr(f"{folder}/constants.pkl", pickled(()))
    return path


SIX = np.arange(6, dtype=np.float32)


def legacy(value, keys, body, magic=0x1950A86A20F9469CFC6C, protocol=1001, little=True, pickle_protocol=2):
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 8}}
    return b"".join(pickled(part, pickle_protocol) for part in (magic, protocol, system, value, keys)) + body
