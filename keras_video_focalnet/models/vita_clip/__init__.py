"""Vita-CLIP (Wasim et al., CVPR 2023)."""
