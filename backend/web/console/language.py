"""The language of a reader: sentences, numbers and times in English or German.

The English sentence is the key of its translation. A number that decides between two forms is `count`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from flask import Request

from taxonomist.backend.web.console.german import GERMAN
from taxonomist.backend.web.console.german_panel import GERMAN_PANEL

Code = Literal["en", "de"]
LANGUAGE = "taxonomist_language"  # the cookie with the language that a reader has chosen
_MONTHS: Mapping[Code, str] = {
    "en": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "de": "Jan. Feb. März Apr. Mai Juni Juli Aug. Sep. Okt. Nov. Dez.",
}
_GERMAN = {**GERMAN_PANEL, **GERMAN}
_NO_BREAK = "\u00a0"
AGES = (
    (86_400, "1 day ago", "{count} days ago"),
    (3600, "1 hour ago", "{count} hours ago"),
    (60, "1 minute ago", "{count} minutes ago"),
)


@dataclass(frozen=True)
class Language:
    """English or German."""

    code: Code = "en"

    def t(self, sentence: str, **values: object) -> str:
        """Return a sentence with its values, in this language. Raises `KeyError` for one without a translation."""
        return (_GERMAN[sentence] if self.code == "de" else sentence).format(**values)

    def n(self, count: int, one: str, many: str, **values: object) -> str:
        """Return the sentence for 1 or for another number, which is `{count}` in it."""
        return self.t(one if count == 1 else many, count=self.number(count), **values)

    def number(self, value: float, digits: int = 0) -> str:
        """Return a number with this language's marks: `1,284.5` or `1.284,5`."""
        text = f"{value:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.code == "de" else text

    def score(self, value: float) -> str:
        """Return a score of 0 to 1 with two digits: `.54` or `0,54`."""
        return self.number(value, 2).removeprefix("0") if self.code == "en" and value < 1 else self.number(value, 2)

    def percent(self, share: float) -> str:
        """Return a share of 0 to 1 in percent: `93 %`. What is not all is not `100 %`, nor something `0 %`."""
        shown = round(100 * share)
        if share not in (0, 1):
            shown = min(max(shown, 1), 99)
        return f"{shown}{_NO_BREAK}%"

    def date(self, at: datetime) -> str:
        """Return a day: `24 Nov 2026` or `24. Nov. 2026`; of the times, UTC counts."""
        at = at.astimezone(UTC)
        month = _MONTHS[self.code].split(" ")[at.month - 1]
        return f"{at.day}{'.' if self.code == 'de' else ''}{_NO_BREAK}{month}{_NO_BREAK}{at.year}"

    def ago(self, at: datetime, now: datetime | None = None) -> str:
        """Return the age of a time: `2 hours ago`."""
        seconds = ((now or datetime.now(UTC)) - at).total_seconds()
        for length, one, many in AGES:
            if seconds >= length:
                return self.n(int(seconds // length), one, many)
        return self.t("just now")


def readers_language(request: Request) -> Language:
    """Return the language of the reader who sends a request."""
    return best_language(request.cookies.get(LANGUAGE), request.headers.get("Accept-Language"))


def best_language(chosen: str | None, accepted: str | None) -> Language:
    """Return the language that a reader has `chosen`, else the one of both that their browser prefers.

    `accepted` is the header `Accept-Language`.
    """
    if chosen in ("en", "de"):
        return Language("de" if chosen == "de" else "en")
    best, best_quality = "en", 0.0
    for entry in (accepted or "")[:500].split(","):
        name, _, parameter = entry.strip().lower().partition(";")
        try:
            quality = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        if name.partition("-")[0] in ("en", "de") and quality > best_quality:
            best, best_quality = name.partition("-")[0], quality
    return Language("de" if best == "de" else "en")
