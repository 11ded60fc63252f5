"""What a pickle of a network can hold, as data: plain values, names, objects without their classes, and tensors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kyara.files.names import printable

DTYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


class ForeignError(ValueError):
    """A file that is damaged, of an unknown kind, or malicious; the message says what is wrong."""


@dataclasses.dataclass(frozen=True)
class Name:
    """A class or function that a pickle names, allowed but not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}"[:100])


@dataclasses.dataclass(eq=False)
class ForeignObject:
    """An object of a class that is not looked up: the class's name and the attributes."""

    name: str
    state: Any = None


@dataclasses.dataclass(eq=False)
class Storage:
    """Numbers in a file. `read` returns their bytes."""

    dtype: torch.dtype
    count: int
    read: Callable[[], bytes] | None = None


@dataclasses.dataclass(eq=False)
class LazyTensor:
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
        """The tensor, contiguous; floating point numbers as float32. ForeignError if the file holds fewer bytes than it
        claims."""
        storage = self.storage
        content = storage.read() if storage.read else b""
        if not content or len(content) != storage.count * storage.dtype.itemsize:
            raise ForeignError(f"damaged: {len(content):,} bytes where {storage.count:,} numbers should be")
        flat = torch.frombuffer(bytearray(content), dtype=storage.dtype)
        tensor = flat.as_strided(self.shape, self.stride, self.offset)
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        return tensor.clone(memory_format=torch.contiguous_format)


def text(value: Any) -> str:
    """The value, which must be text."""
    if not isinstance(value, str):
        raise ForeignError("damaged: no text where a name should be")
    return value


def table(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    """A dict with plain keys only: hashing a deeply nested tuple would overflow the stack."""
    found = {}
    for key, value in pairs:
        if not isinstance(key, str | int | float | bytes | None):
            raise ForeignError("damaged: the key of a table is not a plain value")
        found[key] = value
    return found


def tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any = False, hooks: Any = None, more: Any = None
) -> LazyTensor:
    """For torch._utils._rebuild_tensor_v2. A tensor must not have more numbers than its storage: a small file could
    claim a huge one."""
    numbers = [offset, *shape, *stride] if isinstance(shape, tuple) and isinstance(stride, tuple) else [None]
    plain = isinstance(storage, Storage) and all(type(n) is int and n >= 0 for n in numbers)
    if not plain or len(shape) != len(stride) or len(shape) > 8:
        raise ForeignError("damaged: a tensor is not described by whole numbers")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if not 0 < math.prod(shape) <= storage.count or last >= storage.count:
        shown = " x ".join(f"{n:,}"[:30] for n in shape)
        raise ForeignError(f"a tensor claims {shown} numbers where {storage.count:,} are")
    return LazyTensor(storage, offset, shape, stride)


def scalar(dtype: Any, content: Any) -> int | float | bool:
    """For numpy.core.multiarray.scalar: a number from its bytes."""
    code = dtype.code if isinstance(dtype, DType) else ""
    if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
        raise ForeignError("damaged: a number of a type that no network has")
    return np.frombuffer(content, np.dtype(f"<{code}"), count=1).item()


class DType(ForeignObject):
    """A dtype of NumPy: the name is its code, the state holds the byte order."""

    @property
    def code(self) -> str:
        if isinstance(self.state, tuple) and ">" in self.state:
            raise ForeignError("big-endian numbers are not supported")
        return self.name


def persistent_object(meta: Any) -> ForeignObject:
    """For torch_utils.persistence._reconstruct_persistent_obj, which would run the source code in `meta`. It is ignored
    here."""
    if not isinstance(meta, Mapping) or not isinstance(meta.get("class_name"), str):
        raise ForeignError("damaged: an object does not say what it is")
    return ForeignObject(meta["class_name"], meta.get("state"))


def storage_of(persistent_id: Any) -> tuple[Storage, str]:
    """The storage, not yet read, that one of PyTorch's persistent ids describes, and its key."""
    try:
        kind, name, key, _, count, *view = persistent_id
        dtype = DTYPES[name.name]
        if (kind, name.module) != ("storage", "torch") or type(count) is not int or count < 0 or any(view):
            raise ValueError
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ForeignError("it refers to something outside itself that is not a tensor") from error
    return Storage(dtype, count), str(key)
