"""Addresses of files of weights: what is refused, what they are called, and what of them may be shown."""

import os
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

SCHEMES = ("https", "http", "file")

_SECRET = re.compile(r"(?<=://)[^/?#\s]*@")
# Of what is no address a password may hold anything.
_ANY_SECRET = re.compile(r"^(\w+:/+)?.*@", re.DOTALL)
# Two letters or more, so that no drive of a disk is one.
_BEGINNING = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")


def without_secret(text: str) -> str:
    """Gives an address, or a text with addresses, without the names and passwords before the hosts."""
    return _SECRET.sub("", text)


def is_address(text: str | os.PathLike) -> bool:
    """Tells whether a text is meant as an address, and not as a path of this machine."""
    return isinstance(text, str) and _BEGINNING.match(text) is not None


def without_any_secret(text: str) -> str:
    """Gives what is meant as an address, and may be none, without all that may be a password."""
    return _ANY_SECRET.sub(lambda match: match[1] or "", text)


def check_address(address: str, name: str, value: str) -> None:
    """Checks that an address can be fetched from; it comes of a value of that name, as messages call it."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        # A part of a password may be taken for the port, and then be in the reason.
        reason = "" if "@" in address else f" ({error})"
        raise ValueError(
            f"{name}={without_any_secret(value)!r} is no valid address{reason}; write https://HOST/PATH, with "
            "%2F, %3F and %23 for /, ? and # in a password."
        ) from None
    given = f"{name}={without_any_secret(value)!r}"
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{given} has the scheme {parts.scheme!r}; use an address of https, http or file.")
    if parts.scheme == "file" and host not in (None, "localhost"):
        raise ValueError(
            f"{given} names the host {host!r}, and files of other machines are not read; write file:///PATH with "
            "three slashes, or the path alone."
        )
    if parts.scheme != "file" and not host:
        raise ValueError(f"{given} names no host; write {parts.scheme}://HOST/PATH.")


def local_path(address: str) -> Path:
    """Gives the path that an address of this machine's files names."""
    return Path(url2pathname(urlsplit(address).path))


def source_name(url: str) -> str:
    """Gives the file name at the end of an address, safe as a name on any file system."""
    name = PurePosixPath(unquote(urlsplit(url).path).replace("\\", "/")).name
    return re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII).lstrip(".")[-150:] or "weights"
