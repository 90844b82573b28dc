"""What a packet of MPEG-4 video tells without being decoded (ISO/IEC 14496-2, section 6.2.5)."""

import typing
from collections.abc import Sequence

if typing.TYPE_CHECKING:
    import av

# A packet may hold two frames, or none but a note that a frame was dropped, in fewer bytes than any frame.
FRAME = b"\0\0\1\xb6"
SMALLEST = 16
# The kind of a frame that is predicted from the frames on both sides of it.
BOTH_SIDES = 2


def frame_kind(packet: "av.Packet") -> int | None:
    """The kind of the frame in a packet: 0 by itself, 1 predicted from the one before, 2 from both sides, 3 a sprite.

    None where the packet holds no frame, or several.
    """
    data = bytes(packet)
    place = data.find(FRAME)
    if packet.size < SMALLEST or place < 0 or place + len(FRAME) >= len(data) or data.find(FRAME, place + 1) >= 0:
        return None
    return data[place + len(FRAME)] >> 6


def display_order(kinds: Sequence[int]) -> list[int]:
    """For each packet the position of the one with which its frame is shown, in order of display.

    A frame that is predicted from both sides is shown as soon as it is decoded, any other with the next of its sort.
    """
    places, following = [], len(kinds)
    for position in range(len(kinds) - 1, -1, -1):
        if kinds[position] == BOTH_SIDES:
            places.append(position)
        else:
            places.append(following)
            following = position
    return places[::-1]
