"""StyleGAN2 files of other programs: read as data (unpickle, container), told apart and renamed (layout, nvidia,
rosinality), made into what a Checkpoint holds (convert)."""
