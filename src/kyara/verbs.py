"""What the verbs share: option types, checks of options, results, and the command that repeats a call.

A verb is a function: its signature is the command line, and it returns a `Result` and prints nothing. It checks all of
its options before it imports or computes anything that takes time."""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

Out = Annotated[Path | None, arg(help="Folder of the result. By default a new one, numbered.")]
Force = Annotated[bool, arg(help="Replace an earlier result of the same kind at --out.")]
DryRun = Annotated[bool, arg(help="Check everything and say what would be done; write nothing.")]
Device = Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")]
Devices = Annotated[int, arg(help="Number of devices; the batch is divided among them.")]
Precision = Annotated[
    Literal["auto", "32", "bf16"], arg(help="bf16 (mixed) or 32; auto is bf16 where the device computes in it.")
]
Workers = Annotated[int, arg(help="Processes that decode pictures; 0 decodes in this one.")]
Seeds = Annotated[str | None, arg(help="Seeds: numbers and ranges, such as 0-35,77.")]
Keep = Annotated[int | None, arg(help="Keep the best N pictures.")]
if TYPE_CHECKING:
    Where = str | Mapping[str, str]
else:  # what the command line can say
    Where = Annotated[str, arg(help="Attributes, such as hair=silver,eyes=red.")]

if TYPE_CHECKING:
    Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
else:  # the command line gives one or more
    Sources = Annotated[Positional[tuple[Path, ...]], arg(metavar="SOURCES ...")]

REPEATED = ("force", "dry_run")
"""Options that are left out of the command that repeats a call."""
LAST_SEED = 2**32 - 1
"""The largest seed of NumPy's RandomState."""
MOST = 2**32
"""The largest number that an option takes, unless it says otherwise."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a verb returns. `str()` of it is what the command line prints, `as_json()` what `--json` prints."""

    out: Path | None
    """The folder or file that was written, or would be; None if the verb writes nothing."""

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values; paths as text, numbers that JSON cannot hold as None."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def check_number(
    option: str,
    value: float | None,
    *,
    least: float | None = None,
    most: float = MOST,
    above: float | None = None,
    hint: str = "",
) -> None:
    """ValueError unless `value` is finite, at least `least`, greater than `above` and at most `most`. None, an option
    that was not given, passes. `hint` follows the message."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{option} {value!r}: must be a number{hint and '; ' + hint}")
    if isinstance(value, float) and not math.isfinite(value):
        wrong = "must be a finite number"
    elif least is not None and value < least:
        wrong = f"must be {least:,} or more" if most == MOST else f"must be from {least:,} to {most:,}"
    elif above is not None and value <= above:
        wrong = f"must be more than {above:,}"
    elif value > most:
        wrong = f"must be {most:,} or less" if least is None else f"must be from {least:,} to {most:,}"
    else:
        return
    shown = "1e300 or more" if value > 1e300 and value != math.inf else value  # str() refuses integers of 4,300 digits
    raise ValueError(f"{option} {shown}: {wrong}{hint and '; ' + hint}")


def check_count(option: str, value: int | None, *, least: int = 1, most: int = MOST) -> None:
    """`check_number` of a whole number."""
    check_number(option, value, least=least, most=most)
    if value is not None and not isinstance(value, numbers.Integral):
        raise ValueError(f"{option} {value}: must be a whole number")


def check_seed(option: str, value: int | None) -> None:
    """ValueError unless `value` is a seed, 0 to `LAST_SEED`, or None."""
    check_count(option, value, least=0, most=LAST_SEED)


def check_text(option: str, value: str | os.PathLike[str] | None) -> None:
    """ValueError unless `value` is text that is not blank and has no null character, or None, not given."""
    if value is None:
        return
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{option} {value!r}: must be text")
    text = os.fspath(value)
    if not text.strip():
        raise ValueError(f"{option}: is empty; leave it out or give a value")
    if "\0" in text:
        raise ValueError(f"{option} {text!r}: has a null character; remove it")


def check_file(option: str, path: Path | None) -> None:
    """ValueError unless `path` is an existing file, or None."""
    check_text(option, path)
    if path is not None and not path.is_file():
        wrong = "is a folder; name a file" if path.is_dir() else "no such file; check the path"
        raise ValueError(f"{option} {path}: {wrong}")


def paths(option: str, sources: Sources) -> list[Path]:
    """The one or more paths that `sources` are. ValueError unless each exists and is given once."""
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    if not given:
        raise ValueError(f"{option}: name one or more")
    for one in given:
        check_text(option, one)
    found = [Path(one) for one in given]
    for i, path in enumerate(found):
        check_exists(option, path)
        if path in found[:i]:
            raise ValueError(f"{option} {path}: is named twice; name it once")
    return found


def check_exists(option: str, path: Path | None) -> None:
    """ValueError unless there is a file or folder at `path`, or None."""
    check_text(option, path)
    if path is not None and not path.exists():
        raise ValueError(f"{option} {path}: no such file or folder; check the path")


def parse_where(where: str | Mapping[str, str]) -> dict[str, str]:
    """hair=silver,eyes=red as a mapping; a comma inside a value is written \\,. ValueError says what is wrong."""
    if isinstance(where, Mapping):
        pairs = [(str(name), str(value)) for name, value in where.items()]
    elif not isinstance(where, str):
        raise ValueError(f"--where {where!r}: must be text; write hair=silver,eyes=red")
    else:
        parts = filter(None, (part.strip() for part in re.split(r"(?<!\\),", where)))
        pairs = [
            (name.strip(), value.strip().replace("\\,", ",")) for name, _, value in (p.partition("=") for p in parts)
        ]
    found: dict[str, str] = {}
    for name, value in pairs:
        if not (name and value):
            raise ValueError(f"--where {where}: {name or value!r} is not ATTRIBUTE=VALUE; write hair=silver,eyes=red")
        if name in found:
            raise ValueError(f"--where {where}: names {name} twice; name each attribute once")
        found[name] = value
    return found


def where_text(wanted: Mapping[str, str]) -> str:
    """The inverse of `parse_where`."""
    return ",".join(f"{name}={value}".replace(",", "\\,") for name, value in wanted.items())


def command_line(verb: Callable[..., object], given: Mapping[str, Any]) -> str:
    """The command that repeats a call of `verb`: its name and the options in `given` that differ from the defaults."""
    words = ["kyara", verb.__name__.rstrip("_")]
    for name, parameter in inspect.signature(verb).parameters.items():
        value = given[name]
        if name in REPEATED or value is None or value == parameter.default:
            continue
        option = f"--{name.replace('_', '-')}"
        if parameter.kind is not parameter.KEYWORD_ONLY:
            words += _words(value)
        elif isinstance(value, bool):
            words.append(option if value else f"--no-{name.replace('_', '-')}")
        else:
            words += [option, *_words(value)]
    return shlex.join(words)


def _words(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [where_text(value)]
    return [str(item) for item in (value if isinstance(value, list | tuple) else [value])]
