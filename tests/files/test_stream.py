"""The order of training: a function of the seed and the position, whatever the memory, the workers and the ranks."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kyara.files import pictures, stream
from kyara.files.dataset import Dataset, open_dataset
from kyara.files.errors import DatasetError
from kyara.files.stream import Sharing, Stream, StreamBatch


def png() -> bytes:
    return pictures.encode_png(np.zeros((8, 8, 3), np.uint8))


def saved(folder: Path, files: Mapping[str, bytes]) -> Dataset:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return open_dataset(folder)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """37 pictures whose first pixel is their index, left half darker than the right."""
    files: dict[str, bytes] = {}
    table = "file_name,kind\n"
    for i in range(37):
        picture = np.zeros((6, 4, 3), np.uint8)
        picture[:, :2], picture[:, 2:] = i, 100 + i
        files[f"{i:02d}.png"] = pictures.encode_png(picture)
        table += f"{i:02d}.png,{['', 'x', 'y'][i % 3]}\n"
    return saved(tmp_path_factory.mktemp("many"), {**files, "metadata.csv": table.encode()})


def take(dataset: Dataset, count: int, **options: object) -> list[StreamBatch]:
    iterator = iter(Stream(dataset, **{"width": 4, "height": 6, "batch": 8, "seed": 3, **options}))
    taken = list(itertools.islice(iterator, count))
    iterator.close()
    return taken


def same(a: list[StreamBatch], b: list[StreamBatch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.pictures, y.pictures)
        and torch.equal(x.mirrored, y.mirrored)
        and all(torch.equal(x.labels[k], y.labels[k]) for k in x.labels)
        for x, y in zip(a, b, strict=True)
    )


def test_batches(many: Dataset) -> None:
    stream = Stream(many, width=4, height=6, batch=8, seed=3)
    assert stream.values == {"kind": ["x", "y"]}
    batch, labels, mirrored, points, faces = next(iter(stream))
    assert batch.shape == (8, 3, 6, 4) and batch.dtype == torch.uint8 and labels["kind"].dtype == torch.int64
    assert not mirrored.any() and mirrored.dtype == torch.bool and points is None and faces is None
    assert labels["kind"].tolist() == [i % 3 - 1 for i in batch[:, 0, 0, 0].tolist()]


def test_every_epoch_is_a_fresh_permutation(many: Dataset) -> None:
    seen = torch.cat([batch[:, 0, 0, 0] for batch, *_ in take(many, 37)]).tolist()  # 8 epochs
    epochs = [seen[i : i + 37] for i in range(0, len(seen), 37)]
    assert all(sorted(epoch) == list(range(37)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8
    other = torch.cat([batch[:, 0, 0, 0] for batch, *_ in take(many, 5, seed=4)]).tolist()
    assert other != seen[:40]


@pytest.mark.parametrize("start", [8, 40, 80, 37, 5])
@pytest.mark.parametrize("memory_limit", [2**30, 0])
def test_start_goes_on_exactly(many: Dataset, start: int, memory_limit: int) -> None:
    whole = take(many, 20, mirror=True, batch=1)
    resumed = take(
        many,
        (20 - start) if start < 20 else 3,
        mirror=True,
        batch=1,
        start=start,
        memory_limit=memory_limit,
        workers=0,
    )
    if start < 20:
        assert same(resumed, whole[start:])
    else:
        assert same(resumed, take(many, start + 3, mirror=True, batch=1)[start:])


@pytest.mark.parametrize("workers", [0, 2])
def test_large_sets_give_the_same(many: Dataset, workers: int) -> None:
    assert same(take(many, 12, mirror=True), take(many, 12, mirror=True, memory_limit=0, workers=workers))


def test_mirror_is_an_even_coin_and_a_function_of_the_position(many: Dataset) -> None:
    plain, mirrored = (torch.cat([b.pictures for b in take(many, 60, mirror=m)]) for m in (False, True))
    flipped = (plain != mirrored).flatten(1).any(1)
    assert torch.equal(mirrored[flipped], plain[flipped].flip(3)) and 0.4 < flipped.float().mean() < 0.6
    assert torch.equal(flipped, torch.cat([b.mirrored for b in take(many, 60, mirror=True)]))
    assert same(take(many, 60, mirror=True), take(many, 60, mirror=True))


@pytest.mark.parametrize("memory_limit", [2**30, 0])
def test_ranks_share_every_batch(many: Dataset, memory_limit: int) -> None:
    whole = take(many, 6, mirror=True)
    parts = [take(many, 6, mirror=True, rank=r, world=2, memory_limit=memory_limit, workers=0) for r in (0, 1)]
    for a, b, both in zip(*parts, whole, strict=True):
        assert torch.equal(torch.cat([a.pictures, b.pictures]), both.pictures)
        assert torch.equal(torch.cat([a.mirrored, b.mirrored]), both.mirrored)
    with pytest.raises(ValueError, match="multiple"):
        Stream(many, width=4, height=6, batch=9, seed=0, world=2)


@pytest.mark.parametrize("memory_limit", [2**30, 0])
def test_undecodable_pictures_are_an_error_at_once(tmp_path: Path, memory_limit: int) -> None:
    dataset = saved(tmp_path, {"a.png": png(), "bad.png": png()[:-30]})
    with pytest.raises(DatasetError, match=r"1 picture cannot be decoded \(bad\.png.*kyara prepare"):
        Stream(dataset, width=8, height=8, batch=1, seed=0, memory_limit=memory_limit, workers=0)


def test_points_are_mirrored_with_the_picture(tmp_path: Path) -> None:
    table = b"file_name,points\n0.png,0.1 0.2 0.3 0.4\n1.png,\n2.png,0.5 0.6 0.7 0.8\n"
    dataset = saved(tmp_path, {**{f"{i}.png": png() for i in range(3)}, "metadata.csv": table})
    options = {"width": 4, "height": 6, "batch": 12, "seed": 0, "points": True}
    (plain,), (flipped,) = (take(dataset, 1, mirror=mirror, **options) for mirror in (False, True))
    assert plain.points is not None and flipped.points is not None
    assert plain.points.shape == (12, 2, 2) and 0 < flipped.mirrored.sum() < 12
    expected = torch.where(flipped.mirrored[:, None], 1 - plain.points[..., 0], plain.points[..., 0])
    assert torch.equal(flipped.points[..., 0].nan_to_num(), expected.nan_to_num())
    assert torch.equal(flipped.points[..., 1].nan_to_num(), plain.points[..., 1].nan_to_num())


def processes(count: int) -> list[Sharing]:
    """Threads in place of processes."""
    values: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def exchange_of(index: int) -> Callable[[Any], list[Any]]:
        def exchange(value: Any) -> list[Any]:
            values[index] = value
            barrier.wait(60)
            found = list(values)
            barrier.wait(60)
            return found

        return exchange

    return [Sharing(index, count, exchange_of(index)) for index in range(count)]


def streams(dataset: Dataset, **options: Any) -> list[Stream]:
    def one(sharing: Sharing) -> Stream:
        size = {"width": 4, "height": 6, "batch": 8, "seed": 3, "workers": 0}
        return Stream(dataset, **size, rank=sharing.index, world=sharing.count, sharing=sharing, **options)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, processes(2)))


@pytest.mark.parametrize("memory_limit", [2**30, 0])
def test_processes_of_a_machine_decode_together(
    many: Dataset, memory_limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture once, into memory that both see; the batches are the same."""
    decoded: list[int] = []
    map_ = Dataset.map

    def counted(self: Dataset, function: Any, indices: Iterable[int], workers: int = 0) -> Any:
        chosen = list(itertools.islice(indices, len(self)))
        decoded.extend(chosen)
        return map_(self, function, chosen, workers)

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "map", counted)
        both = streams(many, memory_limit=memory_limit)
    assert sorted(decoded) == list(range(len(many)))
    for whole, a, b in zip(take(many, 3), *map(iter, both), strict=False):
        assert torch.equal(torch.cat([a.pictures, b.pictures]), whole.pictures)
    if memory_limit:
        one, other = (each._memory for each in both)
        assert one is not None and other is not None
        one[7] = 99
        assert (other[7] == 99).all()


