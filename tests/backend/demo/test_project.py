"""The demo's catalogue, and the labelling config that is made of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from PIL import Image

from taxonomist.backend.demo.project import CATALOGUE, CONTROL, label_config, read_catalogue, uploaded_name
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import parse_label_config


def test_catalogue_is_what_it_says() -> None:
    images = read_catalogue()
    files = sorted((CATALOGUE / "images").iterdir())
    assert sorted(image.file for image in images) == files
    assert 480 <= len(files) <= 540
    assert sum(file.stat().st_size for file in CATALOGUE.rglob("*") if file.is_file()) < 4_000_000
    assert all(line.endswith(",BlendSwap-CC-0") for line in (CATALOGUE / "manifest.csv").read_text().splitlines()[1:])
    licence = (CATALOGUE / "LICENSE.md").read_text()
    products = {image.product for image in images}
    assert f"{len(images)} small images of {len(products)} products" in licence
    assert len(products) >= 70
    with Image.open(files[0]) as image:
        assert (image.format, image.size) == ("JPEG", (160, 160))


def test_catalogue_can_be_learned_from() -> None:
    images = read_catalogue()
    views = Counter(image.product for image in images)
    assert min(views.values()) >= 6
    groups = defaultdict(set)
    for image in images:
        assert len(image.path) == 3
        groups[image.path[0]].add(image.product)
    assert len(groups) >= 5
    kinds = defaultdict(set)
    for image in images:
        kinds[image.path[:2]].add(image.product)
    assert sum(len(products) >= 2 for products in kinds.values()) > 0.9 * len(kinds)  # or they could not be tested
    assert min(len(products) for products in groups.values()) >= 4


def test_label_config_has_exactly_the_paths() -> None:
    paths = {image.path for image in read_catalogue()} | {('A "quoted" & <odd> name', "B's"), ("C",)}
    tree = parse_label_config(label_config(paths)).tree(CONTROL)
    leaves = {path for path, leaf in zip(tree.paths, tree.is_leaf, strict=True) if leaf}
    assert leaves == paths


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"manifest\.csv is missing"):
        read_catalogue(tmp_path)
    (tmp_path / "manifest.csv").write_text("file,level1,product\nnot-there.jpg,A,p1\n")
    with pytest.raises(ConfigError, match=r"not-there\.jpg"):
        read_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/data/upload/1/9b743160-0141_05.jpg", "0141_05.jpg"),
        ("http://ls:8080/data/upload/1/9b743160-B%C3%A4d-1.jpg?x=1", "Bäd-1.jpg"),
        ("/elsewhere/plain.jpg", ""),
    ],
)
def test_uploaded_name(uri: str, name: str) -> None:
    assert uploaded_name(uri) == name
