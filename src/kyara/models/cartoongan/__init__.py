"""CartoonGAN and its variants: translation of photos to drawings."""

from kyara.models.cartoongan.config import PRESETS, Config
from kyara.models.cartoongan.model import Model

__all__ = ["PRESETS", "Config", "Model"]
