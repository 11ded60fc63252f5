"""What the verbs share: options that mean the same everywhere, results, and the command that repeats a call.

A verb is a function: its signature is the command line, and it returns a `Result` and prints nothing."""

from __future__ import annotations

import dataclasses
import inspect
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

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

REPEATED = ("force", "dry_run")
"""Options that are left out of the command that repeats a call."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a verb returns. `str()` of it is what the command line prints, `as_json()` what `--json` prints."""

    out: Path | None
    """The folder or file that was written, or would be; None if the verb writes nothing."""

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values; paths as text."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def command_line(verb: Callable[..., object], given: Mapping[str, Any]) -> str:
    """The command that repeats a call of `verb`: its name and what differs from the defaults."""
    words = ["kyara", verb.__name__.rstrip("_")]
    for name, parameter in inspect.signature(verb).parameters.items():
        value = given[name]
        if name in REPEATED or value is None or value == parameter.default:
            continue
        option = name.replace("_", "-")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            words += [os.fspath(item) for item in (value if isinstance(value, list | tuple) else [value])]
        elif isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", str(value)]
    return shlex.join(words)
