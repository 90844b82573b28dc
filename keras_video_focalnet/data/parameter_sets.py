"""What the parameter sets of H.264 and HEVC say of pictures: their memory, and the order in which they are shown.

Numbers and names are those of ITU-T H.264, 7.3.2.1, 7.3.2.2 and 7.3.3, and ITU-T H.265, 7.3.2.2, 7.3.2.3 and 7.3.6.
"""

import dataclasses
import itertools
import typing
from collections.abc import Iterable, Iterator

from keras_video_focalnet.data.nal_units import beginnings, sets_of_header
from keras_video_focalnet.data.video_file import BYTES_PER_PIXEL, VideoPath, memory_limit

if typing.TYPE_CHECKING:
    import av

# A decoder holds some pictures more than those that others refer to, and some for each thread.
FURTHER_PICTURES = 4
PICTURES_PER_THREAD = 2
# The standards allow so many references in pictures of the largest size of a level, and larger ones have few levels.
USUAL_REFERENCES = 6
USUAL_BYTES_PER_PIXEL = 3
# Bytes of a file that must not take more than its limit, whatever is in it.
SMALL = 10 << 20
# Bytes of a slice that hold its header as far as the order of pictures.
SLICE_HEADER = 24
# Profiles of H.264 that tell the format of colours and may have scaling lists.
HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
# Samples of all planes for each pixel, by chroma_format_idc.
SAMPLES = {0: 1.0, 1: 1.5, 2: 2.0, 3: 3.0}
H264_SEQUENCE, H264_PICTURE, H264_IDR = 7, 8, 5
HEVC_SEQUENCE, HEVC_PICTURE = 33, 34
# Of HEVC the pictures that decoding can begin with, BLA and IDR among them, from which the order counts anew; and those
# that the order of later ones is not counted from: leading ones and those that no other of their layer refers to.
HEVC_BEGINNINGS, HEVC_BLA, HEVC_IDR = set(range(16, 24)), {16, 17, 18}, {19, 20}
HEVC_UNCOUNTED = {6, 7, 8, 9, *range(0, 16, 2)}
# The end of a sequence and of a stream.
HEVC_ENDS = {36, 37}
# What the standards allow: numbers of parameter sets, and pictures in a cycle of their order.
MOST_SEQUENCE_SETS, MOST_PICTURE_SETS, MOST_IN_CYCLE = 31, 255, 255
# Units of a packet that are looked at for its picture.
MOST_UNITS_BEFORE = 1000
# Of the lists of scaling factors, those of 4 x 4; the others have 8 x 8.
SMALL_LISTS = 6


@dataclasses.dataclass(frozen=True, slots=True)
class SequenceSet:
    """A sequence parameter set.

    Attributes:
        pixels: Pixels of a picture, those that are cropped off included.
        bytes_per_pixel: Bytes of all planes for each.
        references: How many pictures a decoder holds for those that follow.
        order_bits: Bits of the least significant part of a picture's order; None where pictures of H.264 do not tell
            their order in this way.
        in_order: Whether pictures are shown in the order of decoding.
        frame_bits: Bits of `frame_num`, of H.264.
        fields: Whether pictures may be fields.
        planes: Whether colours are coded apart.
    """

    pixels: int
    bytes_per_pixel: float
    references: int
    order_bits: int | None = None
    in_order: bool = False
    frame_bits: int = 0
    fields: bool = False
    planes: bool = False

    def held(self, threads: int = 0) -> int:
        """Bytes that are held while pictures are decoded by threads that each have one of their own."""
        pictures = self.references + FURTHER_PICTURES + PICTURES_PER_THREAD * threads
        return int(self.pixels * (self.bytes_per_pixel * pictures + BYTES_PER_PIXEL))

    def threads(self, size: int) -> int:
        """How many such threads a file of `size` bytes has memory for."""
        left = memory_limit(size) - self.held()
        return max(int(left / max(PICTURES_PER_THREAD * self.pixels * self.bytes_per_pixel, 1)), 0)


def check_held(path: VideoPath, size: int, told: SequenceSet) -> None:
    """Raise where a decoder would hold more for the sake of later pictures than a file of `size` bytes may take.

    Of files that are not small, pictures of 4:2:0 with no more references than are usual for the largest ones may take
    more: else large videos of phones could not be read.
    """
    is_usual = told.references <= USUAL_REFERENCES and told.bytes_per_pixel <= USUAL_BYTES_PER_PIXEL
    is_usual = is_usual and size >= SMALL
    if told.held() > memory_limit(size) and not is_usual:
        raise ValueError(
            f"{path} says that its pictures of {told.pixels} pixels refer to {told.references} others, which takes "
            f"{told.held() >> 20} MB; a file of {size} bytes may take {memory_limit(size) >> 20} MB. If you trust it, "
            "encode it anew with FFmpeg, in yuv420p with fewer references (-refs) or at a smaller size."
        )


