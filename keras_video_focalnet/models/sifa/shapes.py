"""What clips both architectures take."""

TUBELET = 4
"""Frames that the stem merges."""


def check_tubelets(shape: tuple[int | None, int, int, int], least_frames: int) -> tuple[int | None, int, int, int]:
    """Check that a clip has frames enough for a tubelet to attend to the next one, and return its shape."""
    frames = shape[0]
    if frames is not None and frames < least_frames:
        raise ValueError(
            f"input_shape has {frames} frames, of which {TUBELET} make one that attends to the next; pass at least "
            f"{least_frames} frames."
        )
    return shape
