"""Many messages about images, counted by reason: one line of a log for each reason, not for each image."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

_MOST_REASONS = 10
# What differs from image to image within one reason: quoted text, addresses, paths and numbers.
_QUOTED = re.compile(r"\"[^\"]*\"")
_WORD = re.compile(r"\S+")
_PATH_OR_NUMBER = re.compile(r"/\S+|\d[\d.,]*")


@dataclass(frozen=True)
class Reason:
    """How many images share a reason, and one of them with its own message."""

    count: int
    example: str
    message: str


def count_reasons(messages: Mapping[str, object]) -> list[Reason]:
    """Return the reasons of the messages, which are by image, the most frequent first.

    >>> count_reasons({"a": 'There is no image "a.png".', "b": 'There is no image "b.png".'})
    [Reason(count=2, example='a', message='There is no image "a.png".')]
    """
    images: dict[str, list[str]] = {}
    for image, message in messages.items():
        reason = _WORD.sub(_without_specifics, _QUOTED.sub("…", str(message)))
        images.setdefault(reason, []).append(image)
    reasons = [Reason(len(group), group[0], str(messages[group[0]])) for group in images.values()]
    return sorted(reasons, key=lambda reason: -reason.count)


def _without_specifics(word: re.Match[str]) -> str:
    return "…" if 0 < word[0].find(":/") < len(word[0]) - 2 else _PATH_OR_NUMBER.sub("…", word[0])


def log_reasons(log: logging.Logger, what: str, messages: Mapping[str, object]) -> None:
    """Log a warning with the number of images for each reason; `what` comes first, as "images without an embedding"."""
    reasons = count_reasons(messages)
    for reason in reasons[:_MOST_REASONS]:
        example = "for example " if reason.count > 1 else ""
        log.warning("%s: %d, %s%s: %s", what, reason.count, example, reason.example, reason.message)
    if more := sum(reason.count for reason in reasons[_MOST_REASONS:]):
        log.warning("%s: %d, for %d other reasons", what, more, len(reasons) - _MOST_REASONS)
