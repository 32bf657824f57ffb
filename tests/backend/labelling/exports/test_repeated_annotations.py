"""Several annotations with one id in one file: the order in the file and a second import make no difference."""

from __future__ import annotations

import copy
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.labelling.exports.identity import differ
from taxonomist.backend.labelling.exports.repeated_annotations import IN_TWO_FORMS, OLDER_ANNOTATION
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from tests.backend.labelling.exports.conftest import labels
from tests.backend.labelling.test_label_studio_export import BLUE, GREEN, RED, annotation, write

Tasks = list[dict[str, Any]]
SECOND = "2026-01-05T10:00:00"


def form(
    path: list[str], person: int, created: str | None, updated: str | None = None, **fields: Any
) -> dict[str, Any]:
    """Return annotation 1 with times in the same second: `created` and `updated` are what follows it."""
    times = {
        "created_at": None if created is None else f"{SECOND}{created}Z",
        "updated_at": None if created is None else f"{SECOND}{created if updated is None else updated}Z",
    }
    return annotation(1, person, path, ground_truth=True, **times, **fields)


def in_one_task(forms: Tasks) -> Tasks:
    return [{"id": 1, "data": {"image": "/a.jpg"}, "annotations": forms}]


def in_an_export_that_was_made_twice(forms: Tasks) -> Tasks:
    return [{"id": 1, "data": {"image": "/a.jpg"}, "annotations": [found]} for found in forms]


def of_a_target_storage(forms: Tasks) -> Tasks:
    return [{**found, "task": {"id": 1, "data": {"image": "/a.jpg"}}} for found in forms]


CASES: dict[str, tuple[Tasks, list[str]]] = {
    "of two people": ([form(RED, 3, ".100001"), form(BLUE, 4, ".400002")], BLUE),
    "of one person": ([form(RED, 3, ".100001"), form(BLUE, 3, ".400002")], BLUE),
    "made together, changed apart": ([form(RED, 3, ".1", ".7"), form(BLUE, 4, ".1", ".2")], RED),
    "made apart, changed together": ([form(RED, 3, ".2", ".9"), form(BLUE, 4, ".100001", ".9")], RED),
    "exact and in whole seconds": ([form(RED, 3, ".400002"), form(BLUE, 3, "")], RED),
    "equal times": ([form(RED, 3, ".1"), form(BLUE, 4, ".1")], RED),
    "equal times of one person": ([form(BLUE, 3, ".1"), form(RED, 3, ".1"), form(GREEN, 3, ".1")], RED),
    "whole seconds": ([form(BLUE, 3, ""), form(GREEN, 4, "")], GREEN),
    "no times": ([form(RED, 3, None), form(BLUE, 4, None)], RED),
    "a time and none": ([form(BLUE, 3, ".1"), form(RED, 4, None)], BLUE),
    "unique ids": ([form(RED, 3, ".1", unique_id="u"), form(BLUE, 4, ".4", unique_id="v")], BLUE),
    "three": ([form(RED, 3, ".1"), form(GREEN, 4, ".2"), form(BLUE, 5, ".2")], GREEN),
}


@pytest.mark.parametrize("shape", [in_one_task, in_an_export_that_was_made_twice, of_a_target_storage])
@pytest.mark.parametrize("case", CASES)
def test_the_same_form_counts_in_any_order(known: Services, tmp_path: Path, case: str, shape: Any) -> None:
    forms, expected = CASES[case]
    position = None
    for order in itertools.permutations(forms):
        for _ in range(2):
            done = import_export(known, write(tmp_path, shape(copy.deepcopy(list(order)))), project="7")
            assert labels(known) == {"/a.jpg": expected}
            assert (done.images, done.annotations, done.left_out) == (1, 1, len(forms) - 1)
            assert set(done.left_out_reasons) <= {IN_TWO_FORMS, OLDER_ANNOTATION}
            assert position in {None, known.journal.position()}  # nothing more is recorded
            position = known.journal.position()


def test_the_same_annotation_twice_is_no_second_form(known: Services, tmp_path: Path) -> None:
    older = form(RED, 3, ".1", ".2")
    tasks = in_an_export_that_was_made_twice([form(RED, 3, ".1", ".7"), older, copy.deepcopy(older)])
    done = import_export(known, write(tmp_path, tasks), project="7")
    assert (labels(known), done.annotations, done.left_out) == ({"/a.jpg": RED}, 1, 0)


@pytest.mark.parametrize("others", [(".400002", ".900003"), (".400002", ".400002"), (".4", ".9")])
def test_two_annotations_of_one_second_under_two_tasks_are_two(
    known: Services, tmp_path: Path, others: tuple[str, str]
) -> None:
    """Each task numbers its annotations from 1, and a program made them at once."""
    first, second = form(RED, 3, ".100001", ".100001"), form(BLUE, 4, *others)
    tasks = [
        {"id": 1, "data": {"image": "/a.jpg"}, "annotations": [first]},
        {"id": 2, "data": {"image": "/b.jpg"}, "annotations": [second]},
    ]
    for order in (tasks, tasks[::-1], tasks):
        done = import_export(known, write(tmp_path, order), project="7")
        assert labels(known) == {"/a.jpg": RED, "/b.jpg": BLUE}
        assert (done.annotations, done.left_out) == (2, 0)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (0, 0, False),
        (0, 900_000, False),  # one in whole seconds
        (100_001, 100_002, True),
        (100_000, 100_001, False),  # one in milliseconds
        (100_000, 101_000, True),
        (100_000, 102_500, True),
        (900_000, 1_000_000, False),
        (0, 1_000_000, True),
        (999_999, 1_000_001, True),
    ],
)
def test_times_differ_as_far_as_both_are_exact(one: int, other: int, expected: bool) -> None:
    times = [datetime.fromtimestamp(1_767_000_000 + part // 1_000_000, UTC).replace(microsecond=part % 1_000_000)
             for part in (one, other)]  # fmt: skip
    assert differ(*times) is differ(*reversed(times)) is expected
