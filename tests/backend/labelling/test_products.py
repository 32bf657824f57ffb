"""The product of an image: from a field of its task, or from the name of its file."""

from __future__ import annotations

from typing import Any

import pytest

from taxonomist.backend.labelling.products import ProductImage, product_of, propose_product_field, with_product
from taxonomist.storage.catalog.documents import ProjectLabels


@pytest.mark.parametrize(
    ("product_field", "data", "uri", "product"),
    [
        ("sku", {"sku": "A 1"}, "", "A 1"),
        ("sku", {"sku": 17}, "", "17"),
        ("sku", {"sku": "  A \u00a0 1 "}, "", "A 1"),
        ("sku", {"sku": "Mu\u0308hle"}, "", "M\u00fchle"),
        ("sku", {"sku": ["b", "a"]}, "", "a, b"),
        ("sku", {}, "", None),
        ("sku", {"sku": None}, "", None),
        ("sku", {"sku": " "}, "", None),
        ("sku", {"sku": True}, "", None),
        ("meta.sku", {"meta": {"sku": "A1"}}, "", "A1"),
        ("meta.sku", {"meta.sku": "A2"}, "", "A2"),
        ("meta.sku", {"meta": "no object"}, "", None),
        ("{product}_*", {}, "https://x/some/A-1_2.jpg?sig=a_b", "A-1"),
        ("{product}_*", {}, "s3://bucket/a/A_1_2.jpg", "A_1"),
        ("{product}_*.jpg", {}, "/data/upload/4/9b743160-0141_05.jpg", "0141"),
        ("{product}_*.jpg", {}, "/data/upload/4/9b743160-0141_05.png", None),
        ("{product}_*", {}, "/data/local-files/?d=shop/A%201_2.jpg", "A 1"),
        ("{product}_*", {}, "https://x/A%201_2.jpg", "A 1"),
        ("{product}_*", {}, "/srv/images/plain.jpg", None),
        ("{product}/*", {}, "https://x/shop/A1/front.jpg", "A1"),
        ("shop/{product}/*", {}, "https://x/shop/A1/front.jpg", "A1"),
        ("shop/{product}/*", {}, "https://x/other/A1/front.jpg", None),
        ("img-{product}.jpg", {}, "https://x/img-A1.jpg", "A1"),
    ],
)  # fmt: skip
def test_product_of(product_field: str, data: dict[str, Any], uri: str, product: str | None) -> None:
    assert product_of(product_field, ProductImage(data, uri)) == product


def images(count: int, **fields: Any) -> list[ProductImage]:
    """Return tasks; each field is a function of the task's number."""
    return [
        ProductImage({"image": f"https://x/{n}.jpg", **{name: value(n) for name, value in fields.items()}}, f"https://x/{n}.jpg")
        for n in range(count)
    ]  # fmt: skip


def test_a_field_with_fewer_values_than_tasks_and_more_than_classes_is_proposed() -> None:
    assert propose_product_field(images(60, batch=lambda n: n % 3, ref=lambda n: f"r{n // 4}"), 6) == "ref"
    assert propose_product_field(images(60, batch=lambda n: n % 3), 6) is None
    assert propose_product_field(images(60, key=lambda n: f"k{n}"), 6) is None  # each task its own
    assert propose_product_field(images(60, note=lambda n: "x" * 200 + str(n // 4)), 6) is None
    assert propose_product_field(images(60, other=lambda n: f"https://x/{n // 4}"), 6) is None
    assert propose_product_field(images(60, ref=lambda n: f"r{n // 4}" if n < 30 else None), 6) is None
    assert propose_product_field([], 6) is None


def test_a_usual_name_needs_no_more_values_than_classes() -> None:
    assert propose_product_field(images(60, sku=lambda n: n % 6, ref=lambda n: f"r{n // 4}"), 6) == "sku"
    assert propose_product_field(images(60, sku=lambda n: 1), 6) is None


def test_a_usual_name_needs_more_values_than_classes_when_no_person_is_asked() -> None:
    assert propose_product_field(images(60, item_state=lambda n: n % 2), 6) == "item_state"
    assert propose_product_field(images(60, item_state=lambda n: n % 2), 6, asked=False) is None
    assert propose_product_field(images(60, sku=lambda n: n // 4), 6, asked=False) == "sku"


@pytest.mark.parametrize("name", ["IMG_202401{d:02}_12{v:02}.jpg", "2024-01-{d:02}_{v}.jpg", "202401{d:02}-{v}.jpg"])
def test_the_day_of_an_image_is_no_product(name: str) -> None:
    tasks = [ProductImage({}, "https://x/" + name.format(d=1 + n // 4, v=n % 4)) for n in range(60)]
    assert propose_product_field(tasks, 6) is None


def test_times_states_and_names_that_cannot_be_written_are_not_proposed() -> None:
    assert propose_product_field(images(600, captured_at=lambda n: f"{n // 1.01}"), 6) is None
    assert propose_product_field(images(600, item_condition=lambda n: "new" if n % 2 else "used"), 1) is None
    assert propose_product_field(images(60, **{"SKU*": lambda n: n // 4}), 6) is None


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("{p}_{v}.jpg", "{product}_*"), ("{p}-{v}.jpg", "{product}-*"), ("{p}/{v}.jpg", "{product}/*")],
)
def test_a_prefix_or_a_folder_of_the_file_is_proposed(name: str, pattern: str) -> None:
    tasks = [ProductImage({}, "https://x/" + name.format(p=f"sku{n // 4}", v=n % 4)) for n in range(60)]
    assert propose_product_field(tasks, 6) == pattern


def test_a_manifests_product_stays_and_a_field_that_is_not_used_any_more_names_none() -> None:
    manifest = ProjectLabels(uri="a.jpg", group="from the manifest")
    assert with_product(manifest, None, []).group == "from the manifest"
    assert with_product(manifest, "sku", [{}]).group == "from the manifest"
    both = with_product(manifest, "sku", [{"sku": "A"}])
    assert with_product(both, None, [{"sku": "A"}]).group == both.group == "from the manifest"
    named = with_product(ProjectLabels(uri="a.jpg"), "sku", [{"sku": "A"}])
    assert (named.group, named.group_by) == ("A", "sku")
    assert with_product(named, "report", [{"sku": "A"}]).group is None
    pattern = with_product(ProjectLabels(uri="https://x/A_1.jpg"), "{product}_*", [])
    assert (pattern.group, pattern.group_by) == ("A", "{product}_*")
    assert with_product(named, None, [{"sku": "A"}]).group is None
