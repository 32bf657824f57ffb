"""The product, or service report, that an image shows: from a field of its task, or from the name of its file."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from taxonomist.storage.addresses import parse_address
from taxonomist.storage.catalog.documents import ProjectLabels
from taxonomist.storage.journal import TaskRecord

MARK = "{product}"
PATTERNS = ("{product}_*", "{product}-*", "{product}/*")
_USUAL = re.compile(r"product|sku|artic|artnr|item|report|serial|asset|part_?n", re.IGNORECASE)
_SHOT = re.compile(
    r"(?:img|mvimg|image|dsc|dscn|dscf|pxl|vid|mov|mvi|gopr|dji|photo|foto|bild|pict?|scan|screenshot|whatsapp image)"
    r"[\d _.:()-]*(?:wa\d+)?"
    r"|(?:19|20)\d\d(?:[-_.][01]\d|-?[01]\d-?[0-3]\d)(?:[-_. T]*\d[\d _.:-]*)?Z?"
    r"|\d{3}(?:canon|nikon|apple|msdcf|_pana|olymp|_fuji|gopro|ricoh|pentx|casio|media)",
    re.IGNORECASE,
)  # what cameras and telephones name files and folders: a word and numbers, a day, a folder such as 100CANON
_LONGEST_NAME = 255  # of a file or a folder, as file systems have it; a pattern takes long on longer ones
_MOSTLY = 0.9  # of the tasks must have a value
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file


@dataclass(frozen=True)
class ProductImage:
    """The data of a task and the address of its image."""

    data: Mapping[str, Any]
    uri: str

    def product(self, product_field: str) -> str | None:
        """Return its product, see `product_of`."""
        return product_of(product_field, self)


def product_of(product_field: str, image: ProductImage) -> str | None:
    """Return the product of an image, None where its task or the name of its file has none.

    `product_field` is the name of a field (with dots for a field in a field), or a pattern of the file name such as
    `{product}_*.jpg`, in which `*` is any text; a pattern with `/` is compared with the end of the whole path. Unicode
    and blanks are folded, so that two spellings that look alike are one product.
    """
    if MARK in product_field:
        path = _path_of(image.uri)
        name = path if "/" in product_field else path.rpartition("/")[2]
        if max(map(len, name.split("/"))) > _LONGEST_NAME:
            return None
        match = _pattern(product_field).search(name)
        return _folded(match["product"]) if match else None
    return _folded(_field(image.data, product_field))


def with_product(labels: ProjectLabels, product_field: str | None, tasks: Sequence[TaskRecord]) -> ProjectLabels:
    """Return the labels with the product of the image; `tasks` are those that show it.

    The column of a manifest comes before the field. It is read from the manifest's own rows in the journal, so a field
    that is set and unset again cannot lose it. A product from elsewhere, such as a manifest that an earlier release has
    imported, stays.
    """
    rows = [task for task in tasks if task.is_manifest_row and task.data.get("product")]
    if rows:
        newest = max(rows, key=lambda row: (row.updated_at, row.source))
        return labels.model_copy(update={"group": newest.data["product"], "group_by": None})
    if labels.group and labels.group_by is None:
        return labels
    images = [ProductImage(data, labels.uri) for data in [task.data for task in tasks] or [{}]]
    found = [product for image in images if product_field and (product := image.product(product_field))]
    update = {"group": min(found), "group_by": product_field} if found else {"group": None, "group_by": None}
    return labels.model_copy(update=update)


def propose_product_field(images: Sequence[ProductImage], classes: int, *, asked: bool = True) -> str | None:
    """Return the field or the pattern that most probably names the products of these tasks, None where nothing fits.

    Something that names products has more values than there are classes; a field that is called so (`sku`, `report`)
    needs no more than two, if a person is `asked`. On average a value has 1.5 to 100 tasks: a time or a number of the
    task has fewer, a state such as new or used has more. Fields come before patterns of the file name. A pattern or
    another field that finds the day, or the name that a camera gave, names no product.
    """
    candidates = name_like_fields(images)
    usual = [name for name in candidates if _USUAL.search(name)]
    others = [name for name in candidates if name not in usual]
    for group, fewest in ((usual, 2 if asked else classes + 1), (others, classes + 1), (PATTERNS, classes + 1)):
        sizes = {name: _values(name, images) for name in group}
        fitting = {
            name: size for name, size in sizes.items() if size >= fewest and 1.5 * size <= len(images) <= 100 * size
        }
        if fitting:
            return max(fitting, key=lambda name: (sizes[name], name))
    return None


def name_like_fields(images: Sequence[ProductImage]) -> list[str]:
    """Return the fields that nearly all tasks have, and whose values may be names: neither addresses nor long texts."""
    fields = Counter(name for image in images for name, value in image.data.items() if _is_name(value, image.uri))
    return [name for name, count in fields.items() if count >= _MOSTLY * len(images) and not set(name) & set("*{}")]


def _values(product_field: str, images: Sequence[ProductImage]) -> int:
    """Return how many products a field names, 0 where it names none for many tasks."""
    found = [product for image in images if (product := product_of(product_field, image))]
    if MARK in product_field or not _USUAL.search(product_field):
        found = [product for product in found if not _SHOT.fullmatch(product)]
    return len(set(found)) if len(found) >= _MOSTLY * len(images) else 0


def _is_name(value: object, uri: str) -> bool:
    """Return whether a value may be a name or a number, not the address of an image or a long text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return True
    return isinstance(value, str) and value != uri and len(value) <= 100 and "://" not in value and value[:1] != "/"


def _field(data: Mapping[str, Any], name: str) -> str:
    value: Any = data.get(name)
    if value is None and "." in name:
        value = data
        for step in name.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
    if isinstance(value, list | tuple):
        return ", ".join(sorted(str(item) for item in value if isinstance(item, str | int | float)))
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _folded(text: str) -> str | None:
    return " ".join(unicodedata.normalize("NFC", text).split()) or None


def _path_of(uri: str) -> str:
    """Return the path of the image's file, decoded; Label Studio's prefix of an uploaded file is left out."""
    address = parse_address(uri)
    path = unquote(address.name) if address.kind == "http" else address.name
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{_UPLOADED.sub('', name)}" if address.kind == "upload" else path


@lru_cache(maxsize=64)
def _pattern(text: str) -> re.Pattern[str]:
    """Return the pattern as an expression that is searched up to the end; a missing file ending fits any."""
    parts = re.split(r"(\{product\}|\*)", text)
    matched: Mapping[str, str] = {MARK: "(?P<product>[^/]+)", "*": "[^/]*"}
    quote: Callable[[str], str] = re.escape
    return re.compile("(?:^|/)" + "".join(matched.get(part) or quote(part) for part in parts) + "$")
