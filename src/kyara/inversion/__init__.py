"""From a picture to a latent, and from a latent to a character."""
