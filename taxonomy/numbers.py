"""Whole numbers in texts that others wrote."""

__all__ = ["is_number", "whole_number"]

_MOST_DIGITS = 18  # so that the number fits into 64 bits, as in databases and JSON of other programs


def whole_number(text: str) -> int | None:
    """Return the number that a text of ASCII digits names, None for any other text and for a longer one.

    `str.isdigit` is true of texts that `int` refuses (`²`, 5,000 digits) and of digits of other scripts.
    """
    return int(text) if len(text) <= _MOST_DIGITS and text.isascii() and text.isdecimal() else None


def is_number(text: str) -> bool:
    """Return whether a text is a whole number in the one way in which programs write it: `7`, not `07` and not `７`.

    Label Studio's projects are numbers. Another spelling must not be taken for the same project: it is a name.
    """
    number = whole_number(text)
    return number is not None and str(number) == text
