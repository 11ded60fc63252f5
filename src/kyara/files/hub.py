"""Downloads `hf-hub:OWNER/NAME` from the Hugging Face Hub to the local cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kyara.files.errors import CheckpointError
from kyara.files.extras import install_hint


def download(repository: str, files: Sequence[str]) -> Path:
    """Downloads `files` of the repository `OWNER/NAME`, skipping missing ones. Returns the local folder."""
    name = f"hf-hub:{repository}"
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(f"{name}: needs the package huggingface-hub; {install_hint('hub')}") from error
    try:
        return Path(snapshot_download(repository, allow_patterns=list(files)))
    except Exception as error:  # those of huggingface_hub and of its HTTP client have no common base class
        raise CheckpointError(
            f"{name}: download failed ({type(error).__name__}: {error}). Check the name and the "
            "connection; offline, download the repository elsewhere and give its folder as the path"
        ) from error
