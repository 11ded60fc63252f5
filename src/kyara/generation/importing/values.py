"""Data types for the contents of a pickled network: names, objects without their classes, and lazy tensors."""

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
    """A file that is damaged, of an unknown kind, or malicious."""


@dataclasses.dataclass(frozen=True)
class Name:
    """An allowed class or function in a pickle, which is not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}"[:100])


@dataclasses.dataclass(eq=False)
class ForeignObject:
    """An instance of a class that is not imported: the class name and the attributes."""

    name: str
    state: Any = None


@dataclasses.dataclass(eq=False)
class Storage:
    """A tensor storage in a file. `read` returns its bytes."""

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
        """Size of its whole storage in bytes."""
        return self.storage.count * self.storage.dtype.itemsize

    def load(self) -> Tensor:
        """The tensor, contiguous; floating-point types as float32. Raises ForeignError if the file contains fewer bytes
        than declared."""
        storage = self.storage
        content = storage.read() if storage.read else b""
        if not content or len(content) != storage.count * storage.dtype.itemsize:
            raise ForeignError(f"damaged: {len(content):,} bytes in a storage of {storage.count:,} numbers")
        flat = torch.frombuffer(bytearray(content), dtype=storage.dtype)
        tensor = flat.as_strided(self.shape, self.stride, self.offset)
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        return tensor.clone(memory_format=torch.contiguous_format)


def text(value: Any) -> str:
    """Returns the value. Raises ForeignError unless it is a string."""
    if not isinstance(value, str):
        raise ForeignError("damaged: a name is not a string")
    return value


def elements(value: Any) -> list[Any] | tuple[Any, ...]:
    """Returns the value. Raises ForeignError unless it is a list or a tuple: text has elements too."""
    if not isinstance(value, list | tuple):
        raise ForeignError("damaged: the elements of a set or a size are not a list")
    return value


def table(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    """Builds a dict with plain keys only: hashing a deeply nested tuple would overflow the stack."""
    found = {}
    for key, value in pairs:
        if not isinstance(key, str | int | float | bytes | None):
            raise ForeignError("damaged: the key of a dict is not a plain value")
        found[key] = value
    return found


def tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any = False, hooks: Any = None, more: Any = None
) -> LazyTensor:
    """Replacement of torch._utils._rebuild_tensor_v2. A tensor must not have more elements than its storage, or a small
    file could declare a huge tensor."""
    numbers = [offset, *shape, *stride] if isinstance(shape, tuple) and isinstance(stride, tuple) else [None]
    plain = isinstance(storage, Storage) and all(type(n) is int and n >= 0 for n in numbers)
    if not plain or len(shape) != len(stride) or len(shape) > 8:
        raise ForeignError("damaged: the shape, stride or offset of a tensor is invalid")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if not 0 < math.prod(shape) <= storage.count or last >= storage.count:
        shown = " x ".join(f"{n:,}"[:30] for n in shape)
        raise ForeignError(f"a tensor declares {shown} numbers, but its storage has {storage.count:,}")
    return LazyTensor(storage, offset, shape, stride)


def scalar(dtype: Any, content: Any) -> int | float | bool:
    """Replacement of numpy.core.multiarray.scalar: a number from its bytes."""
    code = dtype.code if isinstance(dtype, DType) else ""
    if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
        raise ForeignError("damaged: a NumPy scalar of an unsupported type")
    return np.frombuffer(content, np.dtype(f"<{code}"), count=1).item()


class DType(ForeignObject):
    """A NumPy dtype: the name is its code, the state contains the byte order."""

    @property
    def code(self) -> str:
        if isinstance(self.state, tuple) and ">" in self.state:
            raise ForeignError("big-endian numbers are not supported")
        return self.name


def persistent_object(meta: Any) -> ForeignObject:
    """Replacement of torch_utils.persistence._reconstruct_persistent_obj, which would execute the source code in
    `meta`; here the code is ignored."""
    if not isinstance(meta, Mapping) or not isinstance(meta.get("class_name"), str):
        raise ForeignError("damaged: a persistent object has no class_name")
    return ForeignObject(meta["class_name"], meta.get("state"))


def storage_of(persistent_id: Any) -> tuple[Storage, str]:
    """The storage (not yet read) described by a PyTorch persistent id, and its key."""
    try:
        kind, name, key, _, count, *view = persistent_id
        dtype = DTYPES[name.name]
        if (kind, name.module) != ("storage", "torch") or type(count) is not int or count < 0 or any(view):
            raise ValueError
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ForeignError("it contains a persistent id that is not a storage") from error
    return Storage(dtype, count), str(key)
