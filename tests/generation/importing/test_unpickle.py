"""Hostile files: nothing in them runs, memory stays bounded, and the refusal says why."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kyara.generation.importing import unpickle
from kyara.generation.importing.container import LARGEST, opened
from kyara.generation.importing.unpickle import LEGACY, read_pickle
from kyara.generation.importing.values import ForeignError, ForeignObject, LazyTensor


def opened_value(path: Path) -> Any:
    with opened(path) as value:
        return {k: v.load() if isinstance(v, LazyTensor) else v for k, v in value.items()}


class Calling:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


def attacks(mark: Path) -> list[bytes]:
    """Pickles that would leave `mark` behind, or try something else, if they were loaded as Python loads them."""
    shell = f"touch {mark}"
    code = f"open({str(mark)!r}, 'w')"
    return [
        pickle.dumps({"G_ema": Calling(os.system, shell)}),
        pickle.dumps(Calling(builtins.eval, code)),
        pickle.dumps(Calling(builtins.exec, code)),
        b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR.",
        pickle.dumps([Calling(builtins.set, [Calling(os.system, shell)])]),
        f"cos\nsystem\n(V{shell}\ntR.".encode(),
        f"(cos\nsystem\nV{shell}\no.".encode(),  # OBJ
        f"(V{shell}\nios\nsystem\n.".encode(),  # INST
        b"\x80\x02\x82\x01.",  # EXT1
        b"Pos.system\n.",  # a persistent id in words
        b"\x80\x02(X\x07\x00\x00\x00storagecos\nsystem\nX\x01\x00\x00\x000tQ.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",  # one of no file's
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        b"ctorch.storage\n_load_from_bytes\n(C\x05hellotR.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",
        b"\x80\x02ccollections\nOrderedDict\n}X\x08\x00\x00\x00__init__NsbN.",  # attributes for a class
        b"\x80\x02cargparse\nNamespace\n)\x81}X\x0c\x00\x00\x00__setstate__K\x01sb)R.",  # a call of what is no function
        b"cnumpy\nndarray\n)R.",
    ]


def test_nothing_of_a_file_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for i, attack in enumerate(attacks(mark)):
        path = tmp_path / f"{i}.pkl"
        path.write_bytes(attack)
        with pytest.raises(ForeignError) as told, opened(path):
            pass
        assert not mark.exists(), attack
        assert str(told.value)
    with pytest.raises(ForeignError, match=r"refers to posix\.system.*no code was executed"):
        read_pickle(io.BytesIO(attacks(mark)[0]))


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_of_a_torch_file_is_run(tmp_path: Path, legacy: bool) -> None:
    path, mark = tmp_path / "a.pt", tmp_path / "mark"
    torch.save({"g_ema": Calling(os.system, f"touch {mark}")}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ForeignError, match=r"posix\.system"):
        opened_value(path)
    assert not mark.exists()


def test_nothing_of_the_bytes_of_a_tensor_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    inner = LEGACY + pickle.dumps(Calling(os.system, f"touch {mark}"), 2)
    nested = LEGACY + pickle.dumps(Calling(torch.storage._load_from_bytes, inner), 2)
    for content in (inner, nested):
        with pytest.raises(ForeignError, match=r"posix\.system|_codecs|nested storages"):
            read_pickle(io.BytesIO(pickle.dumps(Calling(torch.storage._load_from_bytes, content))))
    assert not mark.exists()


def test_source_code_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    meta = {
        "type": "class",
        "version": 6,
        "module_src": f"open({str(mark)!r}, 'w')",
        "class_name": "A",
        "state": {"b": 1},
    }
    content = pickle.dumps(meta)[:-1]
    wrapped = b"\x80\x04ctorch_utils.persistence\n_reconstruct_persistent_obj\n" + content[2:] + b"\x85R."
    found = read_pickle(io.BytesIO(wrapped))
    assert (found.name, found.state) == ("A", {"b": 1})
    assert not mark.exists()


def test_plain_values() -> None:
    value = {"a": [1, -2.5, None, True, (1, 2, 3, 4), ()], "b": b"x" * 300, 3: {"c": "é" * 300}, None: 1 << 70}
    for protocol in (3, 4, 5):
        assert read_pickle(io.BytesIO(pickle.dumps(value, protocol))) == value
        assert read_pickle(io.BytesIO(pickle.dumps({"x": {1, 2}, "y": [value["a"]] * 2}, protocol)))["x"] == [1, 2]
    for number in (np.float64(2.5), np.float32(1.25), np.int64(-3), np.bool_(True)):
        found = read_pickle(io.BytesIO(pickle.dumps(number, 4)))
        assert found == number and type(found) in (float, int, bool)
    assert isinstance(read_pickle(io.BytesIO(pickle.dumps(np.zeros(3), 4))), ForeignObject)


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_torchs(tmp_path: Path, legacy: bool) -> None:
    base = torch.randn(4, 6)
    content = {
        "whole": base,
        "turned": base.t(),
        "part": base[1:3, ::2],
        "number": torch.tensor(2.5),
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "double": base.double(),
        "whole numbers": torch.arange(5),
        "parameter": torch.nn.Parameter(base),
    }
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    for name, tensor in opened_value(tmp_path / "a.pt").items():
        assert torch.equal(tensor, content[name].detach().float() if "numbers" not in name else content[name])
        assert tensor.is_contiguous()
    with_bytes = read_pickle(io.BytesIO(pickle.dumps(content)))
    assert torch.equal(with_bytes["turned"].load(), base.t())


def tensor_claim(
    storage: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], dtype: str = "Float"
) -> bytes:
    """A data.pkl with a table of one tensor."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"I%d\n" % n for n in values) + b"t"

    place = b"(X\x07\x00\x00\x00storagectorch\n%sStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuI%d\ntQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + place % (dtype.encode(), storage) + b"I%d\n" % offset
    return b"\x80\x02}X\x01\x00\x00\x00a" + tensor + numbers(shape) + numbers(stride) + b"\x89}tRs."


