"""Makes a dataset for `kyara train drawing`, and the checkpoint that training starts from.

    python tools/drawing_labels.py photos.zip --out pairs.zip                 (pip install 'kyara[photo]' scipy)
    python tools/drawing_labels.py photos.zip --out contours.zip --no-regions
    python tools/drawing_labels.py --start start

Each picture is a photo with its regions to the right: background black, skin red, hair green, clothes blue. The column
`points` has the contours of MediaPipe's face mesh. Regions: mixtures of Gaussians of the colours of seeds, which are
placed by the mesh and by MediaPipe's selfie segmentation, with terms for the position, smoothed along edges. Pictures
in which no face is found are left out. `--start` writes a checkpoint of `drawing` that begins as builtin:landmarks.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kyara.models.drawing.layout import MESH

SIDE = 144  # pixels of a side at which regions are found
CHEEKS = (117, 118, 50, 187, 205, 36, 142, 126, 6, 355, 371, 266, 425, 411, 280, 347, 346, 351, 168, 122)
CHIN, TOP, LEFT, RIGHT, BROWS = 152, 10, 234, 454, (105, 334)
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
BACKGROUND, SKIN, HAIR, CLOTHES = range(4)


class Labels:
    """The regions of one photo: `lab` (S, S, 3) its smoothed colours, `points` (478, 2) in pixels, `person` (S, S) the
    probability of the selfie segmentation."""

    def __init__(self, photo: np.ndarray, points: np.ndarray, person: np.ndarray) -> None:
        import cv2

        self.cv2 = cv2
        small = cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        self.lab = cv2.cvtColor(cv2.bilateralFilter(small, 5, 30, 3), cv2.COLOR_RGB2LAB).astype(np.float32)
        self.person = cv2.resize(person, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        self.points = points * SIDE
        self.y, self.x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
        self.chin, self.top = self.points[CHIN], self.points[TOP]
        self.tall = np.linalg.norm(self.chin - self.top)
        self.wide = np.linalg.norm(self.points[RIGHT] - self.points[LEFT])
        self.face, self.inner = self.polygon(MESH["oval"]), self.polygon(MESH["oval"], 0.86)
        self.outer, self.core = self.polygon(MESH["oval"], 1.12), self.polygon(MESH["oval"], 0.92)
        self.core &= self.face & (self.y > self.points[list(BROWS), 1].mean())

    def polygon(self, names: tuple[int, ...], grow: float = 1.0) -> np.ndarray:
        at = self.points[list(names)]
        at = at.mean(0) + (at - at.mean(0)) * grow
        made = np.zeros((SIDE, SIDE), np.uint8)
        self.cv2.fillPoly(made, [np.round(at * 16).astype(np.int32)], 255, shift=4)
        return made > 127

    def seeds(self) -> list[np.ndarray]:
        """Pixels (S, S) that surely belong to each region."""
        from scipy import ndimage

        features = self.polygon(MESH["outer lips"], 1.1)
        for side in ("left", "right"):
            features |= self.polygon(MESH[f"{side} eye"], 1.8) | self.polygon(MESH[f"{side} brow"], 1.25)
        skin = self.inner & ~features
        cheeks = self.polygon(CHEEKS) & ~features
        cheeks = cheeks if cheeks.sum() >= 50 else skin
        away = np.sqrt((((self.lab - np.median(self.lab[cheeks], 0)) / (2.2, 1, 1)) ** 2).sum(2))
        skin &= away < max(12, np.percentile(away[cheeks], 92) * 1.25)
        near = self.person > 0.6
        crown = (self.y < self.top[1] - 0.02 * self.tall) & (np.abs(self.x - self.top[0]) < 0.55 * self.wide)
        sides = ~self.outer & (self.y < self.points[[LEFT, RIGHT], 1].mean() - 0.1 * self.tall)
        hair = ndimage.binary_erosion((crown | sides) & near & (away > 14))
        clothes = (self.y > self.chin[1] + 0.32 * self.tall) & near & (away > 14)
        background = ndimage.binary_erosion(self.person < 0.08, iterations=2, border_value=1)
        return [background, skin, hair, clothes]

    def density(self, seed: np.ndarray, components: int) -> np.ndarray:
        """Log density (S, S) of the colours of a seed; -14 if it is too small."""
        samples = self.lab[seed]
        if len(samples) < 40:
            return np.full((SIDE, SIDE), -14.0)
        if len(samples) > 1500:
            samples = samples[np.random.RandomState(0).choice(len(samples), 1500, False)]
        mixture = self.cv2.ml.EM_create()
        mixture.setClustersNumber(components)
        mixture.setTermCriteria((3, 12, 1e-3))
        mixture.trainEM(samples)
        parts = [
            np.log(share + 1e-6) + gaussian(self.lab, mean, covariance + np.diag([14.0, 6.0, 6.0]))
            for share, mean, covariance in zip(
                mixture.getWeights()[0], mixture.getMeans(), mixture.getCovs(), strict=True
            )
        ]
        return np.logaddexp.reduce(parts, 0)

    def scores(self) -> np.ndarray:
        """Logits (4, S, S) from colours, the selfie segmentation and positions."""
        background, skin, hair, clothes = self.seeds()
        shaded = self.lab[skin] * (0.72, 1, 1)
        shade = gaussian(self.lab, shaded.mean(0), np.cov(shaded.T) + np.diag([60.0, 10.0, 10.0])) - 1.2
        parts = [(background, 4), (skin, 3), (hair, 3), (clothes, 3)]
        logits = np.stack([self.density(seed, components) for seed, components in parts])
        logits[SKIN] = np.logaddexp(logits[SKIN], shade)
        logits = np.maximum(logits, -22)
        logits[BACKGROUND] += 1.6 * np.log(1.02 - self.person)
        logits[SKIN:] += 1.6 * np.log(self.person + 0.02)
        return logits + self.positions()

    def positions(self) -> np.ndarray:
        """What the place in the face's frame adds to the logits."""
        below, across = (self.y - self.chin[1]) / self.tall, np.abs(self.x - self.chin[0]) / self.wide
        above = (self.top[1] - self.y) / self.tall
        neck, beside = (across < 0.42) & (below > -0.1) & (below < 0.5), (below > 0.12) & (across > 0.75)
        eyes_down = self.inner & (self.y > self.points[list(BROWS), 1].mean())
        made = np.zeros((4, SIDE, SIDE))
        made[SKIN] = np.where(self.face, 2.5, np.where(self.outer, 0, -1)) + 2.0 * neck + 8.0 * self.core
        made[SKIN] -= 2.0 * (above > 0) + 1.5 * (above > 0.12) + 1.5 * ((below > 0.03) & ~neck)
        made[HAIR] = 1.5 * ((above > 0) & ~self.face) - 5.0 * eyes_down - 2.5 * neck - 2.5 * beside
        made[HAIR] -= 4 * np.clip((below - 0.35) / 0.5, 0, 1) * np.clip(across, 0, 1) + 1.5 * (below > 0.38)
        made[CLOTHES] = 2.0 * (below > 0.25) + 1.5 * beside - 6.0 * (below < -0.02) - 8.0 * self.face
        return made

    def regions(self) -> np.ndarray:
        """The region of each pixel (S, S)."""
        from scipy import ndimage

        logits = self.scores()
        for _ in range(4):
            shares = np.exp((logits - logits.max(0)) / 2.5)
            shares /= shares.sum(0)
            smooth = [
                self.cv2.ximgproc.jointBilateralFilter(self.lab / 255.0, share.astype(np.float32), 7, 0.06, 2.2)
                for share in shares
            ]
            shares = np.clip(np.stack(smooth), 1e-5, 1)
            logits = logits * 0.55 + 1.98 * np.log(shares)
        found = shares.argmax(0)
        around = ndimage.binary_dilation(self.outer, iterations=5) & ~self.inner
        for region, seed in ((SKIN, self.core), (HAIR, around)):  # skin touches the face, and hair the head
            parts, _ = ndimage.label(found == region)
            lost = (found == region) & ~np.isin(parts, np.unique(parts[seed & (found == region)]))
            found[lost] = second(shares, region)[lost]
        for region in range(4):
            parts, count = ndimage.label(found == region)
            for i in np.flatnonzero(np.bincount(parts.ravel(), minlength=count + 1) < 25):
                if i:
                    speck = parts == i
                    found[speck] = np.bincount(second(shares, region)[speck]).argmax()
        return found


