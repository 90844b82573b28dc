"""The units that packets of H.264 and HEVC are made of."""

import itertools
import re
import typing
from collections.abc import Iterator

if typing.TYPE_CHECKING:
    import av

# Kinds of pictures of HEVC that nothing after them looks back beyond: IDR, and CRA or BLA without leading pictures.
HEVC_IDR = {18, 19, 20}
# Where the headers of both codecs in a container tell how many bytes hold the length of a unit.
WIDTHS = {"h264": 4, "hevc": 21}
START = b"\0\0\1"
# The first byte of a sequence parameter set, for each importance that it may have.
SEQUENCE_SETS = {"h264": b"\x07\x27\x47\x67", "hevc": b"\x42"}
_SEQUENCE_CODES = {codec: re.compile(b"\0\0\1[" + first + b"]") for codec, first in SEQUENCE_SETS.items()}
# Bytes that hold all that is read of a parameter set or the header of a slice.
LONGEST_SET = 1024


def is_idr(packet: "av.Packet", codec: str, extradata: bytes | None) -> bool:
    """Whether a packet of H.264 or HEVC begins with a picture that nothing after it looks back beyond."""
    if not packet.is_keyframe or codec not in ("h264", "hevc"):
        return False
    if codec == "h264":
        kinds = (unit[0] & 31 for unit in nal_units(bytes(packet), "h264", extradata))
        return next((kind for kind in kinds if 1 <= kind <= 5), None) == 5
    kinds = (unit[0] >> 1 & 63 for unit in nal_units(bytes(packet), codec, extradata))
    return next((kind for kind in kinds if kind < 32), None) in HEVC_IDR


def is_disposable(packet: "av.Packet", extradata: bytes | None) -> bool:
    """Whether no other picture is predicted from that in a packet of H.264, whose time is known."""
    units = (unit[0] for unit in nal_units(bytes(packet), "h264", extradata) if 1 <= unit[0] & 31 <= 5)
    return packet.pts is not None and next(units, 0xFF) >> 5 == 0


def is_random_access(packet: "av.Packet", extradata: bytes | None) -> bool:
    """Whether an H.264 packet begins with what no earlier packet is needed for.

    That is an IDR picture, or a recovery point (ITU-T H.264, D.2.8) from which the very first picture is right. Others
    are called key frames too: with intra refresh the picture builds up over many frames.
    """
    for unit in nal_units(bytes(packet), "h264", extradata):
        kind = unit[0] & 31
        if kind == 5:
            return True
        if kind == 1:
            return False
        if kind == 6 and _recovers_at_once(unit.replace(b"\0\0\3", b"\0\0")):
            return True
    return False


def nal_units(data: bytes, codec: str, extradata: bytes | None) -> Iterator[bytes]:
    """The units of a packet, which begin with their length (MP4, Matroska) or follow a start code."""
    if not _has_lengths(codec, extradata):
        yield from filter(None, data.split(b"\0\0\1")[1:])
        return
    for first, length in _with_lengths(data, extradata[WIDTHS[codec]]):
        yield data[first : first + length]


def beginnings(data: bytes, codec: str, extradata: bytes | None) -> Iterator[bytes]:
    """The first bytes of each unit of a packet, `LONGEST_SET` at most."""
    if _has_lengths(codec, extradata):
        for first, length in _with_lengths(data, extradata[WIDTHS[codec]]):
            yield data[first : first + min(length, LONGEST_SET)]
        return
    place = data.find(START)
    while place >= 0:
        first = place + len(START)
        place = data.find(START, first)
        if first < len(data) and first != place:
            yield data[first : min(place if place >= 0 else len(data), first + LONGEST_SET)]


def has_more_units(data: bytes, codec: str, extradata: bytes | None, most: int) -> bool:
    """Whether a packet has more than `most` units."""
    if len(data) <= 2 * most:
        # The smallest unit has a byte, and its length another.
        return False
    if not _has_lengths(codec, extradata):
        return data.count(START) > most
    # Units inside others count too.
    units = sum(1 for _ in itertools.islice(_with_lengths(data, extradata[WIDTHS[codec]]), most + 1))
    return units > most or data.count(START) > most


