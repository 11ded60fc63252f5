"""Optional dependencies: how to install them."""

from __future__ import annotations

import shlex
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[3]


def install_hint(extra: str) -> str:
    """The command that installs an extra of pyproject.toml. Kyara is not on PyPI, so it is installed from
    the source folder, whose path is known if this installation is an editable one."""
    python = " (Python 3.11 or 3.12)" if extra == "photo" else ""
    if (SOURCE / "pyproject.toml").is_file():
        return f"run: pip install -e {shlex.quote(f'{SOURCE}[{extra}]')}{python}"
    return f"in Kyara's source folder, run: pip install '.[{extra}]'{python}"