def gaussian(lab: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Log density (S, S) of colours, without the constant."""
    off = lab - mean
    return -0.5 * ((off @ np.linalg.inv(covariance)) * off).sum(2) - 0.5 * np.log(np.linalg.det(covariance))


def second(shares: np.ndarray, region: int) -> np.ndarray:
    """The best region of each pixel other than one."""
    others = shares.copy()
    others[region] = 0
    return others.argmax(0)


class MediaPipe:
    """The face mesh with irises, and the selfie segmentation."""

    def __init__(self) -> None:
        from mediapipe.python import solutions

        self.mesh: Any = solutions.face_mesh.FaceMesh(
            static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.2
        )
        self.selfie: Any = solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)

    def __call__(self, photo: Image.Image) -> tuple[np.ndarray, np.ndarray] | None:
        """Points (478, 2), as fractions of the sides, and the person's probability (H, W); None without a face."""
        enlarged = np.asarray(photo.resize((512, 512), Image.Resampling.BICUBIC))
        faces = self.mesh.process(enlarged).multi_face_landmarks
        if not faces:
            return None
        person = self.selfie.process(np.asarray(photo)).segmentation_mask
        return np.array([(point.x, point.y) for point in faces[0].landmark]), np.clip(person, 0, 1)


def write_pairs(source: Path, out: Path, side: int, regions: bool) -> str:
    """Writes the dataset, and says how many of the photos are in it."""
    find, order = MediaPipe(), [i for part in MESH.values() for i in part]
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["file_name", "points"])
    count = 0
    with zipfile.ZipFile(source) as photos, zipfile.ZipFile(out, "w") as made:
        names = sorted(n for n in photos.namelist() if n.endswith((".png", ".webp", ".jpg")) and "sheet" not in n)
        for name in names:
            photo = (
                Image.open(io.BytesIO(photos.read(name))).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
            )
            if (found := find(photo)) is None:
                continue
            points, person = found
            right = np.zeros((side, side, 3), np.uint8)
            if regions:
                labels = COLOURS[Labels(np.asarray(photo), points, person.astype(np.float32)).regions()]
                right = np.asarray(Image.fromarray(labels).resize((side, side), Image.Resampling.NEAREST))
            left = np.asarray(photo.resize((side, side), Image.Resampling.BOX))
            buffer = io.BytesIO()
            Image.fromarray(np.concatenate([left, right], 1)).save(buffer, "PNG", compress_level=1)
            file_name = f"images/{Path(name).stem}.png"
            made.writestr(file_name, buffer.getvalue())
            rows.writerow([file_name, " ".join(f"{x:.5f}" for x in (points[order] * (0.5, 1)).flatten())])
            count += 1
        made.writestr("metadata.csv", table.getvalue())
    return f"{out}: {count} of {len(names)}"


