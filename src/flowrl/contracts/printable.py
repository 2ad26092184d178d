"""Text that came out of a file, an environment or a package, as it is printed."""

from __future__ import annotations


def printable(text: object) -> str:
    r"""Return `text` in one line, with every character that a terminal would act on, or not show, as an escape.

    These are Unicode's control and format characters (escape sequences, line ends, directions of text, zero-width
    characters), its spaces but U+0020, lone surrogates, and code points without a character: `\x1b`, `\n`, `\u202e`.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in shown)


def printable_lines(text: str) -> str:
    """Return `text` as `printable` does, but keep its line ends: for output that has several lines."""
    return "\n".join(map(printable, text.split("\n")))
