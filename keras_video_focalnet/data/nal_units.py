"""The units that packets of H.264 and HEVC are made of."""

import typing

if typing.TYPE_CHECKING:
    import av

# Kinds of pictures of HEVC that nothing after them looks back beyond: IDR, and CRA or BLA without leading pictures.
HEVC_IDR = {18, 19, 20}
# Where the header of HEVC, as of H.264, tells how many bytes hold the length of a unit.
HEVC_WIDTH = 21


def is_idr(packet: "av.Packet", codec: str, extradata: bytes | None) -> bool:
    """Whether a packet of H.264 or HEVC begins with a picture that nothing after it looks back beyond."""
    if not packet.is_keyframe or codec not in ("h264", "hevc"):
        return False
    if codec == "h264":
        kinds = (unit[0] & 31 for unit in _nal_units(bytes(packet), extradata))
        return next((kind for kind in kinds if 1 <= kind <= 5), None) == 5
    kinds = (unit[0] >> 1 & 63 for unit in _nal_units(bytes(packet), extradata, HEVC_WIDTH))
    return next((kind for kind in kinds if kind < 32), None) in HEVC_IDR


def is_disposable(packet: "av.Packet", extradata: bytes | None) -> bool:
    """Whether no other picture is predicted from that in a packet of H.264, whose time is known."""
    units = (unit[0] for unit in _nal_units(bytes(packet), extradata) if 1 <= unit[0] & 31 <= 5)
    return packet.pts is not None and next(units, 0xFF) >> 5 == 0


def is_random_access(packet: "av.Packet", extradata: bytes | None) -> bool:
    """Whether an H.264 packet begins with what no earlier packet is needed for.

    That is an IDR picture, or a recovery point (ITU-T H.264, D.2.8) from which the very first picture is right. Others
    are called key frames too: with intra refresh the picture builds up over many frames.
    """
    for unit in _nal_units(bytes(packet), extradata):
        kind = unit[0] & 31
        if kind == 5:
            return True
        if kind == 1:
            return False
        if kind == 6 and _recovers_at_once(unit.replace(b"\0\0\3", b"\0\0")):
            return True
    return False


def _nal_units(data, extradata, place_of_width=4):
    """The units of a packet, which begin with their length (MP4, Matroska) or follow a start code."""
    if not extradata or extradata[0] != 1 or len(extradata) <= place_of_width:
        yield from filter(None, data.split(b"\0\0\1")[1:])
        return
    width, place = (extradata[place_of_width] & 3) + 1, 0
    while place + width < len(data):
        length = int.from_bytes(data[place : place + width], "big")
        place += width + length
        if length:
            yield data[place - length : place]


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
