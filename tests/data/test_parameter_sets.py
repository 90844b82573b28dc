"""What the headers of H.264 and HEVC say of the memory of a decoder and of the order in which pictures are shown."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_video_focalnet.data.clip import read_frames
from keras_video_focalnet.data.nal_units import LONGEST_SET, beginnings, has_more_units, sequence_units, sets_of_header
from keras_video_focalnet.data.parameter_sets import SMALL, PictureOrder, SequenceSet, check_held, sequence_sets
from keras_video_focalnet.data.video import open_video
from keras_video_focalnet.data.video_index import index_video
from keras_video_focalnet.data.video_reader import VideoReader
from tests.clips import decode_everything, encode, numbered_frames
from tests.data.kinds import KINDS, x264
from tests.data.test_video_index import remux

pytestmark = pytest.mark.backend_free

X265 = "pools=none:frame-threads=1:log-level=none"


def header_of(path):
    """The sequence parameter sets in the header of a file."""
    with contextlib.closing(open_video(path)) as video:
        context = video.stream.codec_context
        codec = context.codec.canonical_name
        return list(sequence_sets(codec, sets_of_header(codec, context.extradata)))


@pytest.mark.parametrize("ending", ["mp4", "ts"])
@pytest.mark.parametrize(
    "codec, options, pixels, expected",
    [
        ("libx264", x264(refs="5", bf="0"), "yuv420p", (64 * 48, 1.5, 5)),
        ("libx264", x264(refs="3", bf="0", library={"cqm": "jvt"}), "yuv422p10le", (64 * 48, 4, 3)),
        ("libx264", x264(refs="16", bf="0", library={"cqm": "jvt"}), "yuv444p", (64 * 48, 3, 16)),
        ("libx265", {"x265-params": f"{X265}:ref=3:bframes=0:b-pyramid=0"}, "yuv420p10le", (64 * 48, 3, 4)),
        ("libx265", {"x265-params": f"{X265}:ref=5:bframes=0:temporal-layers=2"}, "yuv444p", (64 * 48, 3, None)),
    ],
)
def test_sequence_sets_say_what_the_encoder_was_told(tmp_path, ending, codec, options, pixels, expected):
    path = encode(tmp_path / f"video.{ending}", numbered_frames(8), codec, pix_fmt=pixels, options=options)
    (told,) = header_of(path)
    assert (told.pixels, told.bytes_per_pixel) == expected[:2]
    assert expected[2] in (None, told.references)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith(("H.264", "HEVC"))])
def test_headers_tell_the_order_of_pictures(video_of_kind, kind):
    path, whole = video_of_kind(kind)
    with contextlib.closing(open_video(path)) as video:
        context = video.stream.codec_context
        order = PictureOrder(context.codec.canonical_name, context.extradata)
        packets = [(packet.pts, order.read(packet)) for packet in video.packets() if packet.size]
    assert len(packets) == len(whole)
    assert len({place for _, place in packets}) == len(whole)
    # AVI holds no times of pictures, raw streams none at all.
    if KINDS[kind][-1]:
        assert [place for _, place in sorted(packets)] == sorted(place for _, place in packets)


@pytest.mark.parametrize("kind", ["H.264, variable rate", "HEVC, closed", "HEVC, open GOP", "H.264, open GOP, mkv"])
def test_times_that_contradict_the_headers_are_not_trusted(video_of_kind, tmp_path, kind):
    source, _ = video_of_kind(kind)
    with contextlib.closing(open_video(source)) as video:
        times = sorted(packet.pts for packet in video.packets() if packet.size)
    first, second = times[40], times[41]

    def exchange(packet, number):
        packet.pts = {first: second, second: first}.get(packet.pts, packet.pts)
        # Matroska does not hold it, but no frame may be shown before it.
        packet.dts = number - 100_000

    path = remux(source, tmp_path / "exchanged.mkv", exchange, avoid_negative_ts="disabled")
    with contextlib.closing(open_video(path)) as video:
        assert index_video(video) is None
    whole = read_frames(path)
    for number in (39, 40, 41, 42):
        np.testing.assert_array_equal(read_frames(path, [number])[0], whole[number])


@pytest.mark.parametrize(
    "kind", ["H.264, keys every 7, no B frames", "H.264, pyramid of B frames", "H.264, variable rate"]
)
def test_a_packet_that_is_missing_is_noticed(video_of_kind, tmp_path, kind):
    import av

    source, _ = video_of_kind(kind)
    path = tmp_path / "gap.mkv"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.dts is not None]
        # The second packet of a part is one that others are predicted from.
        (gone,) = [number for number, packet in enumerate(packets) if packet.is_keyframe][1:2] or [0]
        for number, packet in enumerate(packets):
            if number != gone + 1:
                packet.stream = stream
                new.mux(packet)
    with contextlib.closing(open_video(path)) as video:
        assert index_video(video) is None
    whole = read_frames(path)
    for number in range(0, len(whole), 7):
        np.testing.assert_array_equal(read_frames(path, [number])[0], whole[number])


def test_a_window_does_not_depend_on_where_decoding_begins(video_of_kind, tmp_path):
    # Of one frame the time is far too late: from there on time stands still, as it never goes back.
    def postpone(packet, number):
        packet.dts = number - 100_000
        packet.pts += 200_000 if number == 20 else 0

    source, _ = video_of_kind("H.264, keys every 7, no B frames")
    path = remux(source, tmp_path / "postponed.mkv", postpone, avoid_negative_ts="disabled")
    seconds = [time for time, _ in decode_everything(path)]
    late = seconds[20]
    assert late > 15 and seconds[19] < 2 and set(seconds[20:]) == {late}
    with VideoReader(path) as reader:
        whole = reader.read()
        np.testing.assert_array_equal(reader.read_between(late - 0.1, late + 0.1), whole[20:])
        np.testing.assert_array_equal(reader.read(start=late - 0.1), whole[20:])
        with pytest.raises(ValueError, match="No frame of"):
            reader.read_between(3.0, 4.0)


def large(path, codec, options, pixels="yuv420p", frames=2):
    """A file of a few dark pictures of 4096 x 2160."""
    return encode(path, np.zeros((frames, 2160, 4096, 3), np.uint8), codec, pix_fmt=pixels, options=options)


@pytest.mark.parametrize(
    "codec, options, pixels",
    [
        ("libx264", {"preset": "ultrafast", "refs": "16"}, "yuv420p"),
        ("libx264", {"preset": "ultrafast", "refs": "5"}, "yuv444p10le"),
        ("libx265", {"preset": "ultrafast", "x265-params": f"{X265}:ref=16:level-idc=6.2"}, "yuv420p"),
        ("libx265", {"preset": "ultrafast", "x265-params": f"{X265}:ref=5"}, "yuv420p10le"),
    ],
)
def test_more_references_than_a_small_file_may_take_are_refused(tmp_path, codec, options, pixels):
    path = large(tmp_path / "large.mkv", codec, options, pixels)
    with pytest.raises(ValueError, match=r"large\.mkv says that its pictures of \d+ pixels refer to \d+ others.*-refs"):
        read_frames(path, [0])


def test_large_videos_of_phones_are_read(tmp_path):
    pictures = SequenceSet(3840 * 2160, 3, references=5)
    check_held("phone.mov", SMALL, pictures)
    with pytest.raises(ValueError, match="-refs"):
        check_held("phone.mov", SMALL - 1, pictures)
    # Of 8 bits small ones are too.
    path = large(tmp_path / "large.mkv", "libx264", {"preset": "ultrafast", "refs": "5"})
    assert read_frames(path, [0], short_side=24).shape[1] == 24


def test_references_that_come_later_are_refused_too(tmp_path):
    small = encode(tmp_path / "small.h264", numbered_frames(8), options=x264())
    big = large(tmp_path / "large.h264", "libx264", {"preset": "ultrafast", "refs": "16"})
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + big.read_bytes())
    with pytest.raises(ValueError, match=r"both\.h264 says that its pictures"):
        read_frames(path)


def test_units_inside_others_and_headers_of_other_versions_are_found(tmp_path):
    import av

    path = encode(tmp_path / "a.mkv", numbered_frames(3), options=x264(bf="0", refs="3"))
    (unit,) = (unit for unit in units_of_header(path) if unit[0] & 31 == 7)
    with av.open(str(path)) as file:
        header = file.streams.video[0].codec_context.extradata
    # FFmpeg looks for start codes inside a unit that has a length too.
    hidden = b"\x09\xf0\0\0\1" + unit
    packet = len(hidden).to_bytes(4, "big") + hidden
    assert [told.references for told in sequence_sets("h264", sequence_units(packet, "h264", header))] == [3]
    path = encode(tmp_path / "b.mkv", numbered_frames(3), "libx265", options={"x265-params": X265})
    with av.open(str(path)) as file:
        header = file.streams.video[0].codec_context.extradata
    assert header[0] == 1
    later = list(sequence_sets("hevc", sets_of_header("hevc", b"\0" + header[1:])))
    assert later == list(sequence_sets("hevc", sets_of_header("hevc", header))) != []


def units_of_header(path):
    """The parameter sets in the header of a file."""
    with contextlib.closing(open_video(path)) as video:
        context = video.stream.codec_context
        return list(sets_of_header(context.codec.canonical_name, context.extradata))


def test_a_second_picture_set_changes_nothing(video_of_kind):
    path, whole = video_of_kind("H.264, open GOP, mp4")
    sequence, picture = units_of_header(path)
    # The number of a set is its first code: 0 is a single set bit, 1 is 010.
    bits = "".join(f"{byte:08b}" for byte in picture[1:])
    renumbered = "010" + bits[1:]
    renumbered = renumbered.ljust(-(-len(renumbered) // 8) * 8, "0")
    second = picture[:1] + int(renumbered, 2).to_bytes(len(renumbered) // 8, "big")
    with contextlib.closing(open_video(path)) as video:
        header = video.stream.codec_context.extradata
        sets = b"".join(len(unit).to_bytes(2, "big") + unit for unit in (picture, second))
        place = header.index(picture) - 3
        extended = header[:place] + b"\2" + sets + header[place + 3 + len(picture) :]
        orders = [PictureOrder("h264", told) for told in (header, extended)]
        for packet in video.packets():
            if packet.size:
                first, other = (order.read(packet) for order in orders)
                assert first == other is not None


def test_parameter_sets_without_end_are_refused(tmp_path):
    head = encode(tmp_path / "a.h264", numbered_frames(4), options=x264()).read_bytes()
    path = tmp_path / "many.h264"
    sets = b"".join(b"\0\0\1\x67\x42\x01\x1e" + number.to_bytes(3, "big") + b"\x01" for number in range(1, 3000))
    path.write_bytes(head * 60 + sets + head)
    with pytest.raises(ValueError, match=r"many\.h264 has more than 1000 different parameter sets"):
        read_frames(path)
    # Those that encoders repeat are no reason.
    path.write_bytes(head * 60)
    assert len(read_frames(path)) == 240


def test_packets_of_units_without_end_are_refused(tmp_path):
    head = encode(tmp_path / "a.h264", numbered_frames(4), options=x264()).read_bytes()
    (tmp_path / "units.h264").write_bytes(head * 10 + b"\0\0\1\x0c" * 21_000 + head)
    with pytest.raises(ValueError, match=r"units\.h264 has a packet of more than 20000 units"):
        read_frames(tmp_path / "units.h264")
    header = bytes([1, 66, 0, 30, 0xFF, 0xE0, 0])
    assert has_more_units(b"\0\0\0\1\x0c" * 6, "h264", header, 5)
    assert not has_more_units(b"\0\0\0\1\x0c" * 5, "h264", header, 5)


def test_what_parameter_sets_claim_is_bounded():
    # An order of type 1 with a cycle of a million pictures, in a unit of 64 kB.
    bits = "1" + "1" + "010" + "1" + "1" + "1" + "0" * 19 + f"{10**6 + 1:b}"
    claimed = bytes([0x67, 66, 0, 30]) + int(bits.ljust(80, "1"), 2).to_bytes(10, "big")
    assert list(sequence_sets("h264", [claimed + b"\xff" * 1000])) == []
    large = claimed + b"\xff" * 65_000
    header = bytes([1, 66, 0, 30, 0xFF, 0xE1]) + len(large).to_bytes(2, "big") + large + b"\0"
    assert [len(unit) for unit in sets_of_header("h264", header)] == [LONGEST_SET]
    # Counts beyond the end of the header come to nothing.
    hevc = bytes([1]) + bytes(21) + b"\xff" + b"\x21\xff\xff" * 50
    assert len(list(sets_of_header("hevc", hevc))) < 50


@given(data=st.binary(max_size=64), codec=st.sampled_from(["h264", "hevc"]), extradata=st.binary(max_size=64))
def test_any_bytes_are_read_without_an_error(data, codec, extradata):
    list(sequence_sets(codec, [bytes([0x67]) + data, bytes([0x42, 1]) + data, data]))
    list(sets_of_header(codec, extradata))
    assert all(unit in data for unit in beginnings(data, codec, extradata))
