"""Code shared by the verbs: option types and their validation, results, and the command that repeats a call.

A verb is a function: its signature defines the command line, and it returns a `Result` and prints nothing. It checks
all options before it imports or computes anything that takes time.

The annotation of an option declares the accepted values, and the decorator `checked` validates them before the call:

    @checked
    def verb(model: Positional[str], *, count: Annotated[int, Range(1, 100)] = 16, mask: ExistingFile | None = None)

Numbers must be finite, and integers if the type is int; text and paths must not be empty unless the default is empty; a
`Literal` must be one of its values. The verb itself checks conditions that involve several options."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar, get_args, get_type_hints

from tyro.conf import Positional, arg

P = ParamSpec("P")
R = TypeVar("R")

LAST_SEED = 2**32 - 1  # The largest seed of NumPy's RandomState
MOST = 2**32  # Default maximum of numeric options


@dataclasses.dataclass(frozen=True)
class Range:
    """The range of a numeric option: `least` <= value <= `most`, value > `above`. `hint` is appended to the error."""

    least: float | None = None
    most: float = MOST
    above: float | None = None
    hint: str = ""


Out = Annotated[Path | None, arg(help="Output folder. By default a new numbered folder.")]
Force = Annotated[bool, arg(help="Replace an earlier result of the same kind at --out.")]
DryRun = Annotated[bool, arg(help="Check all options and print what would be done, without writing anything.")]
Device = Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")]
Devices = Annotated[int, arg(help="Number of devices; the batch is split across them."), Range(1, 1024)]
Precision = Annotated[
    Literal["auto", "32", "bf16"], arg(help="bf16 (mixed) or 32; auto is bf16 where the device supports it.")
]
Workers = Annotated[int, arg(help="Worker processes that decode pictures; 0 uses the main process."), Range(0, 1024)]
Threads = Annotated[
    int | None, arg(help="Threads that decode pictures. By default one per processor core."), Range(1, 1024)
]
Engine = Annotated[
    Literal["local", "ray"],
    arg(
        help="local is this process; ray is Ray Data (pip install '.[scale]'), on this machine or on the cluster at "
        "RAY_ADDRESS, whose machines must see the same files."
    ),
]
Processes = Annotated[int | None, arg(help="With --engine ray, the number of processes, by default 2."), Range(1, 4096)]
Seeds = Annotated[str | None, arg(help="Seeds: numbers and ranges, such as 0-35,77.")]
Seed = Annotated[int, Range(0, LAST_SEED)]
Keep = Annotated[int | None, arg(help="Keep the best N pictures."), Range(1)]
if TYPE_CHECKING:
    Where = str | Mapping[str, str]
else:  # the command line accepts text only
    Where = Annotated[str, arg(help="Attributes, such as hair=silver,eyes=red.")]

if TYPE_CHECKING:
    Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
else:  # the command line accepts one or more paths
    Sources = Annotated[Positional[tuple[Path, ...]], arg(metavar="SOURCES ...", help_behavior_hint="(required)")]

REPEATED = ("force", "dry_run", "profile")  # Options omitted from the command that repeats a call


@dataclasses.dataclass(frozen=True)
class Result:
    """Return value of a verb. The command line prints `str(result)`, or `result.as_json()` with `--json`."""

    out: Path | None  # The output folder or file (with `dry_run` not yet written); None if the verb writes nothing

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values: paths as text, NaN and infinity as None."""
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
    whole: bool = False,
) -> None:
    """Raises ValueError unless `value` is in the range (see `Range`), and an integer if `whole`. None (option not
    given) is accepted."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{option} {value!r}: must be a number{hint and '; ' + hint}")
    if isinstance(value, float) and not math.isfinite(value):
        wrong = "must be a finite number"
    elif whole and not isinstance(value, numbers.Integral):
        wrong = "must be a whole number"
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


def check_text(option: str, value: str | os.PathLike[str] | None) -> None:
    """Raises ValueError unless `value` is text that is not blank and has no null character, or None (not given)."""
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
    """Raises ValueError unless `path` is an existing file, or None."""
    check_text(option, path)
    if path is not None and not path.is_file():
        wrong = "is a folder; name a file" if path.is_dir() else "no such file; check the path"
        raise ValueError(f"{option} {path}: {wrong}")


def paths(option: str, sources: Sources) -> list[Path]:
    """`sources` as a list of paths. Raises ValueError if it is empty, or a path does not exist or is given twice."""
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    if not given:
        raise ValueError(f"{option}: name one or more")
    for one in given:
        check_text(option, one)
    found = [Path(one) for one in given]
    seen = set[Path]()
    for path in found:
        check_exists(option, path)
        if path in seen:
            raise ValueError(f"{option} {path}: is named twice; name it once")
        seen.add(path)
    return found


def check_exists(option: str, path: Path | None) -> None:
    """Raises ValueError unless `path` is an existing file or folder, or None."""
    check_text(option, path)
    if path is not None and not path.exists():
        model = str(path).startswith(("builtin:", "hf-hub:"))
        hint = "that is the name of a model, which comes first" if model else "check the path"
        raise ValueError(f"{option} {path}: no such file or folder; {hint}")


ExistingFile = Annotated[Path, check_file]
ExistingPath = Annotated[Path, check_exists]  # A file or a folder


def checked(verb: Callable[P, R]) -> Callable[P, R]:
    """Decorator: validates the options of `verb` by their annotations, and converts text to Path where a path is
    expected. Raises ValueError for the first invalid option."""

    @functools.wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        signature, hints = inspect.signature(verb), get_type_hints(verb, include_extras=True)
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            parameter, parts = signature.parameters[name], list(_parts(hints[name]))
            several = parameter.kind is parameter.VAR_POSITIONAL or ... in parts
            option = _option(parameter)
            if several and isinstance(value, list | tuple):
                bound.arguments[name] = tuple(_checked(option, one, parts) for one in value)
            elif value is not None and not (value == "" == parameter.default):
                bound.arguments[name] = _checked(option, value, parts)
        return verb(*bound.args, **bound.kwargs)

    return wrapped


def _parts(hint: Any) -> Iterator[Any]:
    """The leaves of an annotation: types, values of a `Literal` and metadata."""
    inner = get_args(hint)
    for part in inner:
        yield from _parts(part)
    if not inner:
        yield hint


def _option(parameter: inspect.Parameter) -> str:
    """Name of a parameter on the command line."""
    keyword = parameter.kind is parameter.KEYWORD_ONLY
    return f"--{parameter.name.replace('_', '-')}" if keyword else parameter.name.upper()


def _checked(option: str, value: Any, parts: Sequence[Any]) -> Any:
    """`value`, validated and converted by the parts of its annotation (see `_parts`)."""
    choices = [part for part in parts if isinstance(part, str)]
    if isinstance(value, Mapping):  # only from Python, not from the command line; the verb checks it
        return value
    if int in parts or float in parts:
        limits = next((part for part in parts if isinstance(part, Range)), Range())
        check_number(option, value, **dataclasses.asdict(limits), whole=float not in parts)
    elif str in parts or Path in parts:
        check_text(option, value)
        value = os.fspath(value) if str in parts else Path(value)
        for check in (check_file, check_exists):
            if check in parts:
                check(option, value)
    elif choices and value not in choices:
        raise ValueError(f"{option} {value}: must be one of {', '.join(choices)}")
    return value


def parse_where(where: str | Mapping[str, str]) -> dict[str, str]:
    """hair=silver,eyes=red as a mapping; a comma inside a value is escaped as \\,. Raises ValueError if malformed."""
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
        option = _option(parameter)
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
