"""The value of an `<Image>`: a template that Label Studio's editor fills in with the data of each task.

`$image` is a field, `$images[0].url` a part of one, and `https://x/$folder/$file` a text with fields. This is the
grammar of `parseValue` in the editor (`web/libs/editor/src/utils/data.js` of Label Studio 1.23); it has no `${…}`.
"""

import re
from collections.abc import Mapping
from typing import Any

from taxonomist.taxonomy.numbers import whole_number

VARIABLE = re.compile(r"\$[A-Za-z0-9_\[\].{}]+")
_STEP = re.compile(r"[^.\[\]]+")
_SEPARATOR = re.compile(r"[.\[]")


def has_field(template: str) -> bool:
    """Return whether the template names a field of the task: without one, each task has the same image."""
    return VARIABLE.search(template) is not None or (template.startswith("$") and len(template) > 1)


def fill_in(template: str, data: Mapping[str, Any]) -> str | None:
    """Return the address of a task's image, None when its data lacks a field.

    A field may have any name that Label Studio's import accepts: `$image-url` is the field `image-url` where the data
    has one. A text after a field may look like a part of it: in `$file.jpg`, `.jpg` is text unless `file` has such a
    part.
    """
    if template.startswith("$") and template[1:] in data:
        return _text(data[template[1:]])
    parts: list[str] = []
    end = 0
    for match in VARIABLE.finditer(template):
        found = _look_up(match.group()[1:], data)
        if found is None:
            return None
        parts += [template[end : match.start()], found]
        end = match.end()
    return "".join([*parts, template[end:]]) if parts else None


def _look_up(name: str, data: Mapping[str, Any]) -> str | None:
    stops = [len(name), *(match.start() for match in reversed(list(_SEPARATOR.finditer(name))))]
    for stop in stops:
        if stop and (text := _text(_value(name[:stop], data))):
            return text + name[stop:]
    return None


def _value(name: str, data: Mapping[str, Any]) -> object:
    if name in data:
        return data[name]
    value: object = data
    for step in _STEP.findall(name):
        match value:
            case Mapping():
                value = value.get(step)
            case list() if (position := whole_number(step)) is not None and position < len(value):
                value = value[position]
            case _:
                return None
    return value


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) if str(value).strip() else None
