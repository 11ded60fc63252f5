"""Every option of every verb with nonsense: one sentence that names the option, before any work."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kyara
from kyara import verbs

NUMBERS = (-1, 0, 10**30, math.nan, math.inf)


def function(verb: str) -> Any:
    return getattr(kyara, "import_" if verb == "import" else verb)


def parts(annotation: Any) -> Iterator[Any]:
    """The types, values and metadata in an annotation."""
    inner = typing.get_args(annotation)
    for part in inner:
        yield from parts(part)
    if not inner:
        yield annotation


def options() -> Iterator[tuple[str, inspect.Parameter, list[Any]]]:
    for verb in kyara.VERBS:
        hints = typing.get_type_hints(function(verb), include_extras=True)
        for name, parameter in inspect.signature(function(verb)).parameters.items():
            yield verb, parameter, list(parts(hints[name]))


def nonsense() -> Iterator[Any]:
    """(verb, option, value): numbers outside the declared range, and text and paths that cannot be."""
    for verb, parameter, there in options():
        values: list[Any] = []
        if int in there or float in there:
            limits = next((part for part in there if isinstance(part, verbs.Range)), verbs.Range())
            values = [value for value in NUMBERS if refused(value, limits, whole=float not in there)]
            assert len(values) > 2, f"{verb} {parameter.name} has no range"
        elif str in there or Path in there:
            values = [value for value in ("", "a\0b") if value != parameter.default]
            values += ["A FOLDER"] * (verbs.check_file in there) + ["no-such"] * (verbs.check_exists in there)
        for value in values:
            yield pytest.param(verb, parameter, value, id=f"{verb}-{parameter.name}-{value!r}")


def refused(value: float, limits: verbs.Range, *, whole: bool) -> bool:
    """Whether a number lies outside a range, found independently of `verbs.check_number`."""
    if not math.isfinite(value) or (whole and isinstance(value, float)):
        return True
    low = (limits.least is not None and value < limits.least) or (limits.above is not None and value <= limits.above)
    return low or value > limits.most


@pytest.mark.parametrize(("verb", "parameter", "value"), list(nonsense()))
def test_nonsense_is_refused_in_one_sentence(
    verb: str, parameter: inspect.Parameter, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    there = tmp_path / "file.png"
    there.write_bytes(b"")
    value = tmp_path / "folder" if value == "A FOLDER" else value
    arguments, given = [], {}
    for other in inspect.signature(function(verb)).parameters.values():
        chosen = value if other.name == parameter.name else there
        if other.kind is other.KEYWORD_ONLY:
            if other.name == parameter.name or other.default is other.empty:
                given[other.name] = chosen
        elif other.name == parameter.name or (other.default is other.empty and other.kind is not other.VAR_POSITIONAL):
            arguments.append(chosen)
    if parameter.kind is parameter.VAR_POSITIONAL:
        arguments.append(value)
    with pytest.raises((ValueError, OSError)) as raised:
        function(verb)(*arguments, **given)
    name = parameter.name.replace("_", "-")
    text = str(raised.value)
    assert "\n" not in text and len(text) < 400
    assert name.lower() in text.lower(), text
    assert sorted(tmp_path.iterdir()) == [there, tmp_path / "folder"]


def test_every_verb_checks_its_options() -> None:
    assert all(hasattr(function(verb), "__wrapped__") for verb in kyara.VERBS)
