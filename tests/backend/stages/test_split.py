"""The stage that splits: by product, stratified, seeded, and rare classes repeated in training only."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxonomist.backend.stages.files import PARTS, Chosen, Placed, read_split, write_query
from taxonomist.backend.stages.split import NO_LABEL, SplitOptions, oversample, run_split, split
from taxonomist.taxonomy.errors import ConfigError

# Class sizes of the thesis (table 6.2).
THESIS = {"Bad": 216, "Install": 59, "Sort Out": 29, "Tools": 107}


def catalogue(sizes: dict[str, int] = THESIS, views: int = 3) -> list[Chosen]:
    """`views` pictures of each product, the last of a class perhaps fewer."""
    return [
        Chosen(f"{label}-{number:04d}", "x", group=f"{label}{number // views}", path=(label, f"{number % 2}"))
        for label, count in sizes.items()
        for number in range(count)
    ]


def labels_of(chosen: list[Chosen]) -> dict[str, str]:
    return {one.id: one.path[0] for one in chosen}


def test_parts_have_their_shares_of_each_class_and_products_stay_whole() -> None:
    chosen = catalogue()
    placed = split(chosen, labels_of(chosen), SplitOptions(test=0.2, validation=0.25))
    assert [one.id for one in placed] == sorted(one.id for one in chosen)
    parts: dict[str, set[str]] = {}
    for one, where in zip(sorted(chosen, key=lambda one: one.id), placed, strict=True):
        parts.setdefault(one.group, set()).add(where.part)
    assert all(len(each) == 1 for each in parts.values())
    count = Counter((one.label, one.part) for one in placed)
    for label, size in THESIS.items():
        assert abs(count[label, "test"] - 0.2 * size) <= 3
        assert abs(count[label, "validation"] - 0.2 * size) <= 4
        assert count[label, "train"] > 0.5 * size


def test_the_seed_alone_decides() -> None:
    chosen = catalogue()
    one = split(chosen, labels_of(chosen), SplitOptions(seed=1))
    assert split(list(reversed(chosen)), labels_of(chosen), SplitOptions(seed=1)) == one
    assert split(chosen, labels_of(chosen), SplitOptions(seed=2)) != one


def test_rare_classes_are_repeated_in_training_only() -> None:
    """Section 6.2.1: each class counts as many in training as the largest; test and validation stay the same."""
    chosen = catalogue()
    plain = split(chosen, labels_of(chosen), SplitOptions(oversample=False))
    placed = split(chosen, labels_of(chosen), SplitOptions(oversample=True))
    assert [(one.id, one.part) for one in placed] == [(one.id, one.part) for one in plain]
    assert {one.copies for one in plain} == {1}
    assert {one.copies for one in placed if one.part != "train"} == {1}
    training = Counter()
    for one in placed:
        if one.part == "train":
            training[one.label] += one.copies
    largest = sum(one.part == "train" and one.label == "Bad" for one in placed)
    assert training == dict.fromkeys(THESIS, largest)
    assert {one.copies for one in placed if one.part == "train" and one.label == "Bad"} == {1}


@given(st.dictionaries(st.text(max_size=4), st.sampled_from("abcd"), max_size=60), st.integers(0, 3))
def test_copies_make_all_classes_equal_and_as_even_as_can_be(classes: dict[str, str], seed: int) -> None:
    copies = oversample(classes, seed)
    assert copies.keys() == classes.keys()
    largest = max(Counter(classes.values()).values(), default=0)
    for label in set(classes.values()):
        mine = [copies[id] for id in classes if classes[id] == label]
        assert sum(mine) == largest
        assert max(mine) - min(mine) <= 1
        assert min(mine) >= 1


def test_copies_by_hand() -> None:
    copies = oversample({"a": "x", "b": "x", "c": "x", "d": "x", "e": "x", "f": "y", "g": "y"}, seed=0)
    assert sorted(copies[id] for id in "abcde") == [1, 1, 1, 1, 1]
    assert sorted(copies[id] for id in "fg") == [2, 3]


def test_the_test_set_stays_the_test_set_unless_drawn_anew() -> None:
    chosen = catalogue()
    marked = [
        Chosen(one.id, one.uri, group=one.group, path=one.path, part="test" if one.group == "Bad1" else "")
        for one in chosen
    ]
    assert all(
        one.part == "test"
        for seed in range(5)
        for one in split(marked, labels_of(marked), SplitOptions(seed=seed))
        if one.id in {"Bad-0003", "Bad-0004", "Bad-0005"}
    )
    anew = [split(marked, labels_of(marked), SplitOptions(seed=seed, keep=False)) for seed in range(5)]
    assert anew == [split(chosen, labels_of(chosen), SplitOptions(seed=seed)) for seed in range(5)]


def test_copies_of_one_file_stay_together() -> None:
    chosen = [Chosen(f"{number}", "x", file_hash=f"{number // 2}", path=("A",)) for number in range(40)]
    part = {one.id: one.part for one in split(chosen, labels_of(chosen), SplitOptions())}
    assert all(part[f"{number}"] == part[f"{number + 1}"] for number in range(0, 40, 2))


@pytest.mark.parametrize(("test", "validation"), [(0.0, 0.2), (0.2, 0.0), (0.0, 0.0)])
def test_a_part_may_be_empty(test: float, validation: float) -> None:
    chosen = catalogue()
    placed = split(chosen, labels_of(chosen), SplitOptions(test=test, validation=validation))
    there = {one.part for one in placed}
    assert ("test" in there, "validation" in there) == (test > 0, validation > 0)


def test_from_file_to_file_by_level(tmp_path: Path) -> None:
    shallow, unlabelled = Chosen("shallow", "x", path=("Bad",)), Chosen("none", "x")
    write_query(tmp_path / "query", [*catalogue(), shallow, unlabelled], {})
    done = run_split(tmp_path / "query", tmp_path / "split", SplitOptions(level=2, seed=3))
    assert done.left_out == {NO_LABEL: 1, "has a label that ends above level 2": 1}
    assert sum(done.pictures.values()) == sum(THESIS.values())
    placed = read_split(tmp_path / "split")
    assert len({one.label for one in placed}) == 8
    assert {one.number for one in placed} == set(range(8))
    assert {one.label for one in placed if one.number == 0} == {"Bad › 0"}
    report = json.loads((tmp_path / "split" / "split.json").read_text())
    assert (report["options"]["seed"], report["pictures"]) == (3, done.pictures)
    with (tmp_path / "split" / "split.csv").open(newline="", encoding="utf-8") as file:
        assert csv.DictReader(file).fieldnames == ["id", "part", "label", "class", "copies"]
    first = run_split(tmp_path / "query", tmp_path / "again", SplitOptions(level=1, seed=3))
    assert {counts.label for counts in first.classes} == set(THESIS)
    assert first.left_out == {NO_LABEL: 1}
    assert all(counts.copies == first.classes[0].copies for counts in first.classes)


def test_what_cannot_be_split_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data query"):
        run_split(tmp_path, tmp_path, SplitOptions())
    write_query(tmp_path, [Chosen("a", "x")], {})
    with pytest.raises(ConfigError, match="label of level 1"):
        run_split(tmp_path, tmp_path, SplitOptions())
    (tmp_path / "split.csv").write_text("id,part,label,class,copies\na,training,x,0,1\n")
    with pytest.raises(ConfigError, match="line 2"):
        read_split(tmp_path)


def test_a_line_is_read_as_it_was_written(tmp_path: Path) -> None:
    chosen = catalogue()
    write_query(tmp_path, chosen, {})
    run_split(tmp_path, tmp_path, SplitOptions(seed=5))
    assert read_split(tmp_path) == split(chosen, labels_of(chosen), SplitOptions(seed=5))
    assert isinstance(read_split(tmp_path)[0], Placed)
    assert {one.part for one in read_split(tmp_path)} == set(PARTS)
