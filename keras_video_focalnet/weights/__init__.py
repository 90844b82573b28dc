"""Everything between a file of numbers and a built model."""
