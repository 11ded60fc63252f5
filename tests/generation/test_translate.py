"""kyara translate: pictures, folders, large ones, films, and what cannot be translated."""

from __future__ import annotations

import dataclasses
import struct
import sys
from fractions import Fraction
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_picture
from needs import need

from kyara import models
from kyara.files import checkpoint, ownership, pictures
from kyara.files.errors import PictureError
from kyara.files.gallery import read_gallery
from kyara.files.pictures import decode, to_float, to_uint8, write_png
from kyara.generation import tiles, video
from kyara.generation.inputs import Picture
from kyara.generation.translate import translate
from kyara.models.base import Translator

verb = sys.modules["kyara.generation.translate"]  # the package has the verb under that name


def stored(path: Path, name: str, **parts: Any) -> Path:
    """A Checkpoint of an architecture's smallest preset, its weights as they come."""
    torch.manual_seed(0)
    cls = models.architecture(name)
    model = cls(cls.presets["tiny"].replace(**parts))
    config = dataclasses.asdict(model.config)
    checkpoint.write(path, model=name, config=config, weights=models.stored(model), card="", about={})
    return path


@pytest.fixture(scope="module")
def cartoon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("models") / "cartoon", "cartoongan")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures as people have them: of several sizes, one twice by name, one see-through, one minute, one broken."""
    from PIL import Image

    path = tmp_path / "photos"
    (path / "more").mkdir(parents=True)
    write_png(path / "a.png", drawn_picture(0))
    write_png(path / "more" / "a.png", drawn_picture(1, 33)[:, :20])
    see_through = np.dstack([drawn_picture(2, 24), np.full((24, 24), 80, np.uint8)])
    Image.fromarray(see_through).save(path / "b.png")
    write_png(path / "one.png", drawn_picture(3)[:1, :1])
    (path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return path


def test_files_that_are_no_pictures_are_named(cartoon: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "b.kra").write_text("layers")
    result = translate(str(cartoon), folder, out=tmp_path / "out")
    assert dict(result.left_out)["b.kra"] == "a file of a drawing program; export it as PNG"
    assert (result.pictures, result.made) == (5, 4) and "  b.kra: a file of a drawing program" in str(result)
    both = translate(str(cartoon), (folder, folder / "a.png"), out=tmp_path / "both")
    assert f"{(folder / 'b.kra').as_posix()}" in dict(both.left_out)


def test_a_folder(cartoon: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = translate(str(cartoon), folder, out=tmp_path / "out")
    out = result.out
    assert (result.made, result.pictures, [name for name, _ in result.left_out]) == (4, 5, ["broken.png"])
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""
    assert str(result).startswith(f"{out}: 4 pictures by {cartoon}, from 5 pictures\n  broken.png: ")
    assert str(result).count("broken.png") == 1
    assert f"<li>broken.png: {escape(result.left_out[0][1])}</li>" in (out / "index.html").read_text()
    rows = {row["source"]: row["file_name"] for row in read_gallery(out)}
    assert rows == {"a.png": "a.png", "more/a.png": "a-2.png", "b.png": "b.png", "one.png": "one.png"}
    for source, name in rows.items():
        assert decode(out / name).shape == decode(folder / source).shape
    network = models.load(cartoon)
    assert isinstance(network, Translator)
    whole = tiles.translate_pictures(network.translate, decode(folder / "b.png")[None], network)[0]
    assert np.array_equal(decode(out / "b.png"), whole)
    recipe = pictures.read_recipe(out / "a.png")
    assert recipe is not None and recipe["checkpoint"] == checkpoint.read(cartoon).hash
    again = translate(str(cartoon), folder, out=tmp_path / "again").out
    assert all((again / name).read_bytes() == (out / name).read_bytes() for name in rows.values())


def test_one_picture_and_its_size(cartoon: Path, folder: Path, tmp_path: Path) -> None:
    out = translate(str(cartoon), folder / "more" / "a.png", out=tmp_path / "out", side=40).out
    assert decode(out / "a.png").shape == (66, 40, 3)
    for dry_run in (True, False):
        with pytest.raises(PictureError, match=r"broken\.png"):
            translate(str(cartoon), folder / "broken.png", out=tmp_path / "other", dry_run=dry_run)
    with pytest.raises(ValueError, match="--side 3"):
        translate(str(cartoon), folder, out=tmp_path / "third", side=3)


def test_a_large_picture_has_no_seams(cartoon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = models.load(cartoon)
    assert isinstance(network, Translator) and network.receptive_field is not None
    monkeypatch.setattr(tiles, "has_bfloat16", lambda device: False)
    columns = 3 + 2 * network.receptive_field // 64  # one more than what is still made as a whole
    panorama = np.tile(drawn_picture(0, 64), (2, columns, 1))[:119]
    with torch.inference_mode():
        whole = to_uint8(network.translate(to_float(panorama[None])))[0]
    monkeypatch.setattr(tiles, "TILE", 64)
    largest = []

    def counted(part: torch.Tensor) -> torch.Tensor:
        largest.append(max(part.shape[2:]))
        return network.translate(part)

    tiled = tiles.translate_pictures(counted, panorama[None], network)[0]
    assert len(largest) == 2 * columns and 64 < max(largest) <= 64 + 2 * network.receptive_field < panorama.shape[1]
    assert np.abs(tiled.astype(int) - whole).max() <= 1  # the last bit of a float may round the other way


def test_pictures_of_one_size_are_translated_together(cartoon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "PIXELS", 3 * 40 * 48)
    sizes = [48, 48, 48, 48, 40, 48, 48]
    given = [Picture(str(i), "", drawn_picture(i)[:side]) for i, side in enumerate(sizes)]
    groups = [*tiles.same_size(given, batched=True)]
    assert [[picture.name for picture in group] for group in groups] == [["0", "1"], ["2", "3"], ["4"], ["5", "6"]]
    assert [len(group) for group in tiles.same_size(given, batched=False)] == [1] * 7
    network = models.load(cartoon)
    assert isinstance(network, Translator)
    monkeypatch.setattr(tiles, "has_bfloat16", lambda device: False)
    pixels = np.stack([picture.pixels for picture in groups[0]])
    together = tiles.translate_pictures(network.translate, pixels, network).astype(int)
    alone = [tiles.translate_pictures(network.translate, one[None], network)[0] for one in pixels]
    assert np.abs(together - np.stack(alone)).max() <= 1


def test_a_batched_network_writes_the_same(
    cartoon: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(folder / "a1.png", drawn_picture(5))  # of the size of a.png, which comes before it
    alone = translate(str(cartoon), folder, out=tmp_path / "alone").out
    load, groups = verb._load, []

    def batched(*options: Any) -> tuple[verb.Network, str]:
        network, found = load(*options)

        def watched(pictures: Any) -> Any:
            groups.append(len(pictures))
            return network.translate(pictures)

        return network._replace(translate=watched, batched=True), found

    monkeypatch.setattr(verb, "_load", batched)
    together = translate(str(cartoon), folder, out=tmp_path / "together").out
    assert groups == [2, 1, 1, 1] and read_gallery(together) == read_gallery(alone)
    for row in read_gallery(alone):
        a, b = (decode(out / row["file_name"]).astype(int) for out in (alone, together))
        assert np.abs(a - b).max() <= 2


def test_what_makes_no_pictures_is_told(tmp_path: Path, folder: Path, cartoon: Path) -> None:
    with pytest.raises(ValueError, match="dcgan is not an image-to-image model"):
        translate(str(stored(tmp_path / "gan", "dcgan")), folder, out=tmp_path / "out")
    with pytest.raises(ValueError, match="has only one style"):
        translate(str(cartoon), folder, out=tmp_path / "out", styles=3)
    with pytest.raises(ValueError, match="does not fill holes"):
        translate(str(cartoon), folder / "a.png", out=tmp_path / "out", mask=folder / "a.png")
    assert not (tmp_path / "out").exists()


def test_no_option_is_ignored(tmp_path: Path, folder: Path, cartoon: Path) -> None:
    munit, source = str(stored(tmp_path / "munit", "munit")), tmp_path / "film.mp4"
    source.write_bytes(b"")
    with pytest.raises(ValueError, match="--seed 3: only applies to --styles"):
        translate(str(cartoon), folder, out=tmp_path / "out", seed=3)
    for options in ({"styles": 2}, {"styles": 2, "between": 1}, {"style": folder}):
        with pytest.raises(ValueError, match="a film, which supports only one style"):
            translate(munit, source, out=tmp_path / "out", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mutually exclusive"):
        translate(munit, folder, out=tmp_path / "out", styles=2, style=folder / "a.png")
    with pytest.raises(ValueError, match="needs two or more styles"):
        translate(munit, folder, out=tmp_path / "out", between=2)
    assert not (tmp_path / "out").exists()


def test_styles(tmp_path: Path, folder: Path) -> None:
    munit, photo = str(stored(tmp_path / "munit", "munit")), folder / "a.png"
    plain = translate(munit, photo, out=tmp_path / "plain").out
    assert [row["style"] for row in read_gallery(plain)] == [""]
    several = translate(munit, photo, out=tmp_path / "several", styles=2, between=1, seed=5).out
    rows = {row["style"]: decode(several / row["file_name"]) for row in read_gallery(several)}
    assert list(rows) == ["5", "5 to 6, 1/2", "6"]
    assert len({picture.tobytes() for picture in rows.values()}) == 3
    other = translate(munit, photo, out=tmp_path / "other", styles=1, seed=6).out
    assert np.array_equal(decode(other / "a-00.png"), rows["6"])
    like = translate(munit, photo, out=tmp_path / "like", style=folder / "b.png").out
    assert [row["style"] for row in read_gallery(like)] == ["b.png"]


def test_several_sources(cartoon: Path, folder: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "sheet.png", drawn_picture(4))
    given = [folder / "a.png", folder / "more", tmp_path / "sheet.png", folder / "broken.png"]
    result = translate(str(cartoon), given, out=tmp_path / "out")
    rows = {row["source"]: row["file_name"] for row in read_gallery(result.out)}
    names = ["a.png", "a-2.png", "sheet-2.png"]
    assert rows == dict(zip([str(given[0]), f"{folder}/more/a.png", str(given[2])], names, strict=True))
    assert (result.pictures, result.made) == (4, 3) and "broken.png" in result.left_out[0][0]
    assert "broken.png" not in result.left_out[0][1]
    assert decode(result.out / "sheet-2.png").shape == drawn_picture(4).shape
    assert f"{folder / 'a.png'} {folder / 'more'} " in (result.out / "index.html").read_text()
    with pytest.raises(ValueError, match="named twice"):
        translate(str(cartoon), [given[0], given[0]], out=tmp_path / "twice")


def test_a_film_has_a_function_of_its_own(
    cartoon: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may remember the frames before; pictures have none."""
    calls: list[list[int]] = []

    def film_fn(self: Translator) -> Any:
        calls.append([])
        return lambda frames: calls[-1].append(len(frames)) or self.translate(frames)  # type: ignore[func-returns-value]

    monkeypatch.setattr(Translator, "film_fn", film_fn)
    films = [film(tmp_path / "a.mp4", 4), film(tmp_path / "b.mp4", 3)]
    out = translate(str(cartoon), [folder / "a.png", *films], out=tmp_path / "out").out
    assert [sum(frames) for frames in calls] == [4, 3]
    html = (out / "index.html").read_text("utf-8")
    assert html.count('type="range"') == len(read_gallery(out)) == 3  # each has the photo or frame before it


