"""All speed benchmarks, one after the other: `make bench`. Takes about twenty minutes on two quiet cores.

.venv-bench/bin/python benchmarks/run.py [--quick] [--busy]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from common import run

BENCHMARKS = {
    # script          quick
    "stylegan2.py": ["--preset", "tiny", "--rounds", "1"],
    "ranking.py": ["--count", "64", "--rounds", "1"],
    "distort.py": ["--sizes", "96", "--rounds", "1", "--count", "8"],
}


def run_all(quick: bool = False, busy: bool = False) -> None:
    """Runs each benchmark in a process of its own.

    Args:
        quick: Only check that everything runs; the numbers mean nothing.
        busy: One thread and processor time, for a machine with other load.
    """
    for script, options in BENCHMARKS.items():
        alone = ["--busy"] * (busy and script != "distort.py")  # which always measures so
        command = [sys.executable, str(Path(__file__).with_name(script)), *(options if quick else []), *alone]
        print(f"\n== {' '.join([script, *command[2:]])}", flush=True)
        if code := subprocess.run(command).returncode:
            raise ValueError(f"{script}: failed with exit code {code}")


def main(arguments: list[str] | None = None) -> None:
    run(run_all, arguments)


if __name__ == "__main__":
    main()
