"""Zip archives that nobody vouches for."""

import copy
import zipfile
from collections.abc import Iterator

CHUNK_BYTES = 1 << 20


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yields the bytes of a member in pieces, and never more of them than the archive's table says there are.

    The table may lie: `ZipFile.read` unpacks whatever there is and cuts afterwards. Only what is stored or deflated is
    read, as the other methods unpack without bound.

    Raises:
        zipfile.BadZipFile: The member is not as long as the table says, or packed otherwise, or damaged.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{member.filename[:100]!r} is neither stored nor deflated")
    left = member.file_size
    # A byte beyond the claim tells that there are more.
    longer = copy.copy(member)
    longer.file_size += 1
    with archive.open(longer) as source:
        while left >= 0 and (chunk := source.read(CHUNK_BYTES)):
            left -= len(chunk)
            if left >= 0:
                yield chunk
    if left:
        raise zipfile.BadZipFile(f"{member.filename[:100]!r} does not have the {member.file_size:,} bytes it claims")
