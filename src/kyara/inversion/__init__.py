"""GAN inversion, and drawing characters from the latents of photos."""