def test_films_and_pictures_together(cartoon: Path, folder: Path, tmp_path: Path) -> None:
    films = [film(tmp_path / "a.mp4", 4), film(folder / "more" / "a.mp4", 4)]
    result = translate(str(cartoon), [folder / "a.png", *films], out=tmp_path / "out")
    assert (result.pictures, result.made, result.films, result.frames) == (1, 3, ["a.mp4", "a-2.mp4"], 8)
    assert ownership.foreign(result.out, "gallery.csv") is None  # --force can replace it
    assert (result.out / "index.html").read_text().count("<video") == 2
    assert str(result).startswith(
        f"{result.out}: 3 pictures by {cartoon}, from 1 picture and 2 films\n{result.out / 'a.mp4'}: a film\n"
    )


def test_stills_of_a_film_replace_no_picture(tmp_path: Path) -> None:
    for taken, stem in (("b-0001.png", "a"), ("a-0001.png", "a-2"), ("a-2.mp4", "a-3"), ("a-3-00.png", "a-3")):
        (tmp_path / taken).write_bytes(b"")
        assert verb._free_stem(tmp_path, "a") == stem
    assert verb._free_stem(tmp_path, "[a]") == "[a]"


def test_a_gallery_is_not_replaced_if_nothing_can_be_translated(cartoon: Path, folder: Path, tmp_path: Path) -> None:
    out = translate(str(cartoon), folder / "a.png", out=tmp_path / "out").out
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (tmp_path / "two").mkdir()
    for name in ("x.png", "y.png"):
        (tmp_path / "two" / name).write_bytes((folder / "broken.png").read_bytes())
    for dry_run in (True, False):
        with pytest.raises(PictureError, match=r"nothing could be translated .*x\.png.*y\.png"):
            translate(str(cartoon), tmp_path / "two", out=out, force=True, dry_run=dry_run)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    unusable = verb.Pictures([tmp_path / "two"], None, None)
    assert not [*verb._opened(unusable, True)] and len(unusable.left_out) == 2  # films beside them can be


