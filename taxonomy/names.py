"""Names as people read them: two spellings that look the same are one name, similar ones are worth a question."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

from rapidfuzz.distance import OSA, Levenshtein

from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.redaction import redacted

_BLANKS = re.compile("[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_WITHOUT_SHAPE = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffd-\uffff]")
_SHORTEST = 3  # letters; of shorter names every pair differs by one letter
_LONGEST = 200  # letters of names that are compared; the memory that it takes grows with their square


@lru_cache(maxsize=65_536)
def clean_name(text: str) -> str:
    """Return the name in one spelling: NFC, any blanks as one blank, none at the ends, no characters without a shape.

    >>> clean_name("Garden\\u00a0 chair ")
    'Garden chair'
    """
    return _BLANKS.sub(" ", unicodedata.normalize("NFC", _WITHOUT_SHAPE.sub("", text))).strip(" ")


def shorten(value: object, most: int = 80) -> str:
    """Return a value from outside as a part of a message, a log line or a table: short, in one line, without secrets.

    >>> shorten("A" * 1000, 5)
    'AAAAA… (1,000 characters)'
    >>> shorten("two\\nlines")
    'two\\\\nlines'
    """
    text = str(value)
    shown = redacted(text[: most + 4096])[:most]  # before it is cut, which could leave half of a secret
    if not shown.isprintable():
        shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in shown)
    return shown if len(text) <= most else f"{shown}… ({len(text):,} characters)"


def unusable_character(text: str) -> str | None:
    """Return what no name may contain, in words: a control character, a line break, or the sign of a lost character."""
    found = _UNUSABLE.search(text)
    if found is None:
        return None
    if found[0] == "\ufffd":
        return f"the replacement character U+FFFD at position {found.start() + 1}: the text was damaged before"
    return f"the control character U+{ord(found[0]):04X} at position {found.start() + 1}"


def same_but_for_case(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of names that differ only in case or in the form of a letter, such as a full-width one."""
    first: dict[str, str] = {}
    for name in names:
        known = first.setdefault(_folded(name), name)
        if known != name:
            yield known, name


def one_letter_apart(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of names of which one has a letter more, another letter, or two neighbours in the other order.

    Case does not count. Digits and words of one letter are meant to differ, as in `Size 1` and `Size 2`, `Type A` and
    `Type B`. Names of more than 200 letters are not compared.
    """
    spelling = {_folded(name): name for name in names if len(name) <= _LONGEST}
    # Two names at most one letter apart become equal when a letter is left out of one or of both.
    near: defaultdict[str, list[str]] = defaultdict(list)
    for folded in spelling:
        for shorter in {folded, *(folded[:at] + folded[at + 1 :] for at in range(len(folded)))}:
            near[shorter].append(folded)
    seen: set[tuple[str, str]] = set()
    for group in near.values():
        for position, one in enumerate(group):
            for other in group[position + 1 :]:
                pair = (one, other) if one < other else (other, one)
                if pair not in seen and _is_slip(*pair):
                    seen.add(pair)
                    yield spelling[one], spelling[other]


def questionable_siblings(paths: Iterable[TaxonomyPath]) -> Iterator[tuple[TaxonomyPath, TaxonomyPath, str]]:
    """Yield pairs of nodes below one parent whose names differ by case or by one letter, and how they differ."""
    below: defaultdict[TaxonomyPath, dict[str, None]] = defaultdict(dict)
    for path in paths:
        for level, name in enumerate(path):
            below[path[:level]][name] = None
    for parent, names in below.items():
        for one, other in same_but_for_case(names):
            yield (*parent, one), (*parent, other), "differ only in case"
        for one, other in one_letter_apart(names):
            yield (*parent, one), (*parent, other), "differ by one letter"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _is_slip(one: str, other: str) -> bool:
    if max(len(one), len(other)) < _SHORTEST or OSA.distance(one, other, score_cutoff=1) != 1:
        return False
    changed = ""
    for edit in Levenshtein.editops(one, other):
        changed += "" if edit.tag == "insert" else one[edit.src_pos]
        changed += "" if edit.tag == "delete" else other[edit.dest_pos]
    words = list(zip(one.split(), other.split(), strict=False))
    single = any(a != b and len(a) == len(b) == 1 for a, b in words)
    return not single and not any(map(str.isdigit, changed))
