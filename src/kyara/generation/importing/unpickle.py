"""Reading pickles that someone else made, as data.

A pickle is a program: Python's unpickler calls whatever it names. The machine here knows the instructions that build
plain values, and calls nothing but the few functions of its own in `MEANINGS`; a pickle that names anything else is
refused before it is used. Classes are never looked up: an object of one is a `Thing`, its name and its attributes.
The instructions themselves are decoded by the standard library (pickletools), which runs none.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from kyara.files.names import printable

MOST_STEPS = 300_000
"""Instructions that a pickle may have: each may cost some hundred bytes. A snapshot of NVIDIA's has 30,000."""
MOST_TEXT = 64 << 20
"""Characters that a pickle may have. The source code in NVIDIA's snapshots has 100,000."""
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What PyTorch's format before 1.6 begins with: a pickle of one number."""
INNER = ("torch.storage", "_load_from_bytes")
"""How a pickle holds a storage: as bytes in PyTorch's older format."""

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class ForeignError(ValueError):
    """A file that is damaged, not of a kind that is known, or up to something; the message says what."""


@dataclasses.dataclass(frozen=True)
class Name:
    """A class or function that a pickle names, allowed but not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}"[:100])


@dataclasses.dataclass(eq=False)
class Thing:
    """An object, as its class's name and its attributes."""

    name: str
    state: Any = None


@dataclasses.dataclass(eq=False)
class Storage:
    """Numbers somewhere in a file. `read` gives their bytes."""

    dtype: torch.dtype
    count: int
    read: Callable[[], bytes] | None = None


@dataclasses.dataclass(eq=False)
class Stored:
    """A tensor that has not been read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that are read for it: those of its whole storage."""
        return self.storage.count * self.storage.dtype.itemsize

    def load(self) -> Tensor:
        """The tensor, of its shape, in memory of its own; numbers with a point as float32. ForeignError if the file
        holds fewer bytes than it says."""
        storage = self.storage
        content = storage.read() if storage.read else b""
        if not content or len(content) != storage.count * storage.dtype.itemsize:
            raise ForeignError(f"damaged: {len(content):,} bytes where {storage.count:,} numbers should be")
        flat = torch.frombuffer(bytearray(content), dtype=storage.dtype)
        tensor = flat.as_strided(self.shape, self.stride, self.offset)
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        return tensor.clone(memory_format=torch.contiguous_format)