def test_without_out_galleries_are_numbered(cartoon: Path, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    result = translate(str(cartoon), folder / "one.png", dry_run=True)
    assert (result.out, result.dry_run) == (Path("galleries/00000-translate-cartoon"), True)
    assert str(result) == f"would translate 1 picture with {cartoon}, to {result.out}" and not result.out.exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"side": -1}, "--side"),
        ({"side": 10**12}, "--side"),
        ({"styles": 0}, "--styles"),
        ({"styles": 10**12}, "--styles"),
        ({"between": -1}, "--between"),
        ({"seed": -1, "styles": 1}, "--seed"),
        ({"seed": 2**32, "styles": 1}, "--seed"),
        ({"seed": float("nan"), "styles": 1}, "--seed"),
        ({"mask": Path("nowhere")}, "--mask"),
        ({"style": Path("nowhere")}, "--style"),
        ({"device": ""}, "--device"),
        ({"out": Path(__file__)}, "--out"),
        ({"out": Path(__file__) / "inside"}, "--out"),
    ],
)
def test_options_that_make_no_sense_are_named(folder: Path, tmp_path: Path, options: Any, named: str) -> None:
    with pytest.raises((ValueError, OSError), match=named):  # before the model is looked for
        translate("nowhere", folder, **{"out": tmp_path / "out"} | options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["photo.jxl", "drawing.kra", "drawing.CLIP"])
