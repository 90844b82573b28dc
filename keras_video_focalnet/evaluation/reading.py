"""What worker processes do for a library of videos: they read one video after another and tell what became of each.

This imports neither Keras nor a backend.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_video_focalnet.data.broken import failure_reason
from keras_video_focalnet.data.clip_rule import ClipRule
from keras_video_focalnet.data.damage import damage_told
from keras_video_focalnet.data.library import LibraryVideo
from keras_video_focalnet.evaluation.views import Views, read_views


@dataclasses.dataclass(frozen=True)
class Reading:
    """What became of one video.

    Attributes:
        number: The video's place in the library.
        clips: uint8 array of its views, `(views, frames, height, width, 3)`; None where there is nothing to compute.
        about: What else is known, values that JSON can hold: `"broken"`, why it cannot be read; `"damaged"`, what was
            lost of one that was read in spite of damage; and more of other kinds of work.
    """

    number: int
    clips: np.ndarray | None
    about: dict[str, Any]


class ReadViews:
    """Reads the views of each video of a library for a model; a video that cannot be read is told and no error.

    Args:
        videos: The library.
        rule: What the model's clips are.
        views: Which views.
        seed: None, or an integer from which the frames of each video are drawn, whichever process reads it.
    """

    def __init__(self, videos: Sequence[LibraryVideo], rule: ClipRule, views: Views, seed: int | None = None):
        self._videos = videos
        # Pixels travel as they are, and the model's side prepares them.
        self._rule = dataclasses.replace(rule, prepare=None)
        self._views, self._seed = views, seed
        self.shape = (views.count, rule.num_frames, *rule.size, 3)

    def __call__(self, number: int) -> Reading:
        """Read one video by its place in the library."""
        video = self._videos[number]
        seed = None if self._seed is None else (self._seed, number)

        def read():
            # Of a damaged video, what several threads give depends on which is faster; and there are more workers.
            return read_views(video.path, self._rule, self._views, seed, video.start, video.end, threads=1)

        clips, about = told(video, read)
        return Reading(number, clips, about)


def told(video: LibraryVideo, read: Callable[[], Any]) -> tuple[Any, dict[str, str]]:
    """What `read` gives and, as `Reading.about`, what is wrong with the video; None where it cannot be read."""
    try:
        with warnings.catch_warnings():
            # What they tell goes into the table.
            warnings.simplefilter("ignore")
            result = read()
    except ImportError:
        raise
    except Exception as error:  # A damaged video can bring up any, down to a lack of memory.
        return None, {"broken": failure_reason(video.path, error)}
    lost = damage_told(video.path)
    return result, {"damaged": lost} if lost else {}
