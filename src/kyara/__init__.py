"""Kyara: train a GAN on a folder of drawn faces, and generate new ones.

The verbs are functions, each imported lazily on first access, so `import kyara` is fast."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

VERBS = {
    "prepare": ("kyara.preparation.prepare", "art or photos -> a dataset to train on"),
    "tag": ("kyara.labels.tag", "pictures -> their unknown attributes"),
    "train": ("kyara.training.train", "a dataset -> a generator, translator or classifier"),
    "generate": ("kyara.generation.generate", "a generator -> a ranked gallery of new faces"),
    "avatar": ("kyara.inversion.avatar", "photos of people -> drawn characters"),
    "invert": ("kyara.inversion.invert", "pictures -> the latents that reproduce them"),
    "translate": ("kyara.generation.translate", "photos -> drawings, drawings -> larger ones, holes -> filled"),
    "rewrite": ("kyara.rewriting.rewrite", "a generator and a few edited examples -> an edited generator"),
    "rank": ("kyara.curation.rank", "any pictures -> a gallery, best first"),
    "evaluate": ("kyara.evaluation.evaluate", "pictures or a generator -> scores against real pictures"),
    "compare": ("kyara.evaluation.compare", "trained models -> one page, side by side"),
    "export": ("kyara.generation.exporting.export", "a model -> an ONNX file, or a page that runs in a browser"),
    "import": ("kyara.generation.importing.import_", "a StyleGAN2 checkpoint of another program -> a generator"),
    "studio": ("kyara.app.studio", "all of it in the browser"),
}
"""Verb -> module that defines the function of that name, and a summary. `import` is a Python keyword, so its
function is `import_`."""

__all__ = [
    "avatar", "compare", "evaluate", "export", "generate", "import_", "invert", "load", "prepare", "rank", "rewrite",
    "studio", "tag", "train", "translate",
]  # fmt: skip

if TYPE_CHECKING:
    from kyara.app.studio import studio
    from kyara.curation.rank import rank
    from kyara.evaluation.compare import compare
    from kyara.evaluation.evaluate import evaluate
    from kyara.generation.exporting.export import export
    from kyara.generation.generate import generate
    from kyara.generation.importing.import_ import import_
    from kyara.generation.translate import translate
    from kyara.inversion.avatar import avatar
    from kyara.inversion.invert import invert
    from kyara.labels.tag import tag
    from kyara.models import load
    from kyara.preparation.prepare import prepare
    from kyara.rewriting.rewrite import rewrite
    from kyara.training.train import train


def __getattr__(name: str) -> Any:
    if name == "load":
        return import_module("kyara.models").load
    verb = "import" if name == "import_" else name
    if verb in VERBS:
        return getattr(import_module(VERBS[verb][0]), "import_" if verb == "import" else verb)
    raise AttributeError(f"module 'kyara' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
