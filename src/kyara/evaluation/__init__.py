"""How good pictures are: features, the scores made of them, and models side by side."""
