"""What a page says, and what templates ask to be translated."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from html.parser import HTMLParser
from pathlib import Path

ENGLISH = re.compile(r"\b(the|of|is|are|and|not|no|has|have|with|waits?|from|on|label studio's)\b", re.IGNORECASE)
"""Words that a German sentence does not have."""


class PageText(HTMLParser):
    """Collects what a reader of the page's language sees or hears; text in other languages is left out."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code, self.found, self.tags = code, list[str](), list[str]()
        self._languages: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(f"{tag} {values}")
        if tag not in {"meta", "link", "input", "rect", "circle", "line", "polyline", "img", "br"}:
            self._languages.append((tag, values.get("lang")))
        self.found += [values[name] or "" for name in ("aria-label", "title", "alt") if name in values]

    def handle_endtag(self, tag: str) -> None:
        while self._languages and self._languages.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        spoken = next((lang for _, lang in reversed(self._languages) if lang), self.code)
        if spoken == self.code and data.strip() and self._languages[-1][0] not in {"pre", "code"}:
            self.found.append(data.strip())


def sentences_of_templates(folder: Path, known: Container[str]) -> set[str]:
    """Return the sentences that the templates of a package ask for, as they are written there."""
    found: set[str] = set()
    for template in folder.glob("templates/*.html"):
        text = template.read_text(encoding="utf-8")
        for call in re.findall(r"\b[tn]\((.*?)\)(?:\s|\}|<|~|%|$)", text, flags=re.DOTALL):
            words = {first or second for first, second in re.findall(r"\"([^\"]*)\"|'([^']*)'", call)}
            found |= {word for word in words if word in known or re.search(r"\w \w", word)}
    return found


def own_words(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield the templates of a package, and the words that each has outside of sentences to translate."""
    for template in folder.glob("templates/*.html"):
        text = template.read_text(encoding="utf-8")
        text = re.sub(
            r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<pre>.*?</pre>|<code>.*?</code>|<!doctype html>",
            "",
            text,
            flags=re.DOTALL,
        )
        text = re.sub(r'\b(?:title|aria-label|alt)="([^"]*)"', r">\1<", text)
        yield template.name, set(re.findall(r"[A-Za-zÄÖÜäöüß]{2,}", re.sub(r"<[^>]*>|&\w+;", " ", text)))
