"""What the verbs share: checks of options, results, and the command that repeats a call."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from tyro.conf import Positional

from kyara import __main__, verbs


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (0, {"least": 1}, "--n 0: must be 1 or more"),
        (-3, {"least": 0}, "--n -3: must be 0 or more"),
        (9, {"least": 1, "most": 8}, "--n 9: must be from 1 to 8"),
        (0.0, {"above": 0}, "--n 0.0: must be more than 0"),
        (math.nan, {}, "--n nan: must be a finite number"),
        (math.inf, {"least": 0}, "--n inf: must be a finite number"),
        (-math.inf, {"most": 2}, "--n -inf: must be a finite number"),
        (10**18, {"least": 1}, "--n 1000000000000000000: must be from 1 to 4,294,967,296"),
        pytest.param(10**400, {"least": 1}, "--n 1e300 or more: must be from 1 to 4,294,967,296", id="long"),
        pytest.param(10**5000, {}, "must be 4,294,967,296 or less", id="digits"),
        (True, {}, "must be a number"),
        ("3", {}, "--n '3': must be a number"),
        (2.5, {"whole": True}, "--n 2.5: must be a whole number"),
        (5, {"most": 2, "hint": "usually 1"}, "--n 5: must be 2 or less; usually 1"),
    ],
)
def test_numbers_are_checked(value: Any, limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        verbs.check_number("--n", value, **limits)
    assert message in str(raised.value)


def test_numbers_in_range_pass() -> None:
    for value in (None, 1, 1.5, np.int64(3), np.float32(2)):
        verbs.check_number("--n", value, least=1)  # type: ignore[arg-type]
    verbs.check_number("--n", np.int64(3), whole=True)  # type: ignore[arg-type]


def test_texts_and_files_are_checked(tmp_path: Path) -> None:
    verbs.check_text("--a", None)
    verbs.check_text("--a", "x")
    for text in ("", "  ", "a\0b", 5):
        with pytest.raises(ValueError, match=r"^--a"):
            verbs.check_text("--a", text)  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    verbs.check_file("--a", tmp_path / "file")
    verbs.check_exists("--a", tmp_path)
    with pytest.raises(ValueError, match="is a folder"):
        verbs.check_file("--a", tmp_path)
    for check in (verbs.check_file, verbs.check_exists):
        check("--a", None)
        with pytest.raises(ValueError, match="no such file"):
            check("--a", tmp_path / "nothing")


@verbs.checked
def sample_verb(
    model: Positional[str],
    *sources: verbs.ExistingPath,
    count: Annotated[int | None, verbs.Range(1, 8)] = None,
    share: Annotated[float, verbs.Range(above=0, hint="usually 1")] = 1.0,
    seed: verbs.Seed | None = None,
    names: str = "",
    where: verbs.Where = "",
    kind: Literal["near", "exact"] | None = None,
    like: verbs.ExistingFile | None = None,
    dry_run: verbs.DryRun = False,
) -> tuple[Any, ...]:
    """A verb."""
    return model, sources, count, share, names, where, like


def test_options_are_checked_as_their_annotations_say(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    where, text = {"hair": "red"}, str(tmp_path / "file")
    found = sample_verb(Path("m"), text, tmp_path, count=8, share=2, where=where, like=text, kind="near")  # type: ignore[arg-type]
    assert found == ("m", (Path(text), tmp_path), 8, 2, "", where, Path(text))
    assert sample_verb("m", names="", seed=None) == ("m", (), None, 1.0, "", "", None)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"model": " "}, "MODEL: is empty"),
        ({"count": 9}, "--count 9: must be from 1 to 8"),
        ({"count": 2.5}, "--count 2.5: must be a whole number"),
        ({"share": 0.0}, "--share 0.0: must be more than 0; usually 1"),
        ({"share": math.nan}, "--share nan: must be a finite number"),
        ({"seed": -1}, "--seed -1: must be from 0 to 4,294,967,295"),
        ({"names": " "}, "--names: is empty"),
        ({"names": 3}, "--names 3: must be text"),
        ({"where": " "}, "--where: is empty"),
        ({"kind": "far"}, "--kind far: must be one of near, exact"),
        ({"like": tmp_path}, "is a folder; name a file"),
        ({"like": "nowhere"}, "--like nowhere: no such file"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=re.escape(message)):
            sample_verb(**{"model": "m", **options})
    with pytest.raises(ValueError, match="SOURCES nowhere: no such file or folder"):
        sample_verb("m", "nowhere")  # type: ignore[arg-type]


def test_the_command_names_what_differs_from_the_defaults() -> None:
    def verb_(
        model: str = "a",
        *sources: Path,
        count: int = 16,
        dry_run: bool = False,
        mirror: bool = True,
        where: str | Mapping[str, str] = "",
        out: Path = Path("o"),
    ) -> None: ...

    given = {"model": "my model", "sources": (Path("a"), Path("b")), "count": 16, "dry_run": True, "mirror": False}
    given |= {"where": {"hair": "red", "eyes": "blue"}, "out": Path("p q")}
    expected = "kyara verb 'my model' a b --no-mirror --where hair=red,eyes=blue --out 'p q'"
    assert verbs.command_line(verb_, given) == expected


def test_where() -> None:
    wanted = {"hair": "silver", "tags": "red,long", "eyes": "blue"}
    assert verbs.parse_where(" hair = silver,tags=red\\,long, eyes=blue,") == wanted
    assert verbs.parse_where(verbs.where_text(wanted)) == verbs.parse_where(wanted) == wanted
    assert verbs.parse_where("") == {}
    for where in ("hair", "hair=", "=red", {"hair": ""}, "hair=red,hair=blue"):
        with pytest.raises(ValueError, match="--where"):
            verbs.parse_where(where)


def test_sources_are_paths(tmp_path: Path) -> None:
    assert verbs.paths("SOURCES", str(tmp_path)) == verbs.paths("SOURCES", [tmp_path]) == [tmp_path]
    for sources in ([], [tmp_path, tmp_path], tmp_path / "nowhere", ""):
        with pytest.raises(ValueError, match="SOURCES"):
            verbs.paths("SOURCES", sources)


def test_many_sources_are_checked_in_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell expands photos/*.jpg to thousands."""
    compared, equal = 0, Path.__eq__

    def counted(self: Path, other: object) -> bool:
        nonlocal compared
        compared += 1
        return equal(self, other)

    monkeypatch.setattr(verbs, "check_exists", lambda option, path: None)
    monkeypatch.setattr(type(tmp_path), "__eq__", counted)
    names = [f"{i}.png" for i in range(2000)]
    assert len(verbs.paths("PICTURES", names)) == 2000 and compared < 10_000
    with pytest.raises(ValueError, match=r"PICTURES 7\.png: is named twice"):
        verbs.paths("PICTURES", [*names, "7.png"])


