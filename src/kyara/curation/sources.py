"""Opens pictures of any source: galleries, datasets and single files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kyara.files.archive import Folder
from kyara.files.dataset import Dataset, open_dataset, open_datasets
from kyara.files.errors import DatasetError
from kyara.files.gallery import TABLE, read_gallery
from kyara.files.gallery_page import UNTAGGED
from kyara.files.metadata import MEASUREMENTS, READERS
from kyara.files.names import normalized
from kyara.labels.attributes import read_labels


def open_pictures(*paths: Path) -> Dataset:
    """The pictures of galleries, folders, .zip files and single files, in the given order. The columns of a gallery's
    table, such as seeds and attributes, become attributes. Raises DatasetError or GalleryError if a source cannot be
    opened."""
    return open_datasets(paths, _open_folder_or_zip)


def open_to_rank(*paths: Path) -> Dataset:
    """As `open_pictures`, but attributes of datasets that have the name of a column of a Gallery are renamed, as the
    Gallery that lists them has such columns of its own: `style` becomes `given_style`. Raises DatasetError also if
    there is an attribute of that name already."""
    return open_datasets(paths, _open_renamed)


def _open_renamed(path: Path) -> Dataset:
    dataset = _open_folder_or_zip(path)
    if (path / TABLE).is_file():
        return dataset
    taken = [name for name in dataset.attributes if name in (*UNTAGGED, *MEASUREMENTS)]
    names = {name: f"given_{name}" for name in taken}
    if twice := next((name for name in taken if names[name] in dataset.attributes), None):
        why = f"in a gallery, the column {twice} becomes {names[twice]}, which is there already"
        raise DatasetError(f"{path}: {why}; rename one of them")
    dataset.attributes = {names.get(name, name): column for name, column in dataset.attributes.items()}
    return dataset


def _open_folder_or_zip(path: Path) -> Dataset:
    if not (path / TABLE).is_file():
        return open_dataset(path)
    rows: Sequence[dict[str, str]] = read_gallery(path)
    if not rows:
        raise DatasetError(f"{path}: has no pictures: its {TABLE} lists none; give another gallery or folder")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    names = columns.pop("file_name")
    if any((path / name).is_file() for name in READERS if name != TABLE):
        _add_labels(columns, names, open_dataset(path))
    return Dataset(path, Folder(path), names, columns)


def _add_labels(columns: dict[str, list[str]], names: Sequence[str], labelled: Dataset) -> None:
    """Adds the attributes that `kyara tag` or a person gave the pictures of a gallery afterwards. For a picture that
    both tables list, they take precedence; an empty cell only if a person could not tell."""
    places = {normalized(name): i for i, name in enumerate(names)}
    added = [name for name in labelled.attributes if name not in UNTAGGED]
    columns |= {name: [""] * len(names) for name in added if name not in columns}
    cannot_tell = {(label.file_name, label.attribute) for label in read_labels(labelled) if not label.value}
    for _, file_name, values in labelled.rows():
        if (i := places.get(normalized(labelled.base + file_name))) is not None:
            at = labelled.find(file_name)
            for name in added:
                value = values.get(name, "")
                if value or (at is not None and (labelled.names[at], name) in cannot_tell):
                    columns[name][i] = value
