"""From class scores to predictions that a person reads."""
