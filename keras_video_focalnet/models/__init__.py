"""The architectures: what all of them share, and one folder a family."""
