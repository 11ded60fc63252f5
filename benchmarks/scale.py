"""Processor time and memory of rank, tag and the search of copies for 1,000 pictures, on one thread.

    python benchmarks/scale.py --pictures examples/characters.zip --counts 500 2000

Each verb runs in a process of its own, from the command to the result, on a .zip in which the pictures are repeated
under other names until there are as many as wanted. What 1,000 more take is the difference between the largest count
and the smallest: starting and loading networks are not in it. `rank` is by the quality alone, `rank both` by the
content too; `rank copies` searches the pictures in themselves, first without an index, then again, with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import machine, print_table, run

from kyara.files.dataset import Dataset, open_dataset

COMMANDS = "rank", "rank both", "rank copies", "rank copies again", "tag"
MEASURED = """
import json, re, sys, time, kyara
verb, path, options = json.loads(sys.argv[1])
getattr(kyara, verb)(path, **options)
status = open("/proc/self/status").read()
print(json.dumps([time.process_time(), int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 1024]))
"""


class Cost(NamedTuple):
    """What a command needed."""

    seconds: float  # of processor time
    memory: float  # its peak, MiB


def repeated(dataset: Dataset, count: int, path: Path) -> Path:
    """A .zip of `count` pictures."""
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(count):
            name = Path(dataset.names[i % len(dataset)]).name
            archive.writestr(f"{i:07d}-{name}", dataset.read(i % len(dataset)))
    return path


def cost(folder: Path, verb: str, path: Path, options: Mapping[str, Any]) -> Cost:
    call = json.dumps([verb, str(path), {"workers": 1, **options}])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "KYARA_CACHE": str(folder / "cache")}
    shown = subprocess.run([sys.executable, "-c", MEASURED, call], stdout=subprocess.PIPE, env=environment, check=True)
    return Cost(*json.loads(shown.stdout))


def costs(dataset: Dataset, count: int, commands: Sequence[str]) -> dict[str, Cost]:
    """Command -> what it needs for `count` pictures."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = repeated(dataset, count, folder / "pictures.zip")
        for command in commands:
            verb, *options = command.split()
            given: dict[str, Any] = {"out": str(folder / command)} if verb == "rank" else {}
            if "copies" in options:
                given["copies_of"] = str(path)
            if "both" not in options and verb == "rank":
                given["by"] = "quality"
            found[command] = cost(folder, verb, path, given)
    return found


def main(arguments: list[str] | None = None) -> None:
    def measure(pictures: Path, counts: tuple[int, int] = (500, 2000), commands: tuple[str, ...] = COMMANDS) -> None:
        """Prints what every command needs.

        Args:
            pictures: A folder or .zip.
            counts: The smallest and the largest number of pictures.
            commands: What to measure.
        """
        dataset = open_dataset(pictures)
        few, many = (costs(dataset, count, commands) for count in counts)
        rows = {}
        for name, most in many.items():
            thousands = (counts[1] - counts[0]) / 1000
            rows[name] = {
                "seconds for 1,000": (most.seconds - few[name].seconds) / thousands,
                f"MiB at {counts[0]:,}": few[name].memory,
                f"MiB at {counts[1]:,}": most.memory,
            }
        print(f"{machine()}\n{len(dataset)} pictures, repeated up to {counts[1]:,}")
        print_table(rows, "command", ".4g")

    run(measure, arguments)


if __name__ == "__main__":
    main()
