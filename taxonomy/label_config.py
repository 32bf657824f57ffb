"""The labelling config of a Label Studio project, read and written."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import quoteattr

from defusedxml.ElementTree import fromstring

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Kind, Tree


@dataclass(frozen=True)
class LabelConfig:
    """The trees of a labelling config that are learned, and the task fields that hold the address of an image."""

    trees: tuple[Tree, ...]
    image_keys: Mapping[str, str]
    """Maps the name of an `<Image>` to its key in the data of a task: `{"image": "image"}` for `value="$image"`."""

    @property
    def image_key(self) -> str:
        """The data key of the image that the first tree labels."""
        return self.image_keys[self.trees[0].to_name]

    def tree(self, control: str) -> Tree:
        """Return the tree of a control. Raises ConfigError when the config has no such tree."""
        for tree in self.trees:
            if tree.control == control:
                return tree
        known = ", ".join(tree.control for tree in self.trees)
        raise ConfigError(f'The labelling config has no taxonomy "{control}".', hint=f"It has: {known}.")


@lru_cache(maxsize=64)
def parse_label_config(xml: str) -> LabelConfig:
    """Return the trees of a labelling config: its `<Taxonomy>` controls on an image, else its `<Choices>` (depth 1).

    In a config with a `<Taxonomy>`, `<Choices>` are side questions, which are not learned. Controls that label regions
    (`perRegion`) do not label the image and are left out. Raises ConfigError with a hint for text that is not XML, for
    a config without an image or without such a control, and for trees that are not written in the config itself.

    The results are cached, since each request of Label Studio carries the whole config.
    """
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (ParseError, ValueError) as error:
        raise ConfigError(f"The labelling config cannot be read as XML: {error}.") from error
    controls: dict[str, list[_Tag]] = {"taxonomy": [], "choices": []}
    image_keys: dict[str, str] = {}
    for element in root.iter():
        tag = _Tag.of(element)
        if tag.name in controls:
            controls[tag.name].append(tag)
        elif tag.name == "image" and (key := re.fullmatch(r"\$(\S+)", tag.get("value"))):
            image_keys[tag.get("name")] = key.group(1)
    if not image_keys:
        raise ConfigError("The labelling config has no image.", hint='Add <Image name="image" value="$image"/>.')
    # Choices that come with each task are a side question as long as the config itself lists other choices.
    controls["choices"] = [tag for tag in controls["choices"] if not tag.get("value")] or controls["choices"]
    for kind, tags in controls.items():
        trees = tuple(_tree(tag, cast(Kind, kind), target) for tag in tags if (target := _image_of(tag, image_keys)))
        if trees:
            names = [tree.control for tree in trees]
            if len(set(names)) < len(names):
                raise ConfigError(f"Two controls of the labelling config have the same name: {', '.join(names)}.")
            return LabelConfig(trees=trees, image_keys=image_keys)
    raise ConfigError(
        "The labelling config has no <Taxonomy> (or <Choices>) that labels a whole image.",
        hint=f'Add <Taxonomy name="taxonomy" toName="{next(iter(image_keys))}">.',
    )


@dataclass(frozen=True)
class _Tag:
    """An XML element as Label Studio reads it: names of tags and attributes are not case-sensitive."""

    name: str
    attributes: Mapping[str, str]
    element: Element

    @classmethod
    def of(cls, element: Element) -> "_Tag":
        attributes = {key.lower(): value for key, value in element.attrib.items()}
        return cls(element.tag.lower(), attributes, element)

    def get(self, attribute: str) -> str:
        return self.attributes.get(attribute, "")

    def is_true(self, attribute: str) -> bool:
        return self.get(attribute).lower() == "true"


def _image_of(tag: _Tag, image_keys: Mapping[str, str]) -> str | None:
    """Return the image that a control labels as a whole, None when it labels something else."""
    if tag.is_true("perregion"):
        return None
    return next((name for name in tag.get("toname").split(",") if name in image_keys), None)


def _tree(tag: _Tag, kind: Kind, to_name: str) -> Tree:
    control = tag.get("name")
    if not control:
        raise ConfigError(f"A <{tag.element.tag}> of the labelling config has no name.", hint='Add name="…".')
    for attribute, found in (("apiUrl", tag.get("apiurl")), ("value", tag.get("value"))):
        if found:
            raise ConfigError(
                f'The choices of "{control}" are not in the config ({attribute}="{found}"), so its tree is unknown.',
                hint="Write the choices into the labelling config as nested <Choice> tags.",
            )
    if kind == "choices" and tag.is_true("allownested"):
        raise ConfigError(f'"{control}" nests its choices (allowNested).', hint="Use a <Taxonomy> for a tree.")
    limit = tag.get("maxusages")
    if limit and not (limit.isdecimal() and int(limit) > 0):
        raise ConfigError(f'maxUsages="{limit}" of "{control}" is not a number above 0.')
    return Tree(
        control=control,
        to_name=to_name,
        kind=kind,
        paths=tuple(_nested(tag.element, control) if kind == "taxonomy" else _flat(tag.element, control)),
        leafs_only=tag.is_true("leafsonly"),
        max_usages=int(limit) if limit else None,
        multiple=kind == "taxonomy" or tag.get("choice").lower() == "multiple",
    )


def _nested(control: Element, name: str) -> Iterator[TaxonomyPath]:
    """Yield the paths below a `<Taxonomy>` in document order. A stack allows any depth of nesting."""
    stack: list[tuple[Element, TaxonomyPath]] = [(child, ()) for child in reversed(control)]
    while stack:
        element, above = stack.pop()
        if element.tag.lower() == "choice":
            path = (*above, _choice_name(element, name))
            yield path
            stack.extend((child, path) for child in reversed(element))


def _flat(control: Element, name: str) -> Iterator[TaxonomyPath]:
    """Yield the choices of a `<Choices>`, also those inside layout tags.

    Label Studio does not show a choice inside a choice.
    """
    stack = list(reversed(control))
    while stack:
        element = stack.pop()
        if element.tag.lower() == "choice":
            yield (_choice_name(element, name),)
        else:
            stack.extend(reversed(element))


def _choice_name(element: Element, control: str) -> str:
    attributes = {key.lower(): value for key, value in element.attrib.items()}
    name = attributes.get("alias", attributes.get("value", ""))
    if not name:
        raise ConfigError(f'A <Choice> of "{control}" has an empty name.', hint='Give it a value="…".')
    return name


def write_label_config(paths: Iterable[TaxonomyPath], *, control: str = "taxonomy", image: str = "image") -> str:
    """Return a labelling config with one image and a `<Taxonomy>` of these paths, in the given order.

    Missing parents of a path are added. `showFullPath` shows annotators the whole path, not only its last name.
    """
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for name in path:
            node = node.setdefault(name, {})
    return "\n".join(
        [
            "<View>",
            f'  <Image name={quoteattr(image)} value="$image"/>',
            f'  <Taxonomy name={quoteattr(control)} toName={quoteattr(image)} showFullPath="true">',
            *_choice_lines(tree, "    "),
            "  </Taxonomy>",
            "</View>",
        ]
    )


def _choice_lines(tree: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, below in tree.items():
        if below:
            yield f"{indent}<Choice value={quoteattr(name)}>"
            yield from _choice_lines(below, indent + "  ")
            yield f"{indent}</Choice>"
        else:
            yield f"{indent}<Choice value={quoteattr(name)}/>"
