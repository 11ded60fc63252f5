"""Starting from what another network has learned."""

from __future__ import annotations

from kyara.models.base import Model


def initialise(model: Model, parent: Model) -> list[str]:
    """Copies every tensor of `parent` that `model` has by the same name and shape, and returns which modules of `model`
    keep fresh values: the new levels of a larger size, say. ValueError if nothing fits."""
    ours, theirs = model.state_dict(), parent.state_dict()
    shared = {name for name, tensor in ours.items() if name in theirs and theirs[name].shape == tensor.shape}
    if not shared:
        raise ValueError(f"--init: a {type(parent).__module__.rsplit('.', 1)[1]} shares no tensor with this model")
    model.load_state_dict({name: theirs[name] for name in shared}, strict=False)
    averages = tuple(f"{average}." for average in model.averages.values())
    return sorted({".".join(name.split(".")[:4]) for name in set(ours) - shared if not name.startswith(averages)})
