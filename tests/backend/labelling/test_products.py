"""The product of an image: from a field of its task, or from the name of its file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from taxonomist.backend.labelling.products import ProductImage, product_of, propose_product_field, with_product
from taxonomist.storage.catalog.documents import ProjectLabels
from taxonomist.storage.journal import TaskRecord, is_label_studio


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


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "IMG_{n:04}.jpg",
        "DSC{n:04}.JPG",
        "DSC_{n:04}.JPG",
        "img-{g:04}_{v}.jpg",  # several exposures of one shot
        "DSC{g:05}-{v}.JPG",
        "DCIM/1{g:02}CANON/IMG_{v}.JPG",
        "IMG_202401{d:02}_12{v:02}.jpg",
        "IMG_202401{d:02}_1201{g:02}_{v}.jpg",
        "IMG-202401{d:02}-WA{v:04}.jpg",
        "PXL_202401{d:02}_1012{g:02}123_{v}.jpg",
        "Screenshot 2024-01-{d:02} at 12.00.0{v}.png",
        "2024-01-{d:02}_{v}.jpg",
        "202401{d:02}-{v}.jpg",
        "202401{d:02}_1201{g:02}_{v}.jpg",
        "2024-01-{d:02}/{n}.jpg",
        "{n:08x}-{n:04x}.jpg",
    ],
)
def test_what_a_camera_named_is_no_product(name: str, asked: bool) -> None:
    tasks = [ProductImage({}, "https://x/" + name.format(n=n, g=n // 4, d=1 + n // 4, v=n % 4)) for n in range(60)]
    assert propose_product_field(tasks, 6, asked=asked) is None


def test_a_day_in_a_field_is_no_product_unless_its_name_says_so() -> None:
    assert propose_product_field(images(60, taken=lambda n: f"2024-01-{1 + n // 4:02}"), 6) is None
    assert propose_product_field(images(60, file=lambda n: f"IMG_{n // 4:04}"), 6) is None
    assert propose_product_field(images(60, report=lambda n: f"20240105-{n // 4:04}"), 6) == "report"


def test_times_states_and_names_that_cannot_be_written_are_not_proposed() -> None:
    assert propose_product_field(images(600, captured_at=lambda n: f"{n // 1.01}"), 6) is None
    assert propose_product_field(images(600, item_condition=lambda n: "new" if n % 2 else "used"), 1) is None
    assert propose_product_field(images(60, **{"SKU*": lambda n: n // 4}), 6) is None


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("sku{p}_{v}.jpg", "{product}_*"),
        ("sku{p}-{v}.jpg", "{product}-*"),
        ("sku{p}/{v}.jpg", "{product}/*"),
        ("{p:04}_{v}.jpg", "{product}_*"),
        ("IMG-A{p}_{v}.jpg", "{product}_*"),
        ("A{p}/IMG_{n:04}.jpg", "{product}/*"),
    ],
)
def test_a_prefix_or_a_folder_of_the_file_is_proposed(name: str, pattern: str) -> None:
    tasks = [ProductImage({}, "https://x/" + name.format(n=n, p=n // 4, v=n % 4)) for n in range(60)]
    assert propose_product_field(tasks, 6) == pattern


def task(source: str = "4.1795531934", *, uri: str = "a.jpg", day: int = 1, **data: Any) -> TaskRecord:
    """Return a task; that of a manifest has the address of its image as its id."""
    time = datetime(2026, 11, day, tzinfo=UTC)
    id = "17" if is_label_studio(source) else uri
    return TaskRecord("4", source, id, "image", uri, time, time, data)


def test_a_product_from_elsewhere_stays_and_a_field_that_is_not_used_any_more_names_none() -> None:
    earlier = ProjectLabels(uri="a.jpg", group="from an earlier release")
    assert with_product(earlier, None, []).group == "from an earlier release"
    assert with_product(earlier, "sku", [task()]).group == "from an earlier release"
    both = with_product(earlier, "sku", [task(sku="A")])
    assert with_product(both, None, [task(sku="A")]).group == both.group == "from an earlier release"
    named = with_product(ProjectLabels(uri="a.jpg"), "sku", [task(sku="A")])
    assert (named.group, named.group_by) == ("A", "sku")
    assert with_product(named, "report", [task(sku="A")]).group is None
    pattern = with_product(ProjectLabels(uri="https://x/A_1.jpg"), "{product}_*", [])
    assert (pattern.group, pattern.group_by) == ("A", "{product}_*")
    assert with_product(named, None, [task(sku="A")]).group is None


@pytest.mark.parametrize(
    "stored",
    [
        ProjectLabels(uri="a.jpg"),  # set and unset by an earlier release
        ProjectLabels(uri="a.jpg", group="A", group_by="sku"),
        ProjectLabels(uri="a.jpg", group="old"),
    ],
)
@pytest.mark.parametrize("product_field", [None, "sku", "product"])
def test_the_rows_of_manifests_name_the_product_whatever_is_stored(
    stored: ProjectLabels, product_field: str | None
) -> None:
    rows = [task("m.csv", product="new", day=2), task("other.csv", product="older"), task("third.csv", day=3)]
    found = with_product(stored, product_field, [*rows, task(sku="A", product="no column")])
    assert (found.group, found.group_by) == ("new", None)
