"""The bounds of a labelling config, checked while its text is read: nothing is built of a config that exceeds them."""

from collections.abc import Iterable
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.ElementTree import DefusedXMLParser

from taxonomist.taxonomy.errors import ConfigError, ConfigTooLargeError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import MAX_LEVELS

MAX_CHARACTERS = 4_000_000
"""Of the text: 80 for each node."""

MAX_NODES = 50_000
"""Choices of a config, counted once for each control that has them. Of other elements there may be as many."""

MAX_PATH_CHARACTERS = 16_000_000
"""Of the paths of all choices, each from its top: a long name counts once for each choice below it."""


def check_text(xml: str) -> None:
    """Raise `ConfigTooLargeError` for a text of more than `MAX_CHARACTERS`."""
    if len(xml) > MAX_CHARACTERS:
        raise _too_large(f"{len(xml):,} characters", f"{MAX_CHARACTERS:,}")


def read_elements(xml: str) -> Element:
    """Return the root of a labelling config.

    Raises `ConfigTooLargeError`, and `ConfigError` for a text that is not XML or has a DTD.
    """
    check_text(xml)
    counting = _CountingBuilder()
    try:
        parser = DefusedXMLParser(target=counting, forbid_dtd=True)
        parser.feed(xml)
        parser.close()
    except (ParseError, ValueError) as error:
        raise ConfigError(f"The labelling config cannot be read as XML: {error}.") from error
    return counting.root()


def check_paths(paths: Iterable[TaxonomyPath]) -> None:
    """Raise `ConfigTooLargeError` when these paths, of all controls of a config, exceed the bounds.

    Several controls may have the choices of one.
    """
    characters = 0
    for number, path in enumerate(paths, start=1):
        characters += sum(map(len, path))
        if number > MAX_NODES:
            seen = f"more than {MAX_NODES:,} choices, those that controls share counted for each,"
            raise _too_large(seen, f"{MAX_NODES:,}")
        if characters > MAX_PATH_CHARACTERS:
            raise _too_large(f"{number:,} paths with {characters:,} characters", f"{MAX_PATH_CHARACTERS:,} characters")


class _CountingBuilder:
    """A target of the parser: builds elements while there are not too many, and counts them to the end."""

    def __init__(self) -> None:
        self._builder: TreeBuilder | None = TreeBuilder()
        self._open: list[bool] = []  # whether each open element is a choice
        self._levels = [0, 0]  # of other open elements, of open choices
        self._deepest = [0, 0]
        self._counts = [0, 0]

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        kind = tag.lower() == "choice"
        self._open.append(kind)
        self._counts[kind] += 1
        self._levels[kind] += 1
        self._deepest[kind] = max(self._deepest[kind], self._levels[kind])
        if self._counts[kind] > MAX_NODES or self._levels[kind] > MAX_LEVELS:
            self._builder = None
        if self._builder is not None:
            self._builder.start(tag, attributes)

    def end(self, tag: str) -> None:
        self._levels[self._open.pop()] -= 1
        if self._builder is not None:
            self._builder.end(tag)

    def data(self, text: str) -> None:
        """Leave out the text between elements, which has no meaning."""

    def close(self) -> None:
        """Wait for `root`: an error here would count as one of the XML."""

    def root(self) -> Element:
        for kind, what in ((True, "choices"), (False, "elements other than choices")):
            if self._counts[kind] > MAX_NODES:
                raise _too_large(f"{self._counts[kind]:,} {what}", f"{MAX_NODES:,}")
            if self._deepest[kind] > MAX_LEVELS:
                raise _too_large(f"{self._deepest[kind]:,} levels of {what}", str(MAX_LEVELS))
        assert self._builder is not None
        return self._builder.close()


def _too_large(seen: str, limit: str) -> ConfigTooLargeError:
    return ConfigTooLargeError(
        f"The labelling config has {seen}; at most {limit} are supported.",
        hint="Nothing was changed. Is an element nested in the one before it by mistake, or a list repeated?",
    )
