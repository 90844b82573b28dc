"""What a network looks at: modulators, gates, attention and Grad-CAM on frames, and videos with the answer drawn in."""
