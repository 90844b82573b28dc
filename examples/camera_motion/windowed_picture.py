"""A picture that is seen through windows of any size, place and angle."""

from collections.abc import Sequence

import numpy as np
from PIL import Image


class Picture:
    """A photograph or a frame of a film, to be seen through a window of any size, place and angle.

    It keeps halved copies of itself, so that what a large window shows is averaged and not only sampled.

    Args:
        pixels: `(height, width, 3)` uint8.

    Raises:
        ValueError: If `pixels` is of another shape or type.
    """

    def __init__(self, pixels: np.ndarray):
        pixels = np.asarray(pixels)
        if pixels.ndim != 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
            raise ValueError(
                f"A picture is (height, width, 3) uint8, received {pixels.shape} {pixels.dtype}; "
                "convert('RGB') the image, or scale floats to 0-255 first."
            )
        self.height, self.width = pixels.shape[:2]
        self._levels = [Image.fromarray(np.ascontiguousarray(pixels))]
        while min(self._levels[-1].size) >= 64:
            self._levels.append(self._levels[-1].reduce(2))

    def window(self, centre: Sequence[float], side: float, angle: float = 0.0, size: int = 64) -> Image.Image:
        """Render what a square window shows.

        Args:
            centre: `(x, y)` of its centre in pixels of the picture, from the upper left corner.
            side: Length of its side in pixels of the picture.
            angle: Its clockwise rotation in radians, 0 by default.
            size: Side of the view in pixels, 64 by default.

        Returns:
            A PIL image of `size` by `size`; what lies outside the picture is black.
        """
        level = int(np.clip(np.floor(np.log2(side / size) + 0.25), 0, len(self._levels) - 1))
        shrink = 2.0**level
        cos, sin = np.cos(angle) * side / size / shrink, np.sin(angle) * side / size / shrink
        x, y, half = centre[0] / shrink, centre[1] / shrink, size / 2
        matrix = (cos, -sin, x - half * (cos - sin), sin, cos, y - half * (sin + cos))
        return self._levels[level].transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
