"""The stage that splits: by product, stratified, seeded, and rare classes repeated in training only."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxonomist.backend.data_stages.files import PARTS, ChosenImage, PlacedImage, read_split, write_query
from taxonomist.backend.data_stages.split import (
    BULK_IN_TEST,
    NO_LABEL,
    SplitOptions,
    oversample,
    run_split,
    split_images,
)
from taxonomist.storage.embeddings import FolderEmbeddings
from taxonomist.taxonomy.errors import ConfigError

# Class sizes of the thesis (table 6.2).
THESIS = {"Bad": 216, "Install": 59, "Sort Out": 29, "Tools": 107}


def catalogue(sizes: dict[str, int] = THESIS, views: int = 3) -> list[ChosenImage]:
    """Return `views` images of each product, perhaps fewer of the last product of a class."""
    return [
        ChosenImage(f"{label}-{number:04d}", "x", group=f"{label}{number // views}", path=(label, f"{number % 2}"))
        for label, count in sizes.items()
        for number in range(count)
    ]


def labels_of(chosen: list[ChosenImage]) -> dict[str, str]:
    return {image.id: image.path[0] for image in chosen}


def test_parts_have_their_shares_of_each_class_and_products_stay_whole() -> None:
    chosen = catalogue()
    placed = split_images(chosen, labels_of(chosen), SplitOptions(test=0.2, validation=0.25))
    assert [image.id for image in placed] == sorted(image.id for image in chosen)
    parts: dict[str, set[str]] = {}
    for image, place in zip(sorted(chosen, key=lambda image: image.id), placed, strict=True):
        parts.setdefault(image.group, set()).add(place.part)
    assert all(len(parts_of_group) == 1 for parts_of_group in parts.values())
    count = Counter((image.label, image.part) for image in placed)
    for label, size in THESIS.items():
        assert abs(count[label, "test"] - 0.2 * size) <= 3
        assert abs(count[label, "validation"] - 0.2 * size) <= 4
        assert count[label, "train"] > 0.5 * size


def test_the_seed_alone_decides() -> None:
    chosen = catalogue()
    first = split_images(chosen, labels_of(chosen), SplitOptions(seed=1))
    assert split_images(list(reversed(chosen)), labels_of(chosen), SplitOptions(seed=1)) == first
    assert split_images(chosen, labels_of(chosen), SplitOptions(seed=2)) != first


def test_rare_classes_are_repeated_in_training_only() -> None:
    """Section 6.2.1: each class counts as many in training as the largest; test and validation stay the same."""
    chosen = catalogue()
    plain = split_images(chosen, labels_of(chosen), SplitOptions(oversample=False))
    placed = split_images(chosen, labels_of(chosen), SplitOptions(oversample=True))
    assert [(image.id, image.part) for image in placed] == [(image.id, image.part) for image in plain]
    assert {image.copies for image in plain} == {1}
    assert {image.copies for image in placed if image.part != "train"} == {1}
    training: Counter[str] = Counter()
    for image in placed:
        if image.part == "train":
            training[image.label] += image.copies
    largest = sum(image.part == "train" and image.label == "Bad" for image in placed)
    assert training == dict.fromkeys(THESIS, largest)
    assert {image.copies for image in placed if image.part == "train" and image.label == "Bad"} == {1}


@given(st.dictionaries(st.text(max_size=4), st.sampled_from("abcd"), max_size=60), st.integers(0, 3))
def test_copies_make_classes_equal_and_differ_by_one_at_most(classes: dict[str, str], seed: int) -> None:
    copies = oversample(classes, seed)
    assert copies.keys() == classes.keys()
    largest = max(Counter(classes.values()).values(), default=0)
    for label in set(classes.values()):
        mine = [copies[id] for id in classes if classes[id] == label]
        assert sum(mine) == largest
        assert max(mine) - min(mine) <= 1
        assert min(mine) >= 1


def test_copies_of_a_small_example() -> None:
    copies = oversample({"a": "x", "b": "x", "c": "x", "d": "x", "e": "x", "f": "y", "g": "y"}, seed=0)
    assert sorted(copies[id] for id in "abcde") == [1, 1, 1, 1, 1]
    assert sorted(copies[id] for id in "fg") == [2, 3]


def test_the_test_set_stays_the_test_set_unless_redrawn() -> None:
    chosen = catalogue()
    marked = [
        ChosenImage(
            image.id, image.uri, group=image.group, path=image.path, part="test" if image.group == "Bad1" else ""
        )
        for image in chosen
    ]
    assert all(
        image.part == "test"
        for seed in range(5)
        for image in split_images(marked, labels_of(marked), SplitOptions(seed=seed))
        if image.id in {"Bad-0003", "Bad-0004", "Bad-0005"}
    )
    redrawn = [split_images(marked, labels_of(marked), SplitOptions(seed=seed, keep=False)) for seed in range(5)]
    assert redrawn == [split_images(chosen, labels_of(chosen), SplitOptions(seed=seed)) for seed in range(5)]


def test_what_was_labelled_in_one_action_is_not_tested(tmp_path: Path) -> None:
    names = [f"{number:03}" for number in range(80)]
    chosen = [
        ChosenImage(name, "x", group=name[:2], bulk="yes" if name[2] in "13579" else "", path=("AB"[int(name[1]) % 2],))
        for name in names
    ]
    write_query(tmp_path, chosen, {})
    result = run_split(tmp_path, tmp_path, SplitOptions())
    placed = {image.id: image.part for image in read_split(tmp_path)}
    assert {placed[name] for name in placed if name[2] in "13579"} == {"train", "validation"}
    left_out = [name for name in names if name not in placed]
    assert result.left_out == {BULK_IN_TEST: len(left_out)}
    assert result.images["test"] == len(left_out) == 10


def test_copies_of_one_file_stay_together() -> None:
    chosen = [ChosenImage(f"{number}", "x", file_hash=f"{number // 2}", path=("A",)) for number in range(40)]
    part = {image.id: image.part for image in split_images(chosen, labels_of(chosen), SplitOptions())}
    assert all(part[f"{number}"] == part[f"{number + 1}"] for number in range(0, 40, 2))


@pytest.mark.parametrize(("test", "validation"), [(0.0, 0.2), (0.2, 0.0), (0.0, 0.0)])
def test_a_part_may_be_empty(test: float, validation: float) -> None:
    chosen = catalogue()
    placed = split_images(chosen, labels_of(chosen), SplitOptions(test=test, validation=validation))
    parts = {image.part for image in placed}
    assert ("test" in parts, "validation" in parts) == (test > 0, validation > 0)


def test_from_file_to_file_by_level(tmp_path: Path) -> None:
    shallow, unlabelled = ChosenImage("shallow", "x", path=("Bad",)), ChosenImage("none", "x")
    write_query(tmp_path / "query", [*catalogue(), shallow, unlabelled], {})
    result = run_split(tmp_path / "query", tmp_path / "split", SplitOptions(level=2, seed=3))
    assert result.left_out == {NO_LABEL: 1, "has a label that ends above level 2": 1}
    assert sum(result.images.values()) == sum(THESIS.values())
    placed = read_split(tmp_path / "split")
    assert len({image.label for image in placed}) == 8
    assert {image.number for image in placed} == set(range(8))
    assert {image.label for image in placed if image.number == 0} == {"Bad › 0"}
    report = json.loads((tmp_path / "split" / "split.json").read_text())
    assert (report["options"]["seed"], report["images"], report["pictures"]) == (3, result.images, result.images)
    with (tmp_path / "split" / "split.csv").open(newline="", encoding="utf-8") as file:
        assert csv.DictReader(file).fieldnames == ["id", "part", "label", "class", "copies"]
    first = run_split(tmp_path / "query", tmp_path / "again", SplitOptions(level=1, seed=3))
    assert {counts.label for counts in first.classes} == set(THESIS)
    assert first.left_out == {NO_LABEL: 1}
    assert all(counts.copies == first.classes[0].copies for counts in first.classes)


def test_what_cannot_be_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data query"):
        run_split(tmp_path, tmp_path, SplitOptions())
    write_query(tmp_path, [ChosenImage("a", "x")], {})
    with pytest.raises(ConfigError, match="label of level 1"):
        run_split(tmp_path, tmp_path, SplitOptions())
    (tmp_path / "split.csv").write_text("id,part,label,class,copies\na,training,x,0,1\n")
    with pytest.raises(ConfigError, match="line 2"):
        read_split(tmp_path)


def test_a_row_is_read_as_it_was_written(tmp_path: Path) -> None:
    chosen = catalogue()
    write_query(tmp_path, chosen, {})
    run_split(tmp_path, tmp_path, SplitOptions(seed=5))
    assert read_split(tmp_path) == split_images(chosen, labels_of(chosen), SplitOptions(seed=5))
    assert isinstance(read_split(tmp_path)[0], PlacedImage)
    assert {image.part for image in read_split(tmp_path)} == set(PARTS)


def test_near_duplicates_stay_together_where_products_are_not_known(tmp_path: Path) -> None:
    """As in a training. Two images of known products are never joined, and one without embedding cannot be."""
    random = np.random.default_rng(0)
    vectors = random.normal(3, 1, (20, 32)).repeat(2, axis=0) + random.normal(0, 0.03, (40, 32))
    store = FolderEmbeddings(tmp_path / "embeddings", 32)
    ids = [f"{number:02d}" for number in range(40)]
    store.append([*ids, "known a", "known b"], np.concatenate([vectors, vectors[:1], vectors[:1]]).astype(np.float32))
    chosen = [ChosenImage(id, "x", path=("A",)) for id in ids]
    chosen += [ChosenImage(f"known {name}", "x", group=name, path=("A",)) for name in "ab"]
    write_query(tmp_path, [*chosen, ChosenImage("not embedded", "x", path=("A",))], {})
    result = run_split(tmp_path, tmp_path, SplitOptions(), lambda: (store, 0.02))
    assert (result.without_product, result.near_duplicates, result.not_embedded) == (41, 40, 1)
    part = {image.id: image.part for image in read_split(tmp_path)}
    assert all(part[one] == part[other] for one, other in zip(ids[::2], ids[1::2], strict=True))
    assert json.loads((tmp_path / "split.json").read_text())["near_duplicates"] == 40

    alone = run_split(tmp_path, tmp_path, SplitOptions())
    assert (alone.without_product, alone.near_duplicates, alone.not_embedded) == (41, 0, 41)
    part = {image.id: image.part for image in read_split(tmp_path)}
    assert not all(part[one] == part[other] for one, other in zip(ids[::2], ids[1::2], strict=True))


def test_embeddings_are_not_opened_where_all_products_are_known(tmp_path: Path) -> None:
    write_query(tmp_path, catalogue(), {})
    result = run_split(tmp_path, tmp_path, SplitOptions(), lambda: pytest.fail("not needed"))
    assert (result.without_product, result.not_embedded) == (0, 0)
