"""Opens pictures of any source: galleries, datasets and single files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kyara.files.archive import Folder
from kyara.files.dataset import Dataset, open_dataset, open_datasets
from kyara.files.gallery import TABLE, read_gallery


def open_pictures(*paths: Path) -> Dataset:
    """The pictures of galleries, folders, .zip files and single files, in the given order. The columns of a gallery's
    table, such as seeds and attributes, become attributes. Raises DatasetError or GalleryError if a source cannot be
    opened."""
    return open_datasets(paths, _open_folder_or_zip)


def _open_folder_or_zip(path: Path) -> Dataset:
    if not (path / TABLE).is_file():
        return open_dataset(path)
    rows: Sequence[dict[str, str]] = read_gallery(path)
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return Dataset(path, Folder(path), columns.pop("file_name", []), columns)
