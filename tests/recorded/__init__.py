"""What every verb made before a change, recorded to the bit."""
