"""Supported kinds of ONNX taggers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Kind = Literal["wd", "deepdanbooru", "illustration2vec"]
TAG_LISTS: Mapping[Kind, str] = {
    "wd": "selected_tags.csv",
    "deepdanbooru": "tags.txt",
    "illustration2vec": "tag_list.json",
}
"""File with the list of tags, in the order of the network's outputs, in the same folder. It identifies the kind."""
