"""Skips tests whose optional dependency is missing, with a message that says what to install."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from kyara.files.extras import install_hint


def need(module: str, extra: str) -> Any:
    """The module, which belongs to this extra of pyproject.toml."""
    return pytest.importorskip(module, reason=f"needs the module {module}; {install_hint(extra)}")


def need_program(*names: str, package: str) -> str:
    """The path of the first of these programs that exists."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"needs the program {' or '.join(names)} on the PATH; install {package}")
    return found