class _Bits:
    """The bits of a unit, without the bytes that keep start codes out of it."""

    __slots__ = ("_number", "_left")

    def __init__(self, unit, skip):
        data = unit[skip:].replace(b"\0\0\3", b"\0\0")
        self._number, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count):
        """The next `count` bits as a number."""
        self._left -= count
        if self._left < 0:
            raise IndexError
        number = self._number >> self._left
        self._number ^= number << self._left
        return number

    def ue(self):
        """The next unsigned Exp-Golomb code: as many zeros as bits follow the first 1."""
        zeros = self._left - self._number.bit_length()
        left = self._left - 2 * zeros - 1
        if zeros > 32 or left < 0:
            raise IndexError
        # As `read`, which the slices of every packet would call several times.
        code = self._number >> left
        self._number ^= code << left
        self._left = left
        return code - 1

    def number(self, most):
        """The next unsigned Exp-Golomb code, if it is `most` at most."""
        number = self.ue()
        if number > most:
            raise IndexError
        return number

    def se(self):
        """The next signed Exp-Golomb code."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def sequence_sets(codec: str, units: Iterable[bytes]) -> Iterator[SequenceSet]:
    """The sequence parameter sets among some units of "h264" or "hevc"; those that cannot be read are passed over."""
    for unit in units:
        try:
            if codec == "h264" and unit[0] & 31 == H264_SEQUENCE:
                yield _h264_sequence(unit)[1]
            elif codec == "hevc" and unit[0] >> 1 & 63 == HEVC_SEQUENCE and not _layer(unit):
                yield _hevc_sequence(unit)[1]
        except IndexError:
            continue


class PictureOrder:
    """The order in which pictures are shown, as their headers tell it packet by packet.

    Args:
        codec: "h264" or "hevc".
        extradata: What the container holds of the stream's headers.
    """

    def __init__(self, codec: str, extradata: bytes | None):
        self._codec, self._extradata = codec, extradata
        self._sequences, self._pictures = {}, {}
        # How often the order began anew, the number of the last picture that later ones count from, all packets, and
        # `frame_num` of the last picture of H.264 that others may refer to.
        self._part, self._counted, self._packets, self._frame_number = 0, 0, 0, None
        # Whether a sequence of HEVC has ended, so that the next picture that decoding can begin with counts anew.
        self._has_ended = False
        for unit in itertools.islice(sets_of_header(codec, extradata), MOST_UNITS_BEFORE):
            self._place_of(unit)

    def read(self, packet: "av.Packet") -> tuple[int, int] | None:
        """The place of the picture in a packet: the number of the part of the video that counts its pictures anew, and
        the picture's number there. None where that cannot be told.
        """
        self._packets += 1
        units = beginnings(bytes(packet), self._codec, self._extradata)
        for unit in itertools.islice(units, MOST_UNITS_BEFORE):
            place = self._place_of(unit)
            if place is not None:
                return place or None
        return None

    def _place_of(self, unit):
        """The place of the picture that a unit begins; None where it begins none, and () where it cannot be told."""
        try:
            return self._hevc_place(unit) if self._codec == "hevc" else self._h264_place(unit)
        except (IndexError, KeyError):
            return ()

    def _h264_place(self, unit):
        kind = unit[0] & 31
        if kind == H264_SEQUENCE:
            number, self._sequences[number] = _h264_sequence(unit)
        elif kind == H264_PICTURE:
            bits = _Bits(unit[:SLICE_HEADER], 1)
            number = bits.number(MOST_PICTURE_SETS)
            self._pictures[number] = bits.ue()
        if not 1 <= kind <= H264_IDR:
            return None
        bits = _Bits(unit[:SLICE_HEADER], 1)
        first_macroblock, _ = bits.ue(), bits.ue()
        sequence = self._sequences[self._pictures[bits.ue()]]
        if kind == H264_IDR:
            self._begin_anew()
        bits.read(2 * sequence.planes)
        counts = unit[0] >> 5 != 0
        if not self._follows(bits.read(sequence.frame_bits), sequence.frame_bits, counts):
            return ()
        if sequence.in_order:
            return self._part, self._packets
        is_field = sequence.fields and bits.read(1)
        if first_macroblock or is_field or sequence.order_bits is None:
            return ()
        if kind == H264_IDR:
            bits.ue()
        return self._counted_on(bits.read(sequence.order_bits), sequence.order_bits, counts)

    def _follows(self, number, bits, counts):
        """Whether no picture is missing that others refer to: `frame_num` counts those of H.264."""
        before = self._frame_number
        if counts:
            self._frame_number = number
        return before is None or number in (before, (before + 1) % (1 << bits))

    def _hevc_place(self, unit):
        kind = unit[0] >> 1 & 63
        if _layer(unit):
            return None
        self._has_ended |= kind in HEVC_ENDS
        if kind == HEVC_SEQUENCE:
            number, self._sequences[number] = _hevc_sequence(unit)
        elif kind == HEVC_PICTURE:
            bits = _Bits(unit[:SLICE_HEADER], 2)
            number, sequence, _ = bits.number(MOST_PICTURE_SETS), bits.ue(), bits.read(1)
            # Headers of slices may have a flag and some bits that tell nothing of the order.
            self._pictures[number] = sequence, bits.read(1), bits.read(3)
        if kind >= 32:
            return None
        bits = _Bits(unit[:SLICE_HEADER], 2)
        is_first = bits.read(1)
        bits.read(kind in HEVC_BEGINNINGS)
        number, has_output_flag, reserved = self._pictures[bits.ue()]
        sequence = self._sequences[number]
        if not is_first:
            return ()
        if kind in HEVC_BLA | HEVC_IDR or kind in HEVC_BEGINNINGS and self._has_ended:
            self._begin_anew()
        if kind in HEVC_IDR:
            return self._part, 0
        bits.read(reserved)
        bits.ue()
        bits.read(has_output_flag + 2 * sequence.planes)
        is_counted = unit[1] & 7 == 1 and kind not in HEVC_UNCOUNTED
        return self._counted_on(bits.read(sequence.order_bits), sequence.order_bits, is_counted)

    def _begin_anew(self):
        self._part, self._counted, self._frame_number, self._has_ended = self._part + 1, 0, None, False

    def _counted_on(self, low, bits, is_counted):
        """The place of a picture of which the header holds the last bits: that which lies nearest to the last."""
        size = 1 << bits
        # Of two that lie equally far, which is half of `size`, the later, as the standards have it.
        number = self._counted + (low - self._counted + size // 2 - 1) % size - size // 2 + 1
        if is_counted:
            self._counted = number
        return self._part, number


def _layer(unit):
    """The layer of a unit of HEVC: those above 0 are other views or sizes of the same pictures."""
    return (unit[0] & 1) << 5 | unit[1] >> 3


def _h264_sequence(unit):
    """The number and content of a sequence parameter set of H.264."""
    bits = _Bits(unit, 1)
    profile = bits.read(24) >> 16
    number, chroma, planes, depth = bits.number(MOST_SEQUENCE_SETS), 1, False, 8
    if profile in HIGH_PROFILES:
        chroma = bits.ue()
        planes = chroma == 3 and bool(bits.read(1))
        depth = 8 + max(bits.ue(), bits.ue())
        bits.read(1)
        if bits.read(1):
            _pass_scaling_lists(bits, 12 if chroma == 3 else 8)
    frame_bits, kind, order_bits = 4 + bits.ue(), bits.ue(), None
    if kind == 0:
        order_bits = 4 + bits.ue()
    elif kind == 1:
        bits.read(1)
        bits.se(), bits.se()
        for _ in range(bits.number(MOST_IN_CYCLE)):
            bits.se()
    references, _ = bits.ue(), bits.read(1)
    width, height = bits.ue() + 1, bits.ue() + 1
    fields = not bits.read(1)
    pixels = 256 * width * height * (1 + fields)
    size = SAMPLES.get(chroma, 3.0) * (1 + (depth > 8))
    return number, SequenceSet(pixels, size, references, order_bits, kind == 2, frame_bits, fields, planes)


def _pass_scaling_lists(bits, count):
    """Pass over the scaling lists of a sequence parameter set."""
    for number in range(count):
        last = step = 8
        for _ in range((16 if number < SMALL_LISTS else 64) if bits.read(1) else 0):
            if step:
                step = (last + bits.se()) % 256
            last = step or last


def _hevc_sequence(unit):
    """The number and content of a sequence parameter set of HEVC."""
    bits = _Bits(unit, 2)
    layers = bits.read(7) & 7
    bits.read(1)
    _pass_profile(bits, layers)
    number, chroma = bits.number(MOST_SEQUENCE_SETS), bits.ue()
    planes = chroma == 3 and bool(bits.read(1))
    pixels = bits.ue() * bits.ue()
    if bits.read(1):
        for _ in range(4):
            bits.ue()
    depth, order_bits = 8 + max(bits.ue(), bits.ue()), 4 + bits.ue()
    first = 0 if bits.read(1) else layers
    references = 0
    for _ in range(first, layers + 1):
        references = max(references, bits.ue() + 1)
        bits.ue(), bits.ue()
    size = SAMPLES.get(chroma, 3.0) * (1 + (depth > 8))
    return number, SequenceSet(pixels, size, references, order_bits, planes=planes)


def _pass_profile(bits, layers):
    """Pass over the profile, tier and level of a stream with so many layers in time beyond the first."""
    bits.read(96)
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    if layers:
        bits.read(2 * (8 - layers))
    for profile, level in present:
        bits.read(88 * profile + 8 * level)
