"""Messages about many images: one line for each reason."""

from __future__ import annotations

import logging

import pytest

from taxonomist.inference.reasons import Reason, count_reasons, log_reasons


def test_messages_that_differ_in_names_and_numbers_only_are_one_reason() -> None:
    messages = {
        "a": 'There is no image "a b.png" in the folder.',
        "b": "The image at https://host/b.png?x=1 is not available: host answered 503.",
        "c": 'There is no image "c.png" in the folder.',
        "d": "The image at https://host/d.png is not available: host answered 502.",
        "e": "The image is too large: 20000 x 3,000 pixels.",
        "f": 'There is no image "f.png" in the folder.',
    }
    assert count_reasons(messages) == [
        Reason(3, "a", messages["a"]),
        Reason(2, "b", messages["b"]),
        Reason(1, "e", messages["e"]),
    ]


def test_no_messages_give_no_line(caplog: pytest.LogCaptureFixture) -> None:
    log_reasons(logging.getLogger("x"), "images left out", {})
    assert caplog.messages == []


def test_one_line_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    messages = {f"{n}.jpg": f'There is no image "{n}.jpg".' for n in range(500)} | {"x.jpg": "It is damaged."}
    log_reasons(logging.getLogger("x"), "project 4: images left out", messages)
    assert caplog.messages == [
        'project 4: images left out: 500, for example 0.jpg: There is no image "0.jpg".',
        "project 4: images left out: 1, x.jpg: It is damaged.",
    ]


def test_many_reasons_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    letters = "abcdefghijklmno"
    log_reasons(logging.getLogger("x"), "images left out", {letter: f"Reason {letter}." for letter in letters})
    assert len(caplog.messages) == 11
    assert caplog.messages[-1] == "images left out: 5, for 5 other reasons"
