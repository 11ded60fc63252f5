"""The taggers in ONNX files that are supported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Kind = Literal["wd", "deepdanbooru", "illustration2vec"]
TAG_LISTS: Mapping[Kind, str] = {
    "wd": "selected_tags.csv",
    "deepdanbooru": "tags.txt",
    "illustration2vec": "tag_list.json",
}
"""The file beside the network that lists its tags in the order of its outputs. It identifies the kind."""
