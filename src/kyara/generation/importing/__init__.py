"""Imports StyleGAN2 files of other programs: reads them as data (container, unpickle, values), maps names (layout,
nvidia, rosinality), and converts them (convert)."""
