"""From class scores to answers."""
