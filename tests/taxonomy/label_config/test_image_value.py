"""The grammar of Label Studio's editor (`parseValue`), with its own examples."""

from typing import Any

import pytest

from taxonomist.taxonomy.label_config.image_value import fill_in, has_field

DATA: dict[str, Any] = {
    "image": "1.jpg",
    "image-url": "2.jpg",
    "größe": "3.jpg",
    "a.b": "4.jpg",
    "file": "5",
    "folder": "f/g",
    "id": 7,
    "meta": {"photo": "6.jpg", "views": ["7.jpg", {"url": "8.jpg"}]},
    "empty": " ",
    "yes": True,
    "nothing": None,
    "list": ["9.jpg"],
}


@pytest.mark.parametrize(
    ("template", "address"),
    [
        ("$image", "1.jpg"),
        ("$image-url", "2.jpg"),  # the name as Label Studio's server reads it
        ("$größe", "3.jpg"),
        ("$a.b", "4.jpg"),
        ("$meta.photo", "6.jpg"),
        ("$meta.views[0]", "7.jpg"),
        ("$meta.views[1].url", "8.jpg"),
        ("https://x/$image", "https://x/1.jpg"),
        ("https://x/$folder/$image?v=$id", "https://x/f/g/1.jpg?v=7"),
        ("$folder/$image", "f/g/1.jpg"),
        ("https://x/$file.jpg", "https://x/5.jpg"),
        ("https://x/$id", "https://x/7"),
        ("$missing", None),
        ("https://x/$folder/$missing", None),
        ("$empty", None),
        ("$yes", None),
        ("$nothing", None),
        ("$list", None),
        ("$list[3]", None),
        ("$meta", None),
        ("${image}", None),  # the editor has no such form
        ("https://x/logo.png", None),
        ("", None),
    ],
)
def test_address(template: str, address: str | None) -> None:
    assert fill_in(template, DATA) == address


def test_a_value_without_a_field_is_the_same_image_for_every_task() -> None:
    assert [has_field(text) for text in ("$image", "https://x/$a", "$größe", "https://x/a.png", "$", "")] == [
        *(True, True, True),
        *(False, False, False),
    ]