def test_options_may_be_between_the_sources() -> None:
    def verb(
        *sources: Path, out: Path | None = None, force: bool = False, keep: bool = True, augment: bool | None = None
    ) -> None: ...

    given = ["--out", "x", "a", "--force", "b", "--no-keep", "c", "--no-augment", "d", "--out=y", "e"]
    ordered = " ".join(__main__.positionals_first(given, verb))
    assert ordered == "a b c d e --out x --force --no-keep --no-augment --out=y"
    assert __main__.positionals_first(["a", "--force", "--", "-b"], verb) == ["a", "--force", "--", "-b"]
    assert __main__.positionals_first(["a", "--out"], verb) == ["a", "--out"]


def test_a_result_is_json() -> None:
    @dataclasses.dataclass(frozen=True)
    class Made(verbs.Result):
        rows: list[dict[str, Any]]

    made = Made(Path("a"), [{"file": Path("b"), "score": math.nan}, {"seeds": (1, 2)}])
    assert json.loads(json.dumps(made.as_json())) == {
        "out": "a",
        "rows": [{"file": "b", "score": None}, {"seeds": [1, 2]}],
    }


def test_names_that_the_terminal_cannot_show_are_printed_as_codes() -> None:
    script = r"""
import sys, kyara.__main__ as main
sys.argv = ["kyara"]
main.USAGE = "\u65e5\u672c \udcff"
main.main()
"""
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [rb"\u65e5\u672c", rb"\udcff"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["rank"]])
def test_a_closed_output_ends_it_quietly(arguments: list[str], unbuffered: str) -> None:
    """As in `kyara ... | head`."""
    script = """
import sys, kyara, kyara.__main__ as main
def rank() -> str:
    return "ranked"
kyara.rank = rank
sys.stdin.read()
main.main()
"""
    command = [sys.executable, "-c", script, *arguments]
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_error_of_the_program_is_shown_also_with_a_closed_output() -> None:
    script = """
import sys, kyara, kyara.__main__ as main
def rank() -> str:
    print("ranking")
    raise RuntimeError("a fault")
kyara.rank = rank
sys.stdin.read()
main.main()
"""
    pipe, buffered = subprocess.PIPE, {**os.environ, "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", script, "rank"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=buffered) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        assert b"RuntimeError: a fault" in process.stderr.read()
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "kyara"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("kyara: the output cannot be written: [Errno 28]")


def test_a_broken_pipe_inside_a_verb_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise BrokenPipeError("a worker has ended")

    monkeypatch.setattr("kyara.rank", broken, raising=False)
    with pytest.raises(SystemExit, match="kyara rank: a worker has ended"):
        __main__.run("rank", [])
