"""CartoonGAN: a family of networks that draw photos."""

from kyara.models.cartoongan.config import PRESETS, Config
from kyara.models.cartoongan.model import Model

__all__ = ["PRESETS", "Config", "Model"]
