"""The results of `kyara tag`, and their printed summaries."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kyara.files.names import counted, listed, printable
from kyara.verbs import Result

START = 20  # Minimum number of answers for a committee, and size of the first batch of questions
TOO_FEW = f"fewer than {START} pictures can be answered: you are asked about all, and none is filled in for you"
SHOWN = 10  # Maximum number of values of an attribute in the summary


@dataclasses.dataclass(frozen=True)
class TagResult(Result):
    """Result of `tag` without `--complete`."""

    pictures: int
    model: str
    attributes: Mapping[str, Mapping[str, Any]]
    """Attribute -> `unknown`: number of pictures without a value; and except in a dry run, `filled`: number of pictures
    filled in, and `values`: value -> number."""
    left_out: Sequence[Mapping[str, str]] = ()  # file_name and reason of each picture that cannot be read or stored
    dry_run: bool = False

    def __str__(self) -> str:
        pictures = counted(self.pictures, "picture")
        if self.dry_run:
            unknown = [f"  {name}: {about['unknown']:,} unknown" for name, about in self.attributes.items()]
            return "\n".join([f"would fill in {self.out}, {pictures}, with {self.model}", *unknown])
        lines = [f"{self.out}: {pictures}, tagged by {self.model}"]
        for name, about in self.attributes.items():
            values = ", ".join(f"{printable(value)} {n:,}" for value, n in list(about["values"].items())[:SHOWN])
            more = ", ..." if len(about["values"]) > SHOWN else ""
            lines.append(f"  {name}: filled in {about['filled']:,}, left unknown {about['unknown']:,}")
            lines += [f"    {values}{more}"] if values else []
        if self.left_out:
            lines.append(f"left out: {len(self.left_out):,}")
            lines += listed((entry["file_name"], entry["reason"]) for entry in self.left_out)
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class CompletionResult(Result):
    """Result of `tag --complete`."""

    attribute: str
    values: list[str]
    pictures: int
    unknown: int  # Number of pictures without a value
    answers: int = 0  # Number of pictures with a value from a person or the data, on which the committee is trained
    asked: int = 0  # Number of these that were answered in this run
    accuracy: float | None = None
    """Expected share of correct values if all open pictures were filled in, by cross-validation on the answers; None
    while there are too few answers."""
    precision: float | None = None  # Expected share of correct values among those filled in; None if there are none
    filled: Mapping[str, int] = dataclasses.field(default_factory=dict)  # Value -> number of pictures filled in with it
    reach: Mapping[float, float] = dataclasses.field(default_factory=dict)
    """Precision -> share of the open pictures that could be filled in at this precision."""
    left_out: Mapping[str, str] = dataclasses.field(
        default_factory=dict
    )  # Name -> reason, if unreadable or not storable
    questions: tuple[Path, Path] | None = None  # The contact sheet and the CSV to fill in, if there was no terminal
    dry_run: bool = False
    recovered: int = 0  # Number of answers of an interrupted run that this one wrote to the dataset

    def __str__(self) -> str:
        if self.dry_run:
            return f"would ask about {self.attribute}: {self.unknown:,} of {self.pictures:,} unknown"
        lines = [f"{self.attribute}: {counted(self.answers, 'answer')}, {self.asked:,} of them new"]
        if self.recovered:
            written = "was written" if self.recovered == 1 else "were written"
            lines.append(f"  {counted(self.recovered, 'answer')} of an interrupted run {written}")
        if self.accuracy is None:
            lines.append(f"  {self._why_none()}")
        else:
            sure = f", about {self.precision:.1%} of them correct" if self.precision is not None else ""
            lines.append(f"  filled in {sum(self.filled.values()):,}{sure}; left unknown {self.unknown:,}")
            lines += [f"    {printable(value)} {n:,}" for value, n in self.filled.items()]
            could = ", ".join(f"{share:.0%} at precision {target:g}" for target, share in self.reach.items())
            lines.append(f"  of all open pictures, {self.accuracy:.1%} would be correct; could fill in {could}")
        if self.left_out:
            lines += [f"  left out: {len(self.left_out):,}", *listed(self.left_out.items())]
        if self.questions:
            picture, table = self.questions
            again = f"run this again with --answers {shlex.quote(str(table))}"
            lines.append(f"  look at {picture}, fill in {table}, then {again}")
        return "\n".join(lines)

    def _why_none(self) -> str:
        """Why nothing is filled in."""
        pictures = self.pictures - len(self.left_out)
        if self.unknown == 0:
            those = f"all {counted(pictures, 'picture')}"
            given = pictures == self.answers and not self.asked
            return f"{those} already have a value" if given else f"{those} are answered; nothing left to fill in"
        if self.answers + self.unknown < START:
            return TOO_FEW
        return f"nothing filled in yet: this needs {START} answers with at least two different values"
