"""tensorflow-io as the decoder, for whoever has an environment in which it loads."""

from keras_video_focalnet.data.video import check_file


def decode_with_tensorflow_io(path, start=None, end=None):
    """Decode a whole video file with tensorflow-io.

    The last release of that package, 0.37.1, was built for TensorFlow 2.16, and its video operation loads FFmpeg 4.
    Beside the TensorFlow that this package needs it does not load: what lies behind the import follows its
    documentation and has not been run.

    Args:
        path: Video file, a string or `pathlib.Path`.
        start: Must be None: tensorflow-io gives no times.
        end: Must be None.

    Returns:
        uint8 array of shape `(frames, height, width, 3)`, red, green, blue, 0 to 255, not turned upright.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: `start` or `end` is given, or the file cannot be decoded; the message names it.
        ImportError: tensorflow-io does not load.
    """
    if start is not None or end is not None:
        raise ValueError(f'decoder="tensorflow-io" gives no times, received start={start}, end={end}; use "pyav".')
    check_file(path)
    # It raises NotImplementedError, some of it only at the first call, where its libraries do not load.
    try:
        import tensorflow as tf
        import tensorflow_io as tfio

        frames = tfio.experimental.ffmpeg.decode_video(tf.io.read_file(str(path))).numpy()
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