def sequence_units(data: bytes, codec: str, extradata: bytes | None) -> list[bytes]:
    """Those of `beginnings` that are sequence parameter sets, found faster; also those that follow a start code inside
    a unit, where FFmpeg finds them too.
    """
    if not _has_lengths(codec, extradata):
        return list(_after_codes(data, codec, 0, len(data)))
    found, firsts, has_codes = [], SEQUENCE_SETS[codec], data.find(START) >= 0
    # As `_with_lengths`, for every packet of a video.
    width, place = (extradata[WIDTHS[codec]] & 3) + 1, 0
    end = len(data) - width
    while place < end:
        length = int.from_bytes(data[place : place + width], "big")
        place += width
        if length:
            if data[place] in firsts:
                found.append(data[place : place + min(length, LONGEST_SET)])
            if has_codes:
                found += _after_codes(data, codec, place, place + length)
            place += length
    return found


def _after_codes(data, codec, first, end):
    """The sequence parameter sets behind start codes in a part of a packet."""
    for found in _SEQUENCE_CODES[codec].finditer(data, first, end):
        begin = found.end() - 1
        follows = data.find(START, begin, end)
        yield data[begin : min(follows if follows >= 0 else end, begin + LONGEST_SET)]


def sets_of_header(codec: str, extradata: bytes | None) -> Iterator[bytes]:
    """The parameter sets in what a container holds of a stream's headers, `LONGEST_SET` bytes of each at most."""
    place = WIDTHS[codec] + 1
    if not _has_lengths(codec, extradata):
        yield from beginnings(extradata or b"", codec, None)
    elif codec == "h264":
        for mask in (31, 255):
            count, place = _byte(extradata, place) & mask, place + 1
            place = yield from _with_counts(extradata, place, count)
    else:
        arrays, place = _byte(extradata, place), place + 1
        for _ in range(arrays):
            count = int.from_bytes(extradata[place + 1 : place + 3], "big")
            place = yield from _with_counts(extradata, place + 3, count)


def _byte(data, place):
    """A byte, 0 beyond the end."""
    return data[place] if place < len(data) else 0


def _with_counts(data, place, count):
    """So many units after the two bytes of the length of each; returns the place behind them."""
    for _ in range(count):
        if place + 2 > len(data):
            break
        length = int.from_bytes(data[place : place + 2], "big")
        if length:
            yield data[place + 2 : place + 2 + min(length, LONGEST_SET)]
        place += 2 + length
    return place


def _has_lengths(codec, extradata):
    """Whether units begin with their length, as the header of the stream says to FFmpeg."""
    if not extradata or len(extradata) <= WIDTHS[codec]:
        return False
    return extradata[0] == 1 or (codec == "hevc" and (extradata[0] > 0 or extradata[1] > 0 or extradata[2] > 1))


def _with_lengths(data, width):
    """Where each unit of a packet begins, and how long it is."""
    width, place = (width & 3) + 1, 0
    while place + width < len(data):
        length = int.from_bytes(data[place : place + width], "big")
        place += width
        if length:
            yield place, length
        place += length


def _recovers_at_once(unit):
    """Whether supplemental information holds a recovery point with a recovery_frame_cnt of 0."""
    place = 1
    try:
        while True:
            kind, place = _summed(unit, place)
            size, place = _summed(unit, place)
            if kind == 6:
                # As an Exp-Golomb code 0 is a single set bit.
                return unit[place] >= 128
            place += size
    except IndexError:
        return False


def _summed(unit, place):
    """A number written as bytes of 255 and a last one that is less, and the place behind it."""
    end = place
    while unit[end] == 255:
        end += 1
    return 255 * (end - place) + unit[end], end + 1
