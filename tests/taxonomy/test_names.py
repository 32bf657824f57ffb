"""Two spellings that look the same are one name; names that are nearly the same are asked about."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from taxonomist.taxonomy.names import (
    clean_name,
    one_letter_apart,
    questionable_siblings,
    same_but_for_case,
    shorten,
    unusable_character,
)


@pytest.mark.parametrize(
    "spelling",
    [
        "Küchen Möbel",
        unicodedata.normalize("NFD", "Küchen Möbel"),
        "Küchen\u00a0Möbel",
        "Küchen  Möbel",
        " Küchen Möbel\u2003",
        "\ufeffKüchen\u202fMöbel",
        "Küchen\u200b Mö\u00adbel",
        "Ku\u200b\u0308chen Möbel",
    ],
)
def test_spellings_of_one_name(spelling: str) -> None:
    assert clean_name(spelling) == "Küchen Möbel"


@given(st.text())
def test_a_clean_name_stays_as_it_is(text: str) -> None:
    assert clean_name(clean_name(text)) == clean_name(text)


@pytest.mark.parametrize(
    "character", ["\x00", "\t", "\n", "\x0b", "\x1f", "\x7f", "\x85", "\u2028", "\udcfc", "\ufffe"]
)
def test_control_characters(character: str) -> None:
    assert unusable_character(f"Ta{character}ble") == f"the control character U+{ord(character):04X} at position 3"


def test_a_replacement_character_is_a_lost_letter() -> None:
    assert "U+FFFD at position 2" in (unusable_character("K\ufffdche") or "")
    assert unusable_character("Küche 厨房 👩‍🍳") is None


def test_case() -> None:
    names = ["table", "Table", "chair", "Straße", "STRASSE", "ﬁn", "fin"]
    assert list(same_but_for_case(names)) == [("table", "Table"), ("Straße", "STRASSE"), ("ﬁn", "fin")]


@pytest.mark.parametrize(
    ("one", "other", "asked"),
    [
        ("Table", "Tabel", True),  # two letters in the other order
        ("Sink", "Sinks", True),
        ("Sink", "Sing", True),
        ("Sofa bed", "Sofabed", True),
        ("Küche", "kuche", True),
        ("Table", "Cable car", False),
        ("Size 1", "Size 2", False),  # numbers are meant to differ
        ("Bed90", "Bed9", False),
        ("Type A", "Type B", False),
        ("TV", "PV", False),
    ],
)
def test_one_letter(one: str, other: str, asked: bool) -> None:
    assert list(one_letter_apart([one, other])) == ([(one, other)] if asked else [])


@given(st.lists(st.text("abcd", min_size=3, max_size=6), unique=True, max_size=30))
def test_one_letter_apart_compares_all_pairs(names: list[str]) -> None:
    """The same pairs as an independent comparison of each with each."""
    found = {frozenset(pair) for pair in one_letter_apart(names)}
    assert found == {frozenset((a, b)) for a in names for b in names if OSA.distance(a, b) == 1}


def test_only_siblings_are_compared() -> None:
    paths = [("Kitchen", "Table"), ("Dining", "table"), ("kitchen", "Sink"), ("Kitchen", "Tables")]
    assert list(questionable_siblings(paths)) == [
        (("Kitchen",), ("kitchen",), "differ only in case"),
        (("Kitchen", "Table"), ("Kitchen", "Tables"), "differ by one letter"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ""),
        (7, "7"),
        ("a" * 80, "a" * 80),
        ("a" * 81, "a" * 80 + "… (81 characters)"),
        ("Stühle › Böcke", "Stühle › Böcke"),
        ("a\nb\x1b[2J\ud800", "a\\nb\\x1b[2J\\ud800"),
        ({"k": "v" * 1000}, "{'k': '" + "v" * 73 + "… (1,009 characters)"),
    ],
)
def test_a_value_in_a_message_is_short_and_in_one_line(value: object, expected: str) -> None:
    assert shorten(value) == expected
    assert shorten(value).isprintable()
