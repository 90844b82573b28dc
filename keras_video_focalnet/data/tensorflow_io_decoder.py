"""tensorflow-io as the decoder, for whoever has an environment in which it loads."""

import contextlib

import numpy as np

from keras_video_focalnet.data.video import open_video
from keras_video_focalnet.data.video_file import VideoPath


def decode_with_tensorflow_io(path: VideoPath, start: None = None, end: None = None) -> np.ndarray:
    """Decode all frames of a video file to uint8 `(frames, height, width, 3)`, not turned upright.

    The last release of that package, 0.37.1, was built for TensorFlow 2.16, and its video operation loads FFmpeg 4.
    Beside the TensorFlow that this package needs it does not load: what lies behind the import follows its
    documentation and has not been run.
    """
    if start is not None or end is not None:
        raise ValueError(f'decoder="tensorflow-io" gives no times, received start={start}, end={end}; use "pyav".')
    # PyAV tells whether it is of a format that opens no other file. TensorFlow would take a name for an address.
    with contextlib.closing(open_video(path)) as video:
        video.data.seek(0)
        data = video.data.read()
    # It raises NotImplementedError, some of it only at the first call, where its libraries do not load.
    try:
        import tensorflow as tf
        import tensorflow_io as tfio

        frames = tfio.experimental.ffmpeg.decode_video(tf.constant(data)).numpy()
    except (ImportError, NotImplementedError) as error:
        raise ImportError(
            'decoder="tensorflow-io" needs tensorflow-io 0.37.1, TensorFlow 2.16 and the libraries of FFmpeg 4; '
            f'here it fails ({error}). Install those, or use decoder="pyav".'
        ) from error
    except tf.errors.OpError as error:
        raise ValueError(f"{path} is not a video that tensorflow-io can read ({error.message}).") from error
    if not len(frames):
        raise ValueError(f"{path} has no frame that tensorflow-io can decode; it is damaged or holds no video.")
    return frames