def test_processes_of_a_machine_fail_together(many: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = saved(tmp_path, {"a.png": png(), "b.png": png(), "bad.png": png()[:-30]})
    for memory_limit in (2**30, 0):
        with pytest.raises(DatasetError, match="1 picture cannot be decoded"):
            streams(dataset, memory_limit=memory_limit)

    def full(size: int) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stream, "_reserve", full)
    with pytest.raises(OSError, match=r"not enough disk space for 0 MiB of decoded pictures .*No space left"):
        streams(many)


def test_memory_on_disk_if_there_is_no_room_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream.tempfile, "gettempdir", lambda: str(tmp_path))
    assert Path(stream._reserve(1000)).stat().st_size == 1000
    monkeypatch.setattr(stream, "FOLDERS", (str(tmp_path / "none"),))
    assert Path(stream._reserve(1000)).parent == tmp_path
    with pytest.raises(OSError):
        stream._reserve(2**62)
    assert len(list(tmp_path.iterdir())) == 1


def test_memory_on_disk_if_no_file_can_be_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where /dev/shm is read-only."""
    make = stream.tempfile.mkstemp

    def refused(prefix: str, dir: str) -> tuple[int, str]:
        if dir == str(tmp_path / "memory"):
            raise PermissionError(13, "Permission denied", dir)
        return make(prefix=prefix, dir=dir)

    monkeypatch.setattr(stream.tempfile, "mkstemp", refused)
    monkeypatch.setattr(stream.tempfile, "gettempdir", lambda: str(tmp_path / "disk"))
    for name in ("memory", "disk"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(stream, "FOLDERS", (str(tmp_path / "memory"),))
    assert Path(stream._reserve(1000)).parent == tmp_path / "disk"
