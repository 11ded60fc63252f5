"""What pictures show: labels, and who or what gave them."""
