"""The tree of choices that a labelling config offers to the annotator."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from taxonomy.errors import ConfigError
from taxonomy.paths import TaxonomyPath, common_prefix, format_path, prefixes

IntArray = NDArray[np.intp]
Kind = Literal["taxonomy", "choices"]


@dataclass(frozen=True)
class Tree:
    """One control and the nodes it offers; node `i` is `paths[i]`, and models have one output per node in this order.

    Names are those that Label Studio writes into results: the alias of a choice where it has one, else its value. A
    parent stands before its children. Raises ConfigError when the paths are no tree.
    """

    control: str
    to_name: str
    kind: Kind
    paths: tuple[TaxonomyPath, ...]
    leafs_only: bool = False
    max_usages: int | None = None
    multiple: bool = True

    def __post_init__(self) -> None:
        seen: set[TaxonomyPath] = {()}
        for path in self.paths:
            if not path or path[:-1] not in seen:
                raise ConfigError(f'The node "{format_path(path)}" of "{self.control}" stands before its parent.')
            if path in seen:
                raise ConfigError(
                    f'The path "{format_path(path)}" is in "{self.control}" twice.',
                    hint="Give the choices of one parent different values (or aliases).",
                )
            seen.add(path)
        if not self.paths:
            raise ConfigError(f'The control "{self.control}" offers no choices.', hint="Put <Choice> tags into it.")

    @classmethod
    def from_paths(cls, control: str, paths: Iterable[TaxonomyPath], *, to_name: str = "image") -> "Tree":
        """Return the smallest tree that has these paths (inner nodes are added), for labels that come without a config.

        Siblings are sorted, so the same set of paths gives the same tree. Raises ConfigError when there are none.
        """
        nodes = {prefix for path in paths for prefix in prefixes(path)}
        return cls(control=control, to_name=to_name, kind="taxonomy", paths=tuple(sorted(nodes)))

    def __len__(self) -> int:
        return len(self.paths)

    def __contains__(self, path: object) -> bool:
        return path in self.index

    @cached_property
    def index(self) -> Mapping[TaxonomyPath, int]:
        """The node of each path."""
        return {path: node for node, path in enumerate(self.paths)}

    @cached_property
    def parents(self) -> IntArray:
        """The parent of each node, shape (nodes,); -1 at level 1."""
        return _frozen([self.index[path[:-1]] if len(path) > 1 else -1 for path in self.paths])

    @cached_property
    def levels(self) -> IntArray:
        """The level of each node, shape (nodes,); 1 is the top."""
        return _frozen([len(path) for path in self.paths])

    @cached_property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Whether a node has no children, shape (nodes,)."""
        leaf = np.ones(len(self), dtype=np.bool_)
        leaf[self.parents[self.parents >= 0]] = False
        leaf.flags.writeable = False
        return leaf

    @cached_property
    def depth(self) -> int:
        """The deepest level."""
        return int(self.levels.max())

    @cached_property
    def _children(self) -> Mapping[int, IntArray]:
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents.tolist()):
            children.setdefault(parent, []).append(node)
        return {parent: _frozen(nodes) for parent, nodes in children.items()}

    @cached_property
    def groups(self) -> tuple[IntArray, ...]:
        """The groups of siblings, each a softmax; first the nodes of level 1."""
        return tuple(self._children.values())

    def children(self, node: int) -> IntArray:
        """Return the children of a node, empty for a leaf; `-1` gives the nodes of level 1."""
        return self._children.get(node, _frozen([]))

    def ancestors(self, node: int) -> tuple[int, ...]:
        """Return the nodes on the way from level 1 down to the node, which is the last one."""
        return tuple(self.index[prefix] for prefix in prefixes(self.paths[node]))

    def known_prefix(self, path: TaxonomyPath) -> TaxonomyPath:
        """Return the longest beginning of the path that is a node, `()` when not even its level 1 is known."""
        known: TaxonomyPath = ()
        for prefix in prefixes(path):
            if prefix not in self:
                break
            known = prefix
        return known

    @cached_property
    def _spellings(self) -> list[str]:
        return [format_path(path).casefold() for path in self.paths]

    def nearest(self, path: TaxonomyPath) -> TaxonomyPath | None:
        """Return the node whose whole path is spelled most like this one, None when nothing is near.

        What follows the shared beginning must be alike too: under a long shared beginning any two siblings look alike.
        """
        wanted = format_path(path).casefold()
        candidates = process.extract(wanted, self._spellings, scorer=fuzz.ratio, score_cutoff=70, limit=5)
        for _, _, node in candidates:
            candidate = self.paths[node]
            if candidate == path:
                return candidate
            shared = len(common_prefix((path, candidate)))
            ours, theirs = (format_path(p[shared:]).casefold() for p in (path, candidate))
            if fuzz.ratio(ours, theirs) >= 70:
                return candidate
        return None

    @cached_property
    def fingerprint(self) -> str:
        """A short stable hash of the control, its paths in their order and `leafs_only`."""
        text = json.dumps([self.control, self.paths, self.leafs_only], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the tree as JSON-ready values; `from_json` reads them back."""
        return {
            "control": self.control,
            "to_name": self.to_name,
            "kind": self.kind,
            "paths": [list(path) for path in self.paths],
            "leafs_only": self.leafs_only,
            "max_usages": self.max_usages,
            "multiple": self.multiple,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Tree":
        """Return the tree that `to_json` wrote. Raises ConfigError when the data is not one."""
        try:
            return cls(**{**data, "paths": tuple(tuple(path) for path in data["paths"])})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"This is not a stored tree: {error}.") from error


@dataclass(frozen=True)
class LabelConfig:
    """What a labelling config says about images: the trees to learn and where a task keeps the image's address."""

    trees: tuple[Tree, ...]
    image_keys: Mapping[str, str]
    """From the name of an `<Image>` to its key in the data of a task: `{"image": "image"}` for `value="$image"`."""

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


def parse_label_config(xml: str) -> LabelConfig:
    """Return the trees of a labelling config: its `<Taxonomy>` controls on an image, else its `<Choices>` (depth 1).

    With a `<Taxonomy>`, `<Choices>` are side questions and not learned. Controls that label regions (`perRegion`) do
    not speak about the image and are left out. Raises ConfigError, naming the fix, on text that is not XML, on a config
    without an image or without such a control, and on trees that are not written in the config itself.
    """
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (ParseError, ValueError) as error:
        raise ConfigError(f"The labelling config is not XML that can be read: {error}.") from error
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
    # a list of choices that comes with each task is a side question as long as another one is written down
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
    """An XML element as Label Studio reads it: the names of tags and attributes in any case."""

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
                f'The choices of "{control}" come from elsewhere ({attribute}="{found}"), so its tree is unknown.',
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
    """Yield the paths below a `<Taxonomy>` in document order; a stack, because a config may nest without end."""
    stack: list[tuple[Element, TaxonomyPath]] = [(child, ()) for child in reversed(control)]
    while stack:
        element, above = stack.pop()
        if element.tag.lower() == "choice":
            path = (*above, _choice_name(element, name))
            yield path
            stack.extend((child, path) for child in reversed(element))


def _flat(control: Element, name: str) -> Iterator[TaxonomyPath]:
    """Yield the choices of a `<Choices>`, also inside layout tags. Label Studio does not show a choice in a choice."""
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


def _frozen(values: list[int]) -> IntArray:
    array = np.array(values, dtype=np.intp)
    array.flags.writeable = False
    return array
