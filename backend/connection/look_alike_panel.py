"""The look-alike panel in a project's labelling config: a `<Markdown>` with an iframe of our page, beside the image.

The config is the project lead's text, so it is edited as text: everything outside the panel stays the same, byte for
byte. expat gives the positions of the elements; it handles comments, CDATA and quoted `>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape, unescape
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from xml.parsers import expat  # only positions are used, and documents with a DTD are refused

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import parse_label_config
from taxonomist.taxonomy.label_config.bounds import check_text

PANEL_ID = "taxonomist-look-alikes"

_START_TAG = re.compile(rb"""<[^\s/>]+(?:\s+[^\s=]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>""")
_VALUE = re.compile(rb"""(?<=\s)(value\s*=\s*)("[^"]*"|'[^']*')""", re.IGNORECASE)
_ROW_STYLE = "display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start"
_IMAGE_STYLE = "flex: 3 1 240px; min-width: 0"
_PANEL_STYLE = "flex: 1 1 240px; min-width: 0; max-width: 420px"
_FRAME_STYLE = "width: 100%; height: 520px; border: 0"
_OUR_PAGE = re.compile(r"/similar\?project=\d+&key=")


@dataclass(frozen=True)
class _Element:
    """Where an element is in the UTF-8 bytes of the config. Names are in lower case, as Label Studio reads them."""

    name: str
    attributes: dict[str, str] = field(compare=False)
    start: int
    tag_end: int  # after the start tag
    end: int  # after the element


def panel_address(base_url: str, project: str, key: str, value: str) -> str:
    """Return the page's address for an image; `value` is that of its `<Image>`, with Label Studio's variables.

    `src` comes last: Label Studio inserts the image's address without escaping, so everything after it belongs to it.
    """
    query = urlencode({"project": project, "key": key}, quote_via=quote)
    return f"{base_url}/similar?{query}&src={value}"


def with_panel(label_config: str, base_url: str, project: str, key: str) -> str:
    """Return the labelling config with a panel beside each image that is labelled: added, or updated in its place.

    A config whose panels are current is returned unchanged. Raises `ConfigError` when the config has no taxonomy on an
    image, or is not XML.
    """
    config = parse_label_config(label_config)
    markdown = {name: _markdown(panel_address(base_url, project, key, value)) for name, value in config.images.items()}
    text = label_config.encode()
    panels = [element for element in _elements(text) if _is_panel(element)]
    image_of = _images_of(panels, config.images)
    new = _renewed(text, [(panel, markdown[image]) for panel, image in zip(panels, image_of, strict=True)])
    for number, name in enumerate(config.images):
        if name not in image_of:
            image = next(e for e in _elements(new) if e.name == "image" and e.attributes.get("name") == name)
            mark = f"{PANEL_ID}-{number}" if number else PANEL_ID
            new = _wrapped(new, image, f'<Markdown idattr="{mark}" style="{_PANEL_STYLE}" value="{markdown[name]}"/>')
    if parse_label_config(new.decode()) != config:
        raise ConfigError(
            "The look-alike panel cannot be added to this labelling config without changing its meaning.",
            hint="Answer no to the panel; everything else works without it.",
        )
    return new.decode()


def _images_of(panels: Sequence[_Element], images: Mapping[str, str]) -> list[str]:
    """Return the name of each panel's image: the one whose address it shows, else the first without a panel."""
    found: list[str | None] = []
    for panel in panels:
        shown = _shown_address(panel).partition("&src=")[2]
        found.append(next((name for name, value in images.items() if value == shown), None))
    without = [name for name in images if name not in found]
    first = next(iter(images))
    return [name or (without.pop(0) if without else first) for name in found]


def keys_in(label_config: str) -> list[str]:
    """Return the keys of the panels in a labelling config. Raises `ConfigError`."""
    return [parse_qs(urlsplit(address).query).get("key", [""])[0] for address in panels_in(label_config)]


def panels_in(label_config: str) -> list[str]:
    """Return the addresses of the panels in a labelling config; normally one or none. Raises `ConfigError`."""
    check_text(label_config)
    return [_shown_address(element) for element in _elements(label_config.encode()) if _is_panel(element)]


def _shown_address(panel: _Element) -> str:
    match = re.search(r'src="([^"]*)"', panel.attributes.get("value", ""))
    return unescape(match.group(1)) if match else ""


def _markdown(address: str) -> str:
    """Return the text of the `value` attribute: HTML with the address, escaped for HTML and then for XML."""
    html = f'<iframe title="Labelled look-alikes" style="{_FRAME_STYLE}" src="{escape(address)}"></iframe>'
    return escape(html)


def _is_panel(element: _Element) -> bool:
    if element.name != "markdown":
        return False
    ours = element.attributes.get("idattr", "").startswith(PANEL_ID)
    return ours or bool(_OUR_PAGE.search(unescape(element.attributes.get("value", ""))))


def _renewed(text: bytes, panels: Sequence[tuple[_Element, str]]) -> bytes:
    for panel, markdown in reversed(panels):  # from the end, so that the positions before it stay valid
        tag = text[panel.start : panel.tag_end]
        if panel.attributes.get("value") == unescape(markdown):
            continue
        value = b'"' + markdown.encode() + b'"'
        changed, count = _VALUE.subn(lambda match: match.group(1) + value, tag, count=1)  # noqa: B023
        if not count:
            inner = tag.removesuffix(b">").removesuffix(b"/").rstrip()
            changed = inner + b" value=" + value + tag[len(inner) :]
        text = text[: panel.start] + changed + text[panel.tag_end :]
    return text


def _wrapped(text: bytes, image: _Element, panel: str) -> bytes:
    """Return the image and the panel in a row, or one below the other in a narrow window."""
    before = f'<View style="{_ROW_STYLE}"><View style="{_IMAGE_STYLE}">'.encode()
    after = f"</View>{panel}</View>".encode()
    return text[: image.start] + before + text[image.start : image.end] + after + text[image.end :]


def _elements(text: bytes) -> list[_Element]:
    """Return all elements in document order. Raises `ConfigError` for a text that is not XML, or has a DTD."""
    parser = expat.ParserCreate("utf-8")  # whatever its declaration says, since the text arrived as characters
    open_elements: list[tuple[int, str, dict[str, str], int, int]] = []
    found: list[_Element] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        position = parser.CurrentByteIndex
        tag = _START_TAG.match(text, position)
        if tag is None:
            raise ConfigError("The labelling config has a tag that cannot be read.")
        lower = {key.lower(): value for key, value in attributes.items()}
        open_elements.append((len(found), name.lower(), lower, position, tag.end()))
        found.append(_Element("", {}, 0, 0, 0))  # a placeholder; the end is not known yet

    def end(_name: str) -> None:
        place, name, attributes, position, tag_end = open_elements.pop()
        closed = text[tag_end - 2 : tag_end] == b"/>"
        stop = tag_end if closed else text.index(b">", parser.CurrentByteIndex) + 1
        found[place] = _Element(name, attributes, position, tag_end, stop)

    def refuse(*_: object) -> None:
        raise ConfigError("The labelling config has a DTD.", hint="Remove <!DOCTYPE …>.")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ConfigError(f"The labelling config cannot be read as XML: {error}.") from None
    return found