def test_formats_that_are_not_read_say_what_to_do(cartoon: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(PictureError, match=rf"{name}: .*(save|export) it as PNG"):
        translate(str(cartoon), tmp_path / name, out=tmp_path / "out")
    with pytest.raises(ValueError, match="no such file"):
        translate(str(cartoon), tmp_path / "nowhere.png", out=tmp_path / "out")
    with pytest.raises(ValueError, match="name one or more"):
        translate(str(cartoon), [], out=tmp_path / "out")


def test_nothing_is_overwritten(cartoon: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="contains the input"):
        translate(str(cartoon), folder, out=folder, force=True)
    translate(str(cartoon), folder, out=tmp_path / "out")
    with pytest.raises(FileExistsError):
        translate(str(cartoon), folder, out=tmp_path / "out")
    translate(str(cartoon), folder, out=tmp_path / "out", force=True)


def film(path: Path, frames: int = 12, sound: bool = False) -> Path:
    av = need("av", "video")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        audio = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        for i in range(frames):
            picture = np.roll(drawn_picture(0)[:32], 2 * i, 1)
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")):
                container.mux(packet)
        if audio:
            for i in range(3 * frames):
                tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                tone.sample_rate, tone.pts = 8000, 1024 * i
                for packet in audio.encode(tone):
                    container.mux(packet)
        for one in filter(None, (stream, audio)):
            for packet in one.encode():
                container.mux(packet)
    return path


@pytest.mark.parametrize("sound", [False, True])
def test_a_film(cartoon: Path, tmp_path: Path, sound: bool) -> None:
    source = film(tmp_path / "walk.mp4", sound=sound)
    result = translate(str(cartoon), source, out=tmp_path / "out")
    out = result.out
    assert (result.frames, result.films, result.warnings) == (12, ["walk.mp4"], [])
    page = (out / "index.html").read_text()
    assert '<video src="walk.mp4" controls' in page and "media-src 'self' file:" in page
    info, film_frames = video.read(out / "walk.mp4")
    times, frames = zip(*film_frames, strict=True)
    assert info.fps == 4 and times == tuple(i / 4 for i in range(12))
    assert len(read_gallery(out)) == 3  # one a second
    import av

    with av.open(str(out / "walk.mp4")) as container:
        assert len(container.streams.audio) == sound
    network = models.load(cartoon)
    assert isinstance(network, Translator)
    _, first = next(video.read(source)[1])
    still = decode(out / "walk-0000.png")
    assert np.array_equal(still, tiles.translate_pictures(network.translate, first[None], network)[0])
    assert np.abs(frames[0].astype(int) - still).mean() < 12  # the encoder loses a little


def test_the_times_of_frames_are_kept(cartoon: Path, tmp_path: Path) -> None:
    """A phone lengthens frames in the dark: four frames a second, then one, with the sound as it was."""
    av = need("av", "video")
    wanted = [0.0, 0.25, 0.5, 0.75, 1.75, 2.75, 5.0]
    with av.open(str(tmp_path / "dark.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, time in enumerate(wanted):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 30 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    result = translate(str(cartoon), tmp_path / "dark.mkv", out=tmp_path / "out")
    times = [time for time, _ in video.read(result.out / "dark.mp4")[1]]
    assert times == pytest.approx(wanted, abs=0.002)
    assert len(read_gallery(result.out)) == 4  # at 0, 1.75, 2.75 and 5 seconds


def turned(path: Path, source: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The film with a, b, c, d as how to show its pictures (ISO 14496-12, track header box)."""
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("matrix", "turns"), [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)]
)
def test_a_film_is_shown_upright(tmp_path: Path, matrix: tuple[int, int, int, int], turns: int) -> None:
    source = film(tmp_path / "film.mp4")
    lying = [frame for _, frame in video.read(source)[1]]
    upright = [frame for _, frame in video.read(turned(tmp_path / "turned.mp4", source, matrix))[1]]
    assert len(upright) == len(lying)
    for one, other in zip(upright, lying, strict=True):
        assert np.array_equal(one, np.rot90(other, turns))


def test_a_broken_film(cartoon: Path, tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", frames=40)
    data = whole.read_bytes()
    for name, content in [("empty.mp4", b""), ("text.mp4", b"no film" * 99), ("half.mp4", data[: len(data) // 3])]:
        broken = tmp_path / name
        broken.write_bytes(content)
        for dry_run in (True, False):
            with pytest.raises(PictureError, match=name):
                translate(str(cartoon), broken, out=tmp_path / "out", dry_run=dry_run)
        assert not (tmp_path / "out").exists()
    damaged = bytearray(data)
    frames = data.index(b"mdat") + 4
    middle = frames + int.from_bytes(data[frames - 8 : frames - 4], "big") // 2
    damaged[middle : middle + 200] = bytes(200)
    (tmp_path / "damaged.mp4").write_bytes(bytes(damaged))
    out = translate(str(cartoon), tmp_path / "damaged.mp4", out=tmp_path / "out").out
    assert len([*video.read(out / "damaged.mp4")[1]]) > 9


def test_an_interrupted_film_leaves_nothing(cartoon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, *_: Any) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    source = film(tmp_path / "a.mp4", 4)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(video, "write", interrupted)
        translate(str(cartoon), source, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    translate(str(cartoon), source, out=tmp_path / "out")
    assert not (tmp_path / "out" / ".unfinished").exists()


def test_without_the_extra_films_say_what_to_install(
    cartoon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "film.mp4").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"films need PyAV; .*pip install .*\[video\]"):
        translate(str(cartoon), tmp_path / "film.mp4", out=tmp_path / "out")


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("models") / "inpainting", "inpainting")


def mask_of(picture: np.ndarray) -> np.ndarray:
    """White in the middle."""
    mask = np.zeros_like(picture)
    height, width = picture.shape[:2]
    mask[height // 4 : -height // 4 or None, width // 4 : -width // 4 or None] = 255
    return mask


def test_holes_are_filled_and_nothing_else(inpainting: Path, tmp_path: Path) -> None:
    picture = drawn_picture(0, 60)[:, :47]
    write_png(tmp_path / "face.png", picture)
    write_png(tmp_path / "mask.png", mask_of(picture))
    out = translate(str(inpainting), tmp_path / "face.png", mask=tmp_path / "mask.png", out=tmp_path / "out").out
    made, hole = decode(out / "face.png"), mask_of(picture)[..., 0] > 0
    assert np.array_equal(made[~hole], picture[~hole]) and not np.array_equal(made[hole], picture[hole])
    half = translate(
        str(inpainting), tmp_path / "face.png", mask=tmp_path / "mask.png", out=tmp_path / "half", side=24
    ).out
    assert decode(half / "face.png").shape == (31, 24, 3)


@pytest.mark.parametrize(("inverted", "warned"), [(False, False), (True, True)])
def test_a_mask_that_may_be_inverted(inpainting: Path, tmp_path: Path, inverted: bool, warned: bool) -> None:
    picture, mask = drawn_picture(1, 24), np.zeros((24, 24, 3), np.uint8)
    mask[:5, :5] = 255
    write_png(tmp_path / "face.png", picture)
    write_png(tmp_path / "mask.png", 255 - mask if inverted else mask)
    result = translate(str(inpainting), tmp_path / "face.png", mask=tmp_path / "mask.png", out=tmp_path / "out")
    assert ("face.png: the mask marks 96% of it as a hole; holes are white" in str(result)) == warned


def test_a_model_among_the_sources(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="SOURCES builtin:cartoon: no such file or folder; that is the name of a model"
    ):
        translate(str(tmp_path), "builtin:cartoon", out=tmp_path / "out")


def test_a_folder_of_masks(inpainting: Path, folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    write_png(masks / "b.png", mask_of(drawn_picture(2, 24)))
    write_png(masks / "one.png", np.full((2, 2, 3), 255, np.uint8))
    result = translate(str(inpainting), folder, mask=masks, out=tmp_path / "out")
    assert [row["file_name"] for row in read_gallery(result.out)] == ["b.png"]
    why = dict(result.left_out)
    assert "contains no mask named a" in why["a.png"] and "2x2 and 1x1 pixels" in why["one.png"]


def test_masks_are_found_by_their_paths(inpainting: Path, folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    (masks / "more").mkdir(parents=True)
    (masks / "a.json").write_text("{}")  # labelling programs leave these
    write_png(masks / "a.png", mask_of(drawn_picture(0)))
    hole = np.zeros((33, 20, 3), np.uint8)
    hole[:5, :5] = 255
    write_png(masks / "more" / "a.png", hole)
    result = translate(str(inpainting), folder, mask=masks, out=tmp_path / "out")
    names = {row["source"]: row["file_name"] for row in read_gallery(result.out)}
    assert set(names) == {"a.png", "more/a.png"}
    changed = decode(result.out / names["more/a.png"]) != decode(folder / "more" / "a.png")
    assert changed[:5, :5].any() and not changed[5:].any() and not changed[:, 5:].any()


def test_a_mask_that_marks_nothing_is_told(inpainting: Path, folder: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "mask.png", mask_of(drawn_picture(0)) // 255)
    with pytest.raises(PictureError, match="from 0 to 1, so it marks nothing"):
        translate(str(inpainting), folder / "a.png", mask=tmp_path / "mask.png", out=tmp_path / "out")


def test_masks_that_do_not_fit(inpainting: Path, folder: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "mask.png", mask_of(drawn_picture(0, 30)))
    with pytest.raises(ValueError, match=r"size of the mask differs.* 30x30 and 48x48"):
        translate(str(inpainting), folder / "a.png", mask=tmp_path / "mask.png", out=tmp_path / "out")
    with pytest.raises(ValueError, match="white in the holes"):
        translate(str(inpainting), folder / "a.png", out=tmp_path / "out")
    with pytest.raises(ValueError, match="one mask for several"):
        translate(str(inpainting), folder, mask=tmp_path / "mask.png", out=tmp_path / "out")
    with pytest.raises(ValueError, match="give one mask"):
        translate(str(inpainting), folder / "a.png", mask=folder, out=tmp_path / "out")
    with pytest.raises(ValueError, match="is a film"):
        translate(str(inpainting), film(tmp_path / "f.mp4"), mask=tmp_path / "mask.png", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_of_a_gallery_only_the_pictures_of_its_table_are_translated(
    cartoon: Path, folder: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    (gallery / "steps").mkdir(parents=True)
    for name in ("a.png", "steps/b.png"):
        write_png(gallery / name, drawn_picture(4))
    (gallery / "gallery.csv").write_text("file_name,seed\na.png,1\n")
    rows = read_gallery(translate(str(cartoon), gallery, out=tmp_path / "out").out)
    assert [row["source"] for row in rows] == ["a.png"]
