"""What a video file claims of itself, added up before FFmpeg acts on it.

Twenty bytes of an MP4 file may claim two thousand million samples of one size, of which FFmpeg then makes an index, and
an edit list shows each of them several times. A PNG's texts may unpack to a thousand times their size.
"""

import zlib

from keras_video_focalnet.data.video_file import VideoBytes, memory_limit

# Bytes that FFmpeg holds for a sample.
BYTES_PER_SAMPLE = 40
# Boxes in which FFmpeg looks for others, tables among them.
PARENTS = {b"moov", b"hoov", b"foov", b"free", b"skip", b"moof", b"trak", b"traf", b"mdia", b"minf", b"stbl", b"edts"}
PARENTS |= {b"udta", b"tref", b"mvex", b"dinf", b"gmhd", b"sinf", b"schi", b"wave", b"ilst", b"iprp", b"ipco", b"iinf"}
# It opens none that lie deeper.
DEEPEST = 10
# Headers may lie among samples, where a list of fragments leads FFmpeg there; larger files are allowed more memory.
LARGEST_OF_SAMPLES = 16 << 20
# Bytes that the compressed headers of a file may unpack to.
MOST_UNPACKED = 8 << 20
# Any file may have as many boxes, a large one a box for every sixteen bytes.
BOXES_OF_ANY = 10_000
PNG = b"\x89PNG\r\n\x1a\n"
# Parts of a PNG that are compressed and no picture, and the bytes that they may have together.
PNG_TEXTS = {b"zTXt", b"iTXt", b"iCCP"}
MOST_PNG_TEXT = 256 << 10


def check_claims(path, video: VideoBytes) -> None:
    """Raise where a file claims more than one of its size can hold."""
    if _read(video, 0, len(PNG)) == PNG:
        _check_png(path, video)
    else:
        _check_tables(path, video)
    video.seek(0)


def _read(video, place, count):
    """The bytes from a place on, fewer at the end of the file."""
    video.seek(place)
    return video.read(count)


def _check_png(path, video):
    """Raise where the texts of a PNG are larger than those of honest ones."""
    place, texts = len(PNG), 0
    while len(head := _read(video, place, 8)) == 8:
        length = int.from_bytes(head[:4], "big")
        texts += length if head[4:] in PNG_TEXTS else 0
        if texts > MOST_PNG_TEXT:
            raise ValueError(
                f"{path} has compressed texts or colour profiles of {texts} bytes; the limit is {MOST_PNG_TEXT}. Save "
                "the picture again without them."
            )
        place += length + 12


def _check_tables(path, video):
    """Raise where the tables of an MP4 file claim more samples than a file of its size can hold."""
    tables = _Tables(path, max(BOXES_OF_ANY, video.size >> 4))
    for kind, first, end in _boxes(lambda place, count: _read(video, place, count), 0, video.size):
        tables.pass_box()
        if kind in PARENTS or kind in (b"meta", b"stsd", b"cmov"):
            tables.add_box(kind, memoryview(_read(video, first, end - first)))
        elif kind == b"mdat" and end - first <= LARGEST_OF_SAMPLES:
            content = _read(video, first, end - first)
            place = content.find(b"moof")
            while place >= 0:
                tables.pass_box()
                tables.add_box(b"moof", memoryview(content)[place + 4 :])
                place = content.find(b"moof", place + 1)
    samples = tables.samples()
    if samples > max(video.size, memory_limit(0) // BYTES_PER_SAMPLE):
        raise ValueError(
            f"{path} says that it has {samples} samples of picture and sound, more than its {video.size} bytes can "
            "hold; it is damaged or made to do harm: copy or download it again."
        )


def _boxes(read, place, end):
    """The kind of each box between two places, and where its content begins and ends; of what is no MP4 file, few."""
    while place + 8 <= end and len(head := read(place, 16)) >= 8:
        length, first = int.from_bytes(head[:4], "big"), place + 8
        if length == 1 and len(head) == 16:
            length, first = int.from_bytes(head[8:], "big"), place + 16
        length = length or end - place
        if length < first - place:
            return
        yield bytes(head[4:8]), first, min(place + length, end)
        place += length


class _Tables:
    """Adds up the samples that the tables of a file claim."""

    def __init__(self, path, most_boxes):
        self._path = path
        self._boxes_left = most_boxes
        self._unpacked = 0
        # Samples and edits of each track.
        self._tracks = [[0, 0]]

    def samples(self):
        """All of them, those that edits repeat as often as that."""
        return sum(samples * max(edits, 1) for samples, edits in self._tracks)

    def pass_box(self):
        """Count a box."""
        self._boxes_left -= 1
        if self._boxes_left < 0:
            raise ValueError(f"{self._path} has more boxes than a video of its size; it is damaged or made to do harm.")

    def add(self, data, depth=0):
        """Add what the boxes in some bytes claim."""
        for kind, first, end in _boxes(lambda place, count: data[place : place + count], 0, len(data)):
            self.pass_box()
            self.add_box(kind, data[first:end], depth)

    def add_box(self, kind, content, depth=0):
        """Add what a box claims."""
        numbers = [int.from_bytes(content[place : place + 4], "big") for place in (0, 4, 8)]
        track = self._tracks[-1]
        if kind == b"trak":
            self._tracks.append([0, 0])
        if kind == b"elst":
            track[1] += min(numbers[1], len(content) // 12)
        elif kind == b"trun":
            # Where samples have sizes, times or flags of their own, there are no more of them than bytes.
            track[0] += min(numbers[1], len(content)) if numbers[0] & 0xF00 else numbers[1]
        elif kind == b"stsz" and numbers[1]:
            track[0] += numbers[2]
        elif kind in (b"stsz", b"stz2"):
            track[0] += min(numbers[2], 2 * len(content))
        elif kind == b"stsd":
            # What describes the samples may end with boxes, wherever these begin.
            for name in (b"stsz", b"trun"):
                place = bytes(content).find(name)
                if place >= 0:
                    self.add_box(name, content[place + 4 :])
        elif kind == b"cmov" and content[4:12] == b"dcomzlib" and content[16:20] == b"cmvd":
            self._add_packed(int.from_bytes(content[20:24], "big"), content[24:], depth)
        elif kind == b"meta" and (place := bytes(content).find(b"hdlr")) >= 4:
            self.add(content[place - 4 :], depth + 1)
        elif kind in PARENTS and depth < DEEPEST:
            self.add(content, depth + 1)

    def _add_packed(self, claimed, content, depth):
        """Add what a compressed header claims."""
        self._unpacked += claimed
        if self._unpacked > MOST_UNPACKED:
            raise ValueError(
                f"{self._path} has headers that unpack to {self._unpacked} bytes; the limit is {MOST_UNPACKED}."
            )
        try:
            self.add(memoryview(zlib.decompressobj().decompress(content, max(claimed, 1))), depth + 1)
        except zlib.error:
            return