def torch_zip(path: Path, content: bytes, data: bytes = b"\0" * 64, *, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/data.pkl", content, zipfile.ZIP_STORED)
        archive.writestr("a/data/0", data)
    return path


def test_claims_of_a_tensor(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    assert opened_value(torch_zip(path, tensor_claim(16, 0, (4, 4), (4, 1))))["a"].shape == (4, 4)
    for claim in (
        tensor_claim(16, 0, (4, 5), (4, 1)),
        tensor_claim(16, 1, (4, 4), (4, 1)),
        tensor_claim(16, 0, (1 << 40, 1), (0, 1)),  # the same number again and again
        tensor_claim(16, 0, (50000, 50000), (0, 0)),
        tensor_claim(16, -1, (4,), (1,)),
        tensor_claim(16, 0, (4,), (-1,)),
        tensor_claim(16, 0, (0,), (1,)),
        tensor_claim(16, 0, (4, 4), (4,)),
        tensor_claim(5 << 30, 0, (5 << 30,), (1,)),
        tensor_claim(17, 0, (17,), (1,)),
        tensor_claim(15, 0, (15,), (1,)),
        tensor_claim(16, 0, (16,), (1,), "Double"),
        tensor_claim(16, 0, (1,) * 9, (1,) * 9),
    ):
        with pytest.raises(ForeignError):
            opened_value(torch_zip(path, claim))
    with pytest.raises(ForeignError, match="compressed"):
        opened_value(
            torch_zip(path, tensor_claim(1 << 22, 0, (1 << 22,), (1,)), b"\0" * (4 << 22), method=zipfile.ZIP_DEFLATED)
        )
    torch_zip(path, tensor_claim(16, 0, (4, 4), (4, 1)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/byteorder", "big")
    with pytest.raises(ForeignError, match="big-endian"):
        opened_value(path)


def huge_claims(path: Path) -> list[bytes]:
    return [
        b"\x80\x04\x8e" + struct.pack("<Q", 5 << 30) + b"x.",  # bytes
        b"\x80\x04\x8d" + struct.pack("<Q", 5 << 30) + b"x.",  # text
        b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x.",  # a number
        b"\x80\x02Nr\xff\xff\xff\xff.",  # a place in the memo
        b"\x80\x04" + b"}" * 21_000 + b".",
        b"\x80\x02" + b"(" * 21_000 + b".",
        b"(" * 9_000 + b"t" * 8_999 + b".",
        b")" + b"\x85" * 15_000 + b"}" + b"\x85" + b"N" + b"s.",  # a key whose hash would end the process
        b"\x80\x02}" + b")" + b"\x85" * 15_000 + b"Ns.",
        b"\x80\x02" + b"X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"q\x00" + b"0h\x00" * 3 + b"\x93.",
        b"I" + b"9" * 100_000 + b"\n.",
    ]


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickle, "MOST_STEPS", 20_000)  # the machine is slow while its memory is traced
    path = tmp_path / "a.pkl"
    for claim in huge_claims(path):
        path.write_bytes(claim)
        tracemalloc.start()
        try:
            with opened(path) as value:
                assert value is None or claim.startswith(b"((")  # harmless: a far place in the memo, deep tuples
        except ForeignError as error:
            assert len(str(error)) < 500
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50 << 20, claim[:20]
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(ForeignError, match="no StyleGAN2 needs more"), opened(path):
        pass


PAIRS = b"(" + b"K\x00K\x00\x86" * 2_000 + b"t"


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("builtins\nset", PAIRS + b"\x85"),
        ("torch\nSize", PAIRS + b"\x85"),
        ("collections\nOrderedDict", PAIRS + b"\x85"),
        ("torch\ndevice", PAIRS),
        ("builtins\nset", b"X\xd0\x07\x00\x00" + b"a" * 2_000 + b"\x85"),
        ("torch\nSize", b"B\xd0\x07\x00\x00" + b"a" * 2_000 + b"\x85"),
    ],
)
def test_copies_of_a_value_are_counted(function: str, arguments: bytes) -> None:
    """Each call, of a few bytes, would copy a long value, which the pickle has only once."""
    call = f"c{function}\nh\0R".encode()
    few, many = (b"\x80\x03" + arguments + b"q\x000(" + call * count + b"t." for count in (2, 2_000))
    with pytest.raises(ForeignError, match=r"far longer than the pickle of any network|not a list"):
        read_pickle(io.BytesIO(many))
    if arguments.startswith(b"("):
        assert len(read_pickle(io.BytesIO(few))) == 2


def test_the_directory_of_a_zip_is_measured(tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "a.pt", b"N.")
    content = path.read_bytes()
    end = content.rindex(b"PK\5\6")
    entries = content[content.index(b"PK\1\2") : end] * 200_000
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(entries), content.index(b"PK\1\2"), 0)
    path.write_bytes(content[: content.index(b"PK\1\2")] + entries + last)
    with pytest.raises(ForeignError, match="larger than"), opened(path):
        pass


