"""StyleGAN2 files of other programs: read as data (container, unpickle, values), recognised and renamed (layout,
nvidia, rosinality), and converted (convert)."""
