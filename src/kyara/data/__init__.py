"""Pictures and datasets: read safely, in order, and distorted on purpose."""