@pytest.mark.parametrize("kind", ["pickle", "zip", "legacy"])
def test_damage_is_told(tmp_path: Path, kind: str) -> None:
    """Cut anywhere or changed anywhere, a file is read or refused, and nothing else happens."""
    path, content = tmp_path / "a", {"a": torch.arange(6.0), "b": {"c": np.float64(3), "d": (1, "x")}}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save({"a": content["a"]}, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    random = np.random.RandomState(0)
    for i in range(300):
        changed = bytearray(whole)
        if i < 100:
            del changed[random.randint(len(whole)) :]
        else:
            for place in random.randint(0, len(whole), 3):
                changed[place] = random.randint(256)
        path.write_bytes(changed)
        try:
            with opened(path) as value:
                for tensor in value.values() if isinstance(value, dict) else ():
                    if isinstance(tensor, LazyTensor):
                        tensor.load()
        except ForeignError:
            pass
        if i < 100:
            with pytest.raises(ForeignError), opened(path):
                pass


def test_only_harmless_names_have_a_meaning() -> None:
    """Whoever adds one to the list should have to think about it twice."""
    modules = {module for module, _ in unpickle.MEANINGS}
    assert modules == {
        "collections", "dnnlib.util", "builtins", "torch", "torch._utils", "torch.storage", "argparse", "numpy",
        "torch_utils.persistence", "numpy.core.multiarray", "numpy._core.multiarray",
    }  # fmt: skip
    for module, name in unpickle.MEANINGS:
        if module == "builtins":
            assert name == "set"
    assert all(
        meaning is not getattr(sys.modules.get(m), n, 0) for (m, n), meaning in unpickle.MEANINGS.items() if meaning
    )
