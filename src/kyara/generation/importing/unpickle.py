"""Reads untrusted pickles as data.

A pickle is a program that can call any importable function. This interpreter supports only the opcodes that build plain
values, and maps a few functions to safe replacements in `MEANINGS`; pickles with other globals are rejected. Classes
are never imported: their instances become a `ForeignObject` with name and attributes. pickletools from the standard
library decodes the opcodes without executing them."""

from __future__ import annotations

import functools
import io
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

from kyara.files.names import printable
from kyara.generation.importing import values
from kyara.generation.importing.values import DTYPES, DType, ForeignError, ForeignObject, Name, Storage, table, text

MOST_STEPS = 300_000
"""Maximum number of opcodes, and of elements that calls copy, each of which may take some hundred bytes of memory.
NVIDIA's snapshots have 30,000."""
MOST_TEXT = 64 << 20  # Maximum number of characters. The source code in NVIDIA's snapshots has 100,000.
TOO_LONG = "far longer than the pickle of any network"
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # Magic number of PyTorch's format before 1.6, as a pickle
INNER = ("torch.storage", "_load_from_bytes")
"""The function that loads a storage embedded in a pickle, as bytes in PyTorch's older format."""


def read_pickle(file: BinaryIO, persistent: Callable[[Any], Any] | None = None) -> Any:
    """Reads the pickle at the file's current position. `persistent` resolves persistent ids; without it they are
    rejected. Raises ForeignError if the pickle is damaged or not allowed."""
    try:
        return _Machine(persistent).run(file)
    except ForeignError:
        raise
    except Exception as error:  # damaged pickles raise arbitrary exceptions, here or in pickletools
        why = printable(str(error)[:200]) or type(error).__name__
        raise ForeignError(f"damaged, or not a pickle ({why})") from error


class _Machine:
    """The pickle stack machine, restricted to opcodes without side effects."""

    def __init__(self, persistent: Callable[[Any], Any] | None) -> None:
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # The stacks below the marks
        self.memo: dict[int, Any] = {}
        self.copied = 0  # Elements of arguments: a long one may be in the pickle once, and in many calls

    def run(self, file: BinaryIO) -> Any:
        length = 0
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            length += len(argument) if isinstance(argument, str) else 0
            if steps > MOST_STEPS or length > MOST_TEXT:
                raise ForeignError(TOO_LONG)
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
                raise ForeignError(f"the opcode {name} is not allowed")
        raise ForeignError("truncated")

    # Opcodes that build values.

    def top(self) -> list[Any]:
        """Pops the last mark and the values above it."""
        found, self.stack = self.stack, self.marked.pop()
        return found

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: object) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def tuple_of(self, count: int) -> None:
        self.stack[len(self.stack) - count :] = [tuple(self.stack[len(self.stack) - count :])]

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ForeignError("damaged: appends to a value that is not a list")
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise ForeignError("damaged: sets an item of a value that is not a dict")
        target.update(table(zip(items[::2], items[1::2], strict=True)))

    def remember(self, key: int | None) -> None:
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def recall(self, key: int) -> None:
        self.stack.append(self.memo[key])

    # Opcodes that refer to or call functions.

    def name(self, module: str, name: str) -> None:
        if (module, name) == INNER and self.persistent is not None:
            raise ForeignError("damaged: nested storages")
        if (module, name) not in MEANINGS and not (module == "torch" and name in DTYPES):
            if module.startswith("dnnlib.tflib"):
                raise ForeignError("a TensorFlow network; convert it with legacy.py of NVIDIA's newer programs")
            raise ForeignError(
                f"it refers to {Name(module, name)}, which weights do not need; no code was executed. "
                "Do not open this file with other programs unless you trust its author"
            )
        self.stack.append(Name(module, name))

    def call(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ForeignError("it calls a value that is not a function; no code was executed")
        meaning = MEANINGS.get((function.module, function.name))
        if meaning is None:
            raise ForeignError(f"it calls {function}, which is not allowed")
        self.copied += sum(len(one) for one in (arguments, *arguments) if isinstance(one, list | tuple | dict))
        if self.copied > MOST_STEPS:
            raise ForeignError(TOO_LONG)
        self.stack.append(meaning(*arguments))

    def build(self, _: object) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, ForeignObject):
            target.state = state
        elif not (isinstance(target, dict) and isinstance(state, dict) and state.keys() == {"_metadata"}):
            raise ForeignError("it sets attributes of a value that has none")

    def persist(self, _: object) -> None:
        if self.persistent is None:
            raise ForeignError("it contains a persistent id")
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
    "EMPTY_SET": list,  # sets are read as lists, to avoid hashing untrusted elements
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
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    "GLOBAL": lambda m, argument: m.name(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(text(m.stack.pop(-2)), text(m.stack.pop())),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.call),
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persist,
}
MEANINGS: dict[tuple[str, str], Callable[..., Any] | None] = {
    ("collections", "OrderedDict"): table,
    ("dnnlib.util", "EasyDict"): table,
    ("builtins", "set"): lambda items=(): list(values.elements(items)),
    ("torch", "Size"): lambda items=(): tuple(values.elements(items)),
    ("torch", "device"): lambda *about: ForeignObject("device", about),
    ("torch._utils", "_rebuild_tensor_v2"): values.tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    INNER: lambda content: read_storage(content),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): values.persistent_object,
    ("argparse", "Namespace"): lambda: ForeignObject("Namespace"),
    ("numpy", "dtype"): lambda code, *_: DType(text(code)),
    ("numpy", "ndarray"): None,
    **{(f"numpy.{core}.multiarray", "scalar"): values.scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: ForeignObject("ndarray") for core in ("core", "_core")},
}
"""Allowed global -> its safe replacement; None if it must not be called."""


def read_storage(content: Any) -> Storage:
    """Replacement of torch.storage._load_from_bytes: reads a storage in PyTorch's older format inside a pickle."""
    if not isinstance(content, bytes) or not content.startswith(LEGACY):
        raise ForeignError("damaged: an embedded storage is not in PyTorch's format")
    found = read_legacy(io.BytesIO(content))
    if not isinstance(found, Storage):
        raise ForeignError("damaged: an embedded value is not a storage")
    return found


def read_legacy(file: BinaryIO) -> Any:
    """The value of a file in PyTorch's format before 1.6: magic number, protocol version, system info, value and
    storage keys as pickles, and then the length and the bytes of each storage, which are read lazily."""
    storages: dict[str, Storage] = {}

    def persistent(identifier: Any) -> Storage:
        storage, key = values.storage_of(identifier)
        return storages.setdefault(key, storage)

    file.seek(len(LEGACY))
    version, system, value, keys = (read_pickle(file, persistent) for _ in range(4))
    if version != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ForeignError("an unknown version of PyTorch's older format")
    if not isinstance(keys, list) or sorted(map(text, keys)) != sorted(storages):
        raise ForeignError("damaged: the list of storage keys does not match the storages")
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
