"""Starting from what another network has learned."""

from __future__ import annotations

from kyara.models.base import Model

LABEL_PARTS = {"labels", "heads"}
"""What architectures call the modules that hold a row for each label."""


def initialise(model: Model, parent: Model) -> list[str]:
    """Copies every tensor of `parent` that `model` has by the same name and shape, and returns which modules of `model`
    keep fresh values: the new levels of a larger size, say. ValueError if nothing fits.

    What a parent learned about other attributes is left behind: a label would mean something else. Where labels
    are no parts of their own there is nothing to leave behind, and another set of attributes is a ValueError."""
    ours, theirs = model.state_dict(), parent.state_dict()
    if parent.config.attributes and dict(parent.config.attributes) != dict(model.config.attributes):
        if model.attributed == "must":
            raise ValueError("--init: it learned other attributes or values; give one that learned the same")
        theirs = {name: tensor for name, tensor in theirs.items() if not LABEL_PARTS & set(name.split("."))}
    shared = {name for name, tensor in ours.items() if name in theirs and theirs[name].shape == tensor.shape}
    if not shared:
        raise ValueError(f"--init: a {type(parent).__module__.rsplit('.', 1)[1]} shares no tensor with this model")
    model.load_state_dict({name: theirs[name] for name in shared}, strict=False)
    averages = tuple(f"{average}." for average in model.averages.values())
    return sorted({".".join(name.split(".")[:4]) for name in set(ours) - shared if not name.startswith(averages)})