def write_start(out: Path) -> str:
    """Writes a checkpoint of `drawing` whose hourglasses are that of builtin:landmarks, without its last layer."""
    import torch

    from kyara import models
    from kyara.files import checkpoint
    from kyara.models.drawing import Model

    torch.manual_seed(0)
    model = Model(Model.presets["two-core"])
    weights = checkpoint.read("builtin:landmarks").weights()
    trunk = {name.removeprefix("net_ema."): t.float() for name, t in weights.items() if name.startswith("net_ema.")}
    trunk = {name: tensor for name, tensor in trunk.items() if not name.startswith("top.1.")}
    for network in (model.points_ema, model.regions_ema.trunk):
        network.load_state_dict(trunk, strict=False)
    config = dataclasses.asdict(model.config)
    about: dict[str, Any] = {"kimg": 0, "scores": {}, "data": {}}
    checkpoint.write(out, model="drawing", config=config, weights=models.stored(model), card="", about=about)
    return f"{out}: a checkpoint to start from"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", help="a .zip with square photos of faces")
    parser.add_argument("--out", type=Path, help="the dataset")
    parser.add_argument("--side", type=int, default=256, help="pixels of a side of the photos that are written")
    parser.add_argument("--no-regions", action="store_true", help="leave the right halves black")
    parser.add_argument("--start", type=Path, help="write the checkpoint instead")
    options = parser.parse_args()
    if options.start:
        print(write_start(options.start))
    elif options.photos and options.out:
        print(write_pairs(options.photos, options.out, options.side, not options.no_regions))
    else:
        parser.error("give photos and --out, or --start")


if __name__ == "__main__":
    main()
