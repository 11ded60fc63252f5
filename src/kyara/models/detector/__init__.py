"""Face detector: boxes and five points of the faces in whole illustrations and photos.

A single-shot, anchor-free network (`perception.face_network`), trained like YOLOX (Ge et al. 2021) and YuNet (Wu et al.
2023): SimOTA assigns cells to faces. Pictures are cropped at random scales and angles, four of them joined (mosaic),
and restyled, so that faces are found in drawings that look like none of the training data."""

from kyara.models.detector.model import Model

__all__ = ["Model"]