def read_pickle(file: BinaryIO, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The value of the pickle at the file's position, which moves behind it. `persistent` says what a persistent id
    stands for; without it there may be none. ForeignError says what is wrong with it."""
    try:
        return _Machine(persistent).run(file)
    except ForeignError:
        raise
    except Exception as error:  # whatever a damaged pickle can lead to, in here or in pickletools
        raise ForeignError(f"damaged or no pickle ({printable(str(error)[:200]) or type(error).__name__})") from error


class _Machine:
    """The stack machine that a pickle is a program for, without the instructions that could do anything."""

    def __init__(self, persistent: Callable[[Any], Any] | None) -> None:
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        """The stacks below the marks."""
        self.memo: dict[int, Any] = {}

    def run(self, file: BinaryIO) -> Any:
        text = 0
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            text += len(argument) if isinstance(argument, str) else 0
            if steps > MOST_STEPS or text > MOST_TEXT:
                raise ForeignError("far longer than the description of a network can be")
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _FRESH:
                self.stack.append(_FRESH[name]())
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise ForeignError(f"the instruction {name} has no place in the description of a network")
        raise ForeignError("truncated")

    # What takes and gives values.

    def top(self) -> list[Any]:
        """The values above the last mark, which goes."""
        found, self.stack = self.stack, self.marked.pop()
        return found

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: object) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def tuple_of(self, count: int) -> None:
        self.stack[len(self.stack) - count :] = [tuple(self.stack[len(self.stack) - count :])]

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ForeignError("damaged: something is added to what is no list")
        target.extend(values)

    def update(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise ForeignError("damaged: something is set in what is no table")
        target.update(_table(zip(values[::2], values[1::2], strict=True)))

    def remember(self, key: int | None) -> None:
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    # What would call something.

    def name(self, module: str, name: str) -> None:
        known = (module, name) in MEANINGS or (module == "torch" and name in DTYPES)
        if (module, name) == INNER and self.persistent is not None:
            raise ForeignError("damaged: numbers inside of numbers")
        if not known:
            if module.startswith("dnnlib.tflib"):
                raise ForeignError("a network for TensorFlow; convert it with the legacy.py of NVIDIA's newer programs")
            raise ForeignError(
                f"it asks for {Name(module, name)}, which weights have no use for; nothing of it was run. "
                "Do not open this file with other programs unless you trust whoever made it"
            )
        self.stack.append(Name(module, name))

    def call(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ForeignError("it calls something that is no function; nothing of it was run")
        meaning = MEANINGS.get((function.module, function.name))
        if meaning is None:
            raise ForeignError(f"it calls {function}, which is only a name here")
        self.stack.append(meaning(*arguments))

    def build(self, _: object) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Thing):
            target.state = state
        elif not (isinstance(target, dict) and isinstance(state, dict) and set(state) == {"_metadata"}):
            raise ForeignError("it gives attributes to something that has none")

    def persist(self, _: object) -> None:
        if self.persistent is None:
            raise ForeignError("it refers to something outside itself")
        self.stack.append(self.persistent(self.stack.pop()))


_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_FRESH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,  # nothing here needs the difference, and a list asks no element for its hash
}
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": _Machine.mark,
    "POP": lambda m, _: m.stack.pop() if m.stack else m.top(),
    "POP_MARK": lambda m, _: m.top(),
    "TUPLE": lambda m, _: m.push(tuple(m.top())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.top()),
    "ADDITEMS": lambda m, _: m.extend(m.top()),
    "SETITEM": lambda m, _: m.update([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m, _: m.update(m.top()),
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.remember,
    "GET": lambda m, key: m.stack.append(m.memo[key]),
    "BINGET": lambda m, key: m.stack.append(m.memo[key]),
    "LONG_BINGET": lambda m, key: m.stack.append(m.memo[key]),
    "GLOBAL": lambda m, text: m.name(*text.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(_text(m.stack.pop(-2)), _text(m.stack.pop())),
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persist,
}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ForeignError("damaged: no text where a name should be")
    return value


def _table(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    """A dict. Its keys are plain: the hash of a tuple deep enough would end the process."""
    table = {}
    for key, value in pairs:
        if not isinstance(key, str | int | float | bytes | None):
            raise ForeignError("damaged: the key of a table is no plain value")
        table[key] = value
    return table


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any = False, hooks: Any = None, more: Any = None
) -> Stored:
    """What torch._utils._rebuild_tensor_v2 means. Every number of the storage may be used once: a tensor is never
    larger than what the file holds of it."""
    numbers = [offset, *shape, *stride] if isinstance(shape, tuple) and isinstance(stride, tuple) else [None]
    plain = isinstance(storage, Storage) and all(type(n) is int and n >= 0 for n in numbers)
    if not plain or len(shape) != len(stride) or len(shape) > 8:
        raise ForeignError("damaged: a tensor is not described by whole numbers")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if not 0 < math.prod(shape) <= storage.count or last >= storage.count:
        shown = " x ".join(f"{n:,}"[:30] for n in shape)
        raise ForeignError(f"a tensor claims {shown} numbers where {storage.count:,} are")
    return Stored(storage, offset, shape, stride)


def _scalar(dtype: Any, content: Any) -> int | float | bool:
    """What numpy.core.multiarray.scalar means: a number as its bytes."""
    code = dtype.code if isinstance(dtype, _DType) else ""
    if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
        raise ForeignError("damaged: a number of a kind that no network has")
    return np.frombuffer(content, np.dtype(f"<{code}"), count=1).item()


class _DType(Thing):
    """A dtype of NumPy: its name is the code, its state holds the byte order."""

    @property
    def code(self) -> str:
        if isinstance(self.state, tuple) and ">" in self.state:
            raise ForeignError("numbers are stored with the highest byte first, as no machine of today does")
        return self.name


def _persistent_object(meta: Any) -> Thing:
    """What torch_utils.persistence._reconstruct_persistent_obj means, which would run the source code in `meta`: that
    stays text here and is dropped."""
    if not isinstance(meta, Mapping) or not isinstance(meta.get("class_name"), str):
        raise ForeignError("damaged: an object does not say what it is")
    return Thing(meta["class_name"], meta.get("state"))


MEANINGS: dict[tuple[str, str], Callable[..., Any] | None] = {
    ("collections", "OrderedDict"): _table,
    ("dnnlib.util", "EasyDict"): _table,
    ("builtins", "set"): lambda values=(): list(values),
    ("torch", "Size"): lambda values=(): tuple(values),
    ("torch", "device"): lambda *about: Thing("device", about),
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    INNER: lambda content: read_storage(content),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
    ("argparse", "Namespace"): lambda: Thing("Namespace"),
    ("numpy", "dtype"): lambda code, *_: _DType(_text(code)),
    ("numpy", "ndarray"): None,
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: Thing("ndarray") for core in ("core", "_core")},
}
"""What the functions and classes that a pickle may name do here; None where only the name may stand."""


def storage_of(persistent_id: Any) -> tuple[Storage, str]:
    """The storage that PyTorch's persistent id describes, still empty, and its key."""
    try:
        kind, name, key, _, count, *view = persistent_id
        dtype = DTYPES[name.name]
        if (kind, name.module) != ("storage", "torch") or type(count) is not int or count < 0 or any(view):
            raise ValueError
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ForeignError("it refers to something outside itself that is no tensor") from error
    return Storage(dtype, count), str(key)


def read_storage(content: Any) -> Storage:
    """What torch.storage._load_from_bytes means: a storage in PyTorch's older format inside a pickle."""
    if not isinstance(content, bytes) or not content.startswith(LEGACY):
        raise ForeignError("damaged: numbers in a format that is not PyTorch's")
    found = read_legacy(io.BytesIO(content))
    if not isinstance(found, Storage):
        raise ForeignError("damaged: no numbers where they should be")
    return found


def read_legacy(file: BinaryIO) -> Any:
    """The value of a file in PyTorch's format before 1.6: its first number, three small pickles, the value, the keys of
    its storages, and for each its length and its bytes, which are read when they are needed."""
    storages: dict[str, Storage] = {}

    def persistent(identifier: Any) -> Storage:
        storage, key = storage_of(identifier)
        return storages.setdefault(key, storage)

    file.seek(len(LEGACY))
    version, system, value, keys = (read_pickle(file, persistent) for _ in range(4))
    if version != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ForeignError("PyTorch's older format, in a version that is not known")
    if not isinstance(keys, list) or sorted(map(_text, keys)) != sorted(storages):
        raise ForeignError("damaged: its list of numbers is not what it refers to")
    for key in keys:
        storage = storages[key]
        size, start = storage.count * storage.dtype.itemsize, file.tell() + 8
        if int.from_bytes(file.read(8), "little") != storage.count or file.seek(0, io.SEEK_END) < start + size:
            raise ForeignError("truncated")
        storage.read = functools.partial(_piece, file, start, size)
        file.seek(start + size)
    return value


def _piece(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)
