"""All speed benchmarks, one after the other: what `make bench` runs. About twenty minutes on two quiet cores.

.venv-bench/bin/python benchmarks/run.py [--quick] [--busy]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

BENCHMARKS = {
    # script          quick
    "stylegan2.py": ["--preset", "tiny", "--rounds", "1"],
    "ranking.py": ["--count", "64", "--rounds", "1"],
    "distort.py": ["--sizes", "96", "--rounds", "1", "--count", "8"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only see that everything runs; the numbers mean nothing")
    parser.add_argument("--busy", action="store_true", help="one thread, processor seconds: something else is running")
    args = parser.parse_args()
    for script, quick in BENCHMARKS.items():
        busy = ["--busy"] * (args.busy and script != "distort.py")  # which always measures so
        command = [sys.executable, str(Path(__file__).with_name(script)), *(quick if args.quick else []), *busy]
        print(f"\n== {' '.join([script, *command[2:]])}", flush=True)
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
