"""Reads the labelling config of a Label Studio project."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config.bounds import check_paths, check_text, read_elements
from taxonomist.taxonomy.label_config.cache import ConfigCache
from taxonomist.taxonomy.label_config.image_value import fill_in
from taxonomist.taxonomy.label_config.notes import notes_on
from taxonomist.taxonomy.label_config.tags import Tag, read_tags, why_not_on_an_image, why_not_served
from taxonomist.taxonomy.label_config.visibility import Condition, visible_controls
from taxonomist.taxonomy.names import shorten
from taxonomist.taxonomy.numbers import whole_number
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Kind, Tree, check_depth

_NO_NAME = "$undefined$"
PARSED = ConfigCache["LabelConfig"](entries=64, total=150_000)  # nodes


@dataclass(frozen=True)
class LabelConfig:
    """The trees of a labelling config that are learned, and the images that they label.

    `images` maps the name of each `<Image>` that a tree labels to its value, a template of task fields:
    `{"image": "$image"}`; the image of the first tree comes first. `conditions` has those under which an annotator sees
    a control. `not_served` has the reason for each control that is not learned although it is a `<Taxonomy>`, or a
    `<Choices>` in a config without one. `former_controls` are controls that the config had once, each with the one that
    a person named in its place, if any (see `former_nodes`). `names` are those of all its tags, also of others. `notes`
    say in sentences what is not learned or not filled in.
    """

    trees: tuple[Tree, ...]
    images: Mapping[str, str]
    conditions: Mapping[str, tuple[Condition, ...]] = field(default_factory=dict)
    not_served: Mapping[str, str] = field(default_factory=dict)
    former_controls: Mapping[str, str | None] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def first_image(self) -> str:
        """The name of the image that the first tree labels."""
        return self.trees[0].to_name

    def tree(self, control: str) -> Tree:
        """Return the tree of a control. Raises ConfigError when the config has no such tree."""
        for tree in self.trees:
            if tree.control == control:
                return tree
        known = ", ".join(tree.control for tree in self.trees)
        raise ConfigError(f'The labelling config has no taxonomy "{control}".', hint=f"It has: {known}.")

    def present(self, control: str) -> str:
        """Return the control that a person named in the place of one that is gone; any other is itself."""
        return self.former_controls.get(control) or control

    def has_control(self, name: str) -> bool:
        """Return whether the config has a control of that name, or had one. A `<Repeater>` makes names of its own."""
        return name in self.names or name in self.former_controls or any("{{" in known for known in self.names)

    def trees_of(self, image: str) -> tuple[Tree, ...]:
        """Return the trees that label an image, by its name."""
        return tuple(tree for tree in self.trees if tree.to_name == image)

    def addresses(self, data: Mapping[str, Any]) -> dict[str, str]:
        """Return the address of each image of a task by the image's name, without those whose fields it lacks.

        A field without a name, as Label Studio imports files before a project has a config, is that of the first image.
        """
        if _NO_NAME in data:
            data = {self.images[self.first_image].removeprefix("$"): data[_NO_NAME], **data}
        found = {name: fill_in(template, data) for name, template in self.images.items()}
        return {name: address for name, address in found.items() if address is not None}

    def visible(self, filled: Mapping[str, TaxonomyPath]) -> set[str]:
        """Return the controls that an annotator sees when those in `filled` have these paths and all others none."""
        return visible_controls({tree.control: tree for tree in self.trees}, self.conditions, filled)

    @property
    def size(self) -> int:
        """The number of nodes of all trees."""
        return sum(len(tree) for tree in self.trees)


def parse_label_config(xml: str) -> LabelConfig:
    """Return the trees of a labelling config: its `<Taxonomy>` controls on an image, else its `<Choices>`.

    In a config with a `<Taxonomy>`, `<Choices>` are side questions, which are not learned. Controls that label regions
    (`perRegion`) or something else than an image are left out. Raises ConfigError for text that is not XML, and for a
    config without a control that can be learned, with the reason of each; ConfigTooLargeError for one that exceeds the
    bounds (see `bounds`), before anything is built of it.

    The results are cached, errors as well.
    """
    check_text(xml)

    def parse() -> tuple[LabelConfig, int]:
        config = _parse(xml)
        return config, config.size + len(xml) // 100

    return PARSED.get(key_of(xml), parse)


def key_of(xml: str) -> bytes:
    """Return a hash of the text, which stands for it in a cache."""
    return hashlib.sha256(xml.encode("utf-8", "surrogatepass")).digest()


def _parse(xml: str) -> LabelConfig:
    tags = list(read_tags(read_elements(xml)))
    objects = {tag.get("name"): tag for tag in tags if tag.get("name") and not tag.get("toname")}
    reasons: dict[str, str] = {}
    for kind in ("taxonomy", "choices"):
        controls = [tag for tag in tags if tag.name == kind]
        on_images = _without(controls, {tag: why_not_on_an_image(tag, objects) for tag in controls}, reasons)
        served = _without(on_images, {tag: why_not_served(tag, objects) for tag in on_images}, reasons)
        if served:
            return _config(served, kind, tags, objects, reasons)
        if on_images:
            break
    image = next((tag.get("name") for tag in tags if tag.name == "image"), None)
    lacking = "<Taxonomy> (or <Choices>) that labels a whole image and can be learned" if image is not None else "image"
    detail = "".join(f" {control}: {reason}." for control, reason in reasons.items())
    hint = f'Add <Taxonomy name="taxonomy" toName="{image}">.' if image else 'Add <Image name="image" value="$image"/>.'
    raise ConfigError(f"The labelling config has no {lacking}.{detail}", hint=None if detail and image else hint)


def _without(tags: Sequence[Tag], why_not: Mapping[Tag, str | None], reasons: dict[str, str]) -> list[Tag]:
    """Return the tags without a reason against them; add the reasons of the others."""
    reasons |= {str(tag): shorten(reason, 300) for tag in tags if (reason := why_not[tag]) is not None}
    return [tag for tag in tags if why_not[tag] is None]


def _config(
    controls: Sequence[Tag], kind: Kind, tags: Sequence[Tag], objects: Mapping[str, Tag], reasons: Mapping[str, str]
) -> LabelConfig:
    stores: dict[str, Element] = {}
    for tag in tags:  # controls with one sharedStore have the choices of the first of them
        if tag.name == kind and (store := tag.get("sharedstore") or tag.get("name")):
            stores.setdefault(store, tag.element)
    trees: list[Tree] = []

    def paths() -> Iterator[TaxonomyPath]:
        for tag in controls:
            trees.append(_tree(tag, kind, objects, stores))
            yield from trees[-1].paths

    check_paths(paths())
    names = [tree.control for tree in trees]
    if len(set(names)) < len(names):
        raise ConfigError(f"Two controls of the labelling config have the same name: {', '.join(names)}.")
    conditions = {tag.get("name"): tag.conditions for tag in controls if tag.conditions}
    side_questions = [str(tag) for tag in tags if kind == "taxonomy" and tag.name == "choices"]
    unread = {tag.get("name"): tag.unread for tag in controls}
    return LabelConfig(
        trees=tuple(trees),
        images={tree.to_name: objects[tree.to_name].get("value") for tree in trees},
        conditions=conditions,
        not_served=dict(reasons),
        names=frozenset(filter(None, (tag.get("name") for tag in tags))),
        notes=tuple(notes_on(trees, conditions, reasons, side_questions, unread)),
    )


def _tree(tag: Tag, kind: Kind, objects: Mapping[str, Tag], stores: Mapping[str, Element]) -> Tree:
    control = tag.get("name")
    if not control:
        raise ConfigError(f"A <{tag.element.tag}> of the labelling config has no name.", hint='Add name="…".')
    limit = tag.get("maxusages")
    max_usages = whole_number(limit) if limit else None
    if limit and not max_usages:
        raise ConfigError(f'maxUsages="{limit:.40}" of "{control}" is not a number above 0.')
    element = stores[tag.get("sharedstore") or control] if kind == "taxonomy" else tag.element
    nests = kind == "choices" and tag.is_true("allownested")
    choices = list(_nested(element, control, nests) if nests or kind == "taxonomy" else _flat(element, control))
    return Tree(
        control=control,
        to_name=next(name for name in tag.targets if name in objects and objects[name].name == "image"),
        kind=kind,
        paths=tuple(path for path, _ in choices),
        leafs_only=nests or tag.is_true("leafsonly"),
        max_usages=max_usages,
        multiple=kind == "taxonomy" or tag.get("choice").lower() == "multiple",
        values=tuple((path, value) for path, value in choices if value not in {"", path[-1]}),
        nests_choices=nests,
    )


def _nested(control: Element, name: str, layout: bool) -> Iterator[tuple[TaxonomyPath, str]]:
    """Yield the path and the value of each choice of a `<Taxonomy>`, in document order, in any depth of nesting.

    `layout`: it is a `<Choices>`, which may have layout tags around its choices.
    """
    stack: list[tuple[Element, TaxonomyPath]] = [(child, ()) for child in reversed(control)]
    while stack:
        element, above = stack.pop()
        if element.tag.lower() == "choice":
            choice, value = _choice_names(element, name)
            path = (*above, choice)
            check_depth(name, path)
            yield path, value
            stack.extend((child, path) for child in reversed(element))
        elif layout:
            stack.extend((child, above) for child in reversed(element))


def _flat(control: Element, name: str) -> Iterator[tuple[TaxonomyPath, str]]:
    """Yield the path and the value of each choice of a `<Choices>`, also of those inside layout tags.

    Label Studio does not show a choice inside a choice.
    """
    stack = list(reversed(control))
    while stack:
        element = stack.pop()
        if element.tag.lower() == "choice":
            choice, value = _choice_names(element, name)
            yield (choice,), value
        else:
            stack.extend(reversed(element))


def _choice_names(element: Element, control: str) -> tuple[str, str]:
    """Return the name that Label Studio writes into results (the alias, if there is one), and the value."""
    attributes = {key.lower(): value for key, value in element.attrib.items()}
    value = attributes.get("value", "")
    name = attributes.get("alias", value)
    if not name:
        raise ConfigError(f'A <Choice> of "{control}" has an empty name.', hint='Give it a value="…".')
    return name, value
