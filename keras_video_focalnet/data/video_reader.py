"""`VideoReader`: one open video, of which any frames can be read in any order, any number of times."""

import itertools
import pickle
import threading
from collections.abc import Callable, Iterator

import numpy as np

from keras_video_focalnet.data.damage import naming
from keras_video_focalnet.data.frame_folder import FrameFolder, is_frame_folder
from keras_video_focalnet.data.in_order import iterate_frames, parts_follow
from keras_video_focalnet.data.indexed_frames import IndexedDecoder, IndexedFrames, InexactError
from keras_video_focalnet.data.kept_indices import index_of
from keras_video_focalnet.data.ordered_frames import OrderedFrames
from keras_video_focalnet.data.sampling import Indices, check_indices
from keras_video_focalnet.data.video import (
    DEFAULT_RATE,
    check_window,
    no_frames_error,
    open_video,
    upright_rgb,
)
from keras_video_focalnet.data.video_file import VideoPath, check_path, is_stream
from keras_video_focalnet.utils.checks import check_integer, check_number

Transform = Callable[[np.ndarray], np.ndarray]


class VideoReader:
    """The frames of a video file, or of a folder of pictures, upright, in red, green and blue.

    The file is opened when the reader is made. Where its frames lie is learnt once, when the first frame is asked for,
    by a pass over its packets that decodes nothing; the next reader of the file in this process takes it from there,
    unless the file, its times or a sample of its bytes, was changed. A read decodes only what its frames need, from the
    nearest key frame before each, and goes on from the last read where that is near; recent frames are held, so that
    windows that overlap decode no frame twice. What is read equals what decoding everything gives.

    Of some files the packets do not tell where the frames lie (MPEG-2, interlaced or raw H.264, damaged files, ...).
    They are decoded in order: reads that go forward decode each frame once, a read that goes back begins anew, and
    `len`, `times` and `duration` decode the whole file once.

    Of a damaged file a position is that of the frame among those that a decoder from the beginning shows, whatever else
    is asked for; a warning tells once for each file how much was lost. A packet of VP9 or AV1 that does not decode
    shows the frame before it again, as does one of H.264, HEVC or MPEG-4 that tells its time; other packets that do not
    decode give no frame. (Where the index of a file is wrong in a way that its packets do not tell, `len` and
    `times` may still say what the index says, until damage is met. FFmpeg's decoder of HEVC may leave part of a damaged
    picture as memory was, without a word: that part may differ from one reading to the next.)

    Frames are read as players show them, with square pixels: where a file says that its pixels are oblong, its frames
    are made wider or taller (if by less than 1 %, they are left as they are). Two things are left as they are stored:
    the two fields of an interlaced frame are not taken apart, and the colours of HDR video (PQ, HLG) are not made those
    of SDR; a warning tells of either once for each file.

    A file is taken for what it holds, whatever it is called, and nothing else is opened: playlists, lists of other
    files and addresses are refused. Pictures may have 4096 x 2160 pixels, or 8 for every byte of the file and 2^25 (8K)
    at most; 10 for every 8 bytes if those are more. Of H.264 and HEVC also the pictures count that a decoder holds for
    others to refer to: in a file below 10 MiB they may take 256 MiB, which those of 4K in 10 bits with more than three
    references exceed.

    In a folder the files `img_00001.jpg` and so on (JPEG, PNG, WebP, BMP; any name that ends with a number) are the
    frames, in the order of their numbers.

    Several threads may use a reader; they take turns. A pickled reader opens the file again where it is unpickled, when
    it is first used there. `with VideoReader(path) as reader:` closes the file at the end.

    Args:
        path: Video file or folder of frames: text, bytes or a path object, `~` is expanded; or a binary stream that can
            be sought, such as `io.BytesIO` or an open file, which is read from its beginning and left open. A reader
            of a stream cannot be pickled.
        threads: Number of threads that decode, 1 or more; None for one a core. Worker processes side by side want 1.
        cache_frames: How many decoded frames are held for later reads, 0 or more; windows that overlap want at least as
            many as a window spans. Large frames are fewer, so that they take no more than 256 MiB.
        fps: Number > 0, frames a second of a folder of frames; None for 25. A file tells its own.

    Attributes:
        path: As above, with `~` expanded and bytes as text.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The system does not let us read it.
        ValueError: The path is an address or a folder without frames; the file is empty, not a video of a format that
            is taken, claims more than its size allows, or has no video stream; or another argument is out of range.

    Example:
        >>> reader = VideoReader("bikes.mp4")
        >>> len(reader), reader.fps, reader.duration, reader.size
        (250, 25.0, 10.0, (272, 640))
        >>> reader.read([0, 100, 0]).shape
        (3, 272, 640, 3)
        >>> reader.read_between(2.0, 2.5).shape
        (13, 272, 640, 3)
        >>> [block.shape[0] for block in reader.blocks(frames=100)]
        [100, 100, 50]
        >>> reader.close()
    """

    def __init__(self, path: VideoPath, threads: int | None = None, cache_frames: int = 128, fps: float | None = None):
        if threads is not None:
            threads = check_integer("threads", threads, minimum=1, remedy="pass None for one a core")
        cache_frames = check_integer("cache_frames", cache_frames, minimum=0, remedy="pass 0 to hold no frame")
        if fps is not None:
            fps = check_number("fps", fps, above=0, remedy="pass None for 25")
        self.__setstate__({"path": check_path(path), "threads": threads, "cache_frames": cache_frames, "fps": fps})
        self._read_header()

    def __getstate__(self):
        if is_stream(self.path):
            raise pickle.PicklingError(
                f"The VideoReader of {self.path} reads a stream, which only this process has; pass the path of a file."
            )
        return {
            "path": self.path,
            "threads": self._threads,
            "cache_frames": self._cache_frames,
            "fps": self._fps,
        }

    def __setstate__(self, state):
        self.path = state["path"]
        self._threads = state["threads"]
        self._cache_frames = state["cache_frames"]
        self._fps = state["fps"]
        self._lock = threading.RLock()
        self._closed = False
        # An open file of which nothing has been read.
        self._unused = None
        self._frames = None
        self._header = None
        self._parts_follow = None
        self._size = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Close the file; reading from it raises ValueError from then on."""
        with self._lock:
            self._closed = True
            for opened in (self._unused, self._frames):
                if opened is not None:
                    opened.close()
            self._unused = self._frames = None

    def __repr__(self):
        return f"<VideoReader: {self.path}{' (closed)' if self._closed else ''}>"

    def __len__(self):
        """Number of frames, exact; see the class for files of which this decodes everything."""
        return len(self._times())

    @property
    def times(self) -> np.ndarray:
        """Seconds from the beginning at which each frame is shown, float64 of shape `(len(reader),)`, ascending."""
        return np.array(self._times())

    @property
    def fps(self) -> float:
        """Frames a second on average, as the file says; 25.0 where it does not say. Of a folder as `fps` says."""
        return self._read_header().rate or DEFAULT_RATE

    @property
    def duration(self) -> float:
        """Seconds from the beginning to the end of the last frame, which is taken to be shown for `1 / fps`."""
        return self._times()[-1] + 1 / self.fps

    @property
    def stated_duration(self) -> float | None:
        """Seconds that the file says it has, which need not be true; None where it does not say. Nothing is decoded."""
        header = self._read_header()
        return header.frames / self.fps if header.frames else None

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` in pixels of the first frame, upright."""
        with self._lock:
            self._check_open()
            if self._size is None:
                self._size = self.read([0]).shape[1:3]
            return self._size

    def read(
        self,
        indices: Indices | None = None,
        transform: Transform | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> np.ndarray:
        """Read frames by their number.

        Args:
            indices: Which frames, integers of 0 or more in any order, repeats allowed, counted from `start`; or a
                function that receives the number of frames and returns such integers. Where a file is wrong about its
                number of frames the function is called again with another, never twice with one. None takes all,
                decoded in order.
            transform: Function of a picture, uint8 `(height, width, 3)`, that is applied to each frame as it is
                decoded, so that only what it returns is kept: one that makes it small saves memory. None keeps it.
            start: Seconds from the beginning at which to begin; None for the beginning.
            end: Seconds from the beginning before which to stop; None for the end.

        Returns:
            uint8 array of shape `(frames, height, width, 3)`, red, green, blue, 0 to 255, upright; or what `transform`
            makes of the frames, stacked.

        Raises:
            ValueError: An index is negative or beyond the last frame, no frame lies between `start` and `end`, the
                frames differ in size, no frame can be decoded, or the reader is closed.
        """
        check_window(start, end)
        if indices is not None:
            return self._stack(self._pictures(check_indices(indices), transform, start, end))
        pictures = list(self._iterate(transform, start, end))
        # Where there is nothing, that tells why.
        return self._stack(pictures or self._pictures(None, transform, start, end))

    def read_between(
        self, start: float | None = None, end: float | None = None, transform: Transform | None = None
    ) -> np.ndarray:
        """Read the frames that are shown with `start <= time < end`.

        Args:
            start: Seconds from the beginning; None for the beginning.
            end: Seconds from the beginning; None for the end.
            transform: As for `read`.

        Returns:
            As `read`.

        Raises:
            ValueError: As for `read`.
        """
        check_window(start, end)
        return self._stack(self._pictures(None, transform, start, end))

    def blocks(
        self, frames: int = 64, transform: Transform | None = None, start: float | None = None, end: float | None = None
    ) -> Iterator[np.ndarray]:
        """All frames in order, a block at a time: each is decoded once, and no more than a block is in memory.

        Args:
            frames: Frames in a block, 1 or more; the last block may have fewer.
            transform: As for `read`.
            start: As for `read`.
            end: As for `read`.

        Returns:
            Iterator of uint8 arrays of shape `(frames, height, width, 3)`, empty where there is no frame.

        Raises:
            ValueError: As for `read`.
        """
        frames = check_integer("frames", frames, minimum=1, remedy="pass the number of frames in a block, such as 64")
        check_window(start, end)
        self._check_open()
        pictures = self._iterate(transform, start, end)
        return map(self._stack, iter(lambda: list(itertools.islice(pictures, frames)), []))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each frame in order, decoded once, uint8 `(height, width, 3)`. (`list(reader)` asks for `len` first.)"""
        return self._iterate(None, None, None)

    def timed(self, start: float | None = None, end: float | None = None) -> Iterator[tuple[float, np.ndarray]]:
        """Each frame in order with the time that it is shown at; each is decoded once, and one is in memory.

        Args:
            start: As for `read`.
            end: As for `read`.

        Returns:
            Iterator of pairs: seconds from the beginning, which never go back, and the picture, uint8
            `(height, width, 3)`.

        Raises:
            ValueError: As for `read`.

        Example:
            >>> with VideoReader("bikes.mp4") as reader:
            ...     [(seconds, picture.shape) for seconds, picture in reader.timed(9.92)]
            [(9.92, (272, 640, 3)), (9.96, (272, 640, 3))]
        """
        check_window(start, end)
        return self._timed(start, end)

    def _iterate(self, transform, start, end):
        """The pictures in order."""
        for _, picture in self._timed(start, end):
            yield picture if transform is None else transform(picture)

    def _timed(self, start, end):
        """`(seconds, picture)` in order. They come of an opening of their own: reads between them do no harm."""
        self._check_open()
        with self._lock:
            folder = self._source() if self._is_folder() else None
        pictures = self._decoded(start, end) if folder is None else folder.iterate(start, end)
        while True:
            with naming(self.path):
                item = next(pictures, None)
            if item is None:
                return
            self._check_open()
            yield item

    def _decoded(self, start, end):
        """The seconds and the upright pictures between two times, decoded in order."""
        for seconds, frame in iterate_frames(self._open, start, end, self._may_seek):
            yield seconds, upright_rgb(frame, self._read_header().pixel_aspect)

    def _may_seek(self):
        """Whether frames may be decoded from a key frame on; known once a reader has read all packets for it."""
        if self._parts_follow is None and isinstance(self._frames, IndexedFrames):
            self._parts_follow = self._frames.in_parts()
        elif self._parts_follow is None:
            self._parts_follow = self._read_header().indexed and parts_follow(self._open)
        return self._parts_follow

    def _is_folder(self):
        return not is_stream(self.path) and is_frame_folder(self.path)

    def _check_open(self):
        if self._closed:
            raise ValueError(f"The reader of {self.path} is closed; make a new VideoReader to read on.")

    def _read_header(self):
        """What the file says of itself."""
        with self._lock:
            self._check_open()
            if self._header is None and self._is_folder():
                self._header = self._source().header
            elif self._header is None:
                self._unused = self._open()
            return self._header

    def _open(self):
        """The open file, of which nothing has been read: that of the last opening, or else it is opened anew."""
        with self._lock:
            self._check_open()
            video, self._unused = self._unused or open_video(self.path, self._threads), None
            self._header = self._header or video.header
            return video

    def _source(self):
        """Where pictures come from: by the index, or in order where the packets do not tell where the frames lie."""
        self._check_open()
        if self._frames is None and self._is_folder():
            self._frames = FrameFolder(self.path, self._fps)
        if self._frames is None:
            video = self._open()
            index = index_of(video)
            if index is None:
                video.close()
                self._read_in_order()
            else:
                self._frames = IndexedFrames(self.path, IndexedDecoder(video, index), self._cache_frames)
        return self._frames

    def _read_in_order(self):
        """Decode in order from here on."""
        if self._frames is not None:
            self._frames.close()
        self._frames = OrderedFrames(self.path, self._open, self._read_header(), self._cache_frames, self._may_seek)

    def _times(self):
        """Seconds of all frames, at least one."""
        with self._lock, naming(self.path):
            times = self._source().times()
        if not times:
            raise no_frames_error(self.path, times)
        return times

    def _pictures(self, indices, transform, start, end):
        """The pictures of some frames between two times, a list; None takes all of them."""
        with self._lock, naming(self.path):
            try:
                return self._source().pictures(indices, transform, start, end)
            except InexactError:
                self._read_in_order()
            return self._source().pictures(indices, transform, start, end)

    def _stack(self, pictures):
        """The pictures as one array."""
        if len({picture.shape for picture in pictures}) > 1:
            raise ValueError(
                f"The frames of {self.path} differ in size; pass indices (or start and end) of one size alone."
            )
        return np.stack(pictures)
