"""Names that come from anywhere, as fonts and terminals can show them."""


def printable(name: str) -> str:
    r"""A name as fonts can draw it: without line breaks and other control characters.

    Example:
        >>> printable("two\nlines") == "two\N{REPLACEMENT CHARACTER}lines"
        True
    """
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
