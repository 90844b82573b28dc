"""What `visualize` gives: maps, the frames that they belong to, and both as a picture or a video."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from keras_video_focalnet.utils.checks import check_fraction, check_number
from keras_video_focalnet.visualization import drawing, files

GRAD_CAM = "grad-cam"
FPS = 4.0
"""Frames a second of a GIF or MP4: the frames of a clip may lie seconds apart."""
COLUMNS = 8
"""Frames side by side in a PNG or JPEG at most."""


@dataclass(frozen=True)
class Visualization:
    """Maps of a block of a network, and the frames that they belong to.

    Attributes:
        frames: uint8 `(frames, height, width, 3)`.
        maps: Dict from the name of each map to float32 `(frames, height, width)`: of tokens and modulators the lengths
            of their vectors; of gates each one's own value; of attention the mean strength; of offsets their mean
            length in places; of Grad-CAM what speaks for the class. Not a number in frames that are not told of.
        grids: Dict from the name of what was asked for to what the block computed, float32 `(grid_frames, grid_height,
            grid_width, channels)`.
        block: Name of the block.
        target: Name or number of the class that Grad-CAM is of; None where there is no Grad-CAM.
    """

    frames: np.ndarray
    maps: Mapping[str, np.ndarray]
    grids: Mapping[str, np.ndarray]
    block: str
    target: str | None = None

    def overlays(self, strength: float = drawing.STRENGTH) -> dict[str, np.ndarray]:
        """Draw each map over the frames.

        Args:
            strength: How much of a pixel the colour of a map's greatest value takes, 0 to 1, by default 0.65. The
                least value leaves the frame as it is.

        Returns:
            Dict from the name of each map to uint8 `(frames, height, width, 3)`.
        """
        check_fraction("strength", strength)
        return {name: drawing.overlay(self.frames, values, strength) for name, values in self.maps.items()}

    def save(self, path: str | os.PathLike, fps: float = FPS, strength: float = drawing.STRENGTH) -> None:
        """Write the overlays as a picture or a video, by the ending of the file.

        A `.png` or `.jpg` has a row for the frames and one for each map, with at most 8 frames evenly apart; a `.gif`
        or `.mp4` has all frames one after the other, with the maps beside them. The file takes its name once all of it
        is written.

        Args:
            path: File that ends in `.png`, `.jpg`, `.jpeg`, `.gif` or `.mp4`.
            fps: Frames a second of a GIF or MP4, 0.01 to 100, by default 4; a GIF shows each frame for whole hundredths
                of a second.
            strength: As for `overlays`.

        Raises:
            ValueError: The file has another ending, or another argument is out of its range.
            OSError: The file cannot be written.
        """
        path = files.check_suffix("path", path, files.STILL + files.GIF + files.VIDEO)
        fps = check_number("fps", fps, minimum=0.01, maximum=100)
        rows = {"frames": self.frames, **self.overlays(strength)}
        if path.suffix.lower() in files.STILL:
            files.write_still(path, self._sheet(rows))
            return
        write = files.write_gif if path.suffix.lower() in files.GIF else files.write_video
        write(path, list(self._moments(rows)), fps)

    def title(self, name: str) -> str:
        """What a row of pictures is called: the map and its block, and the class that Grad-CAM is of."""
        if name not in self.maps:
            return name
        of_class = f" of {self.target!r}" if name == GRAD_CAM else ""
        return f"{name}{of_class}, {self.block}"

    def _sheet(self, rows):
        """A row for the frames and each map, under its title."""
        count = len(self.frames)
        columns = min(count, COLUMNS)
        chosen = [(2 * column + 1) * count // (2 * columns) for column in range(columns)]
        parts = []
        for name, pictures in rows.items():
            row = drawing.side_by_side([pictures[frame] for frame in chosen])
            parts += [drawing.text_strip(self.title(name), row.shape[1]), row]
        return drawing.one_above_the_other(parts)

    def _moments(self, rows) -> Iterator[np.ndarray]:
        """Each frame with the maps beside it, each under its name."""
        width = self.frames.shape[2]
        heads = [drawing.text_strip(name, width) for name in rows]
        for frame in range(len(self.frames)):
            panels = [
                drawing.one_above_the_other([head, pictures[frame]])
                for head, pictures in zip(heads, rows.values(), strict=True)
            ]
            yield drawing.side_by_side(panels)
