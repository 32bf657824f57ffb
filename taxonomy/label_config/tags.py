"""The elements of a labelling config, and why a control among them is not learned."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from taxonomist.taxonomy.label_config.image_value import VARIABLE, has_field
from taxonomist.taxonomy.label_config.visibility import Condition, unread_conditions
from taxonomist.taxonomy.names import shorten


@dataclass(frozen=True, eq=False)
class Tag:
    """An XML element as Label Studio reads it: names of tags and attributes are not case-sensitive.

    `conditions` are its own and those of the elements around it, `unread` such attributes that none is made of;
    `repeater` is the `<Repeater>` around it.
    """

    name: str
    attributes: Mapping[str, str]
    element: Element
    conditions: tuple[Condition, ...] = ()
    unread: tuple[str, ...] = ()
    repeater: "Tag | None" = None

    def get(self, attribute: str) -> str:
        return self.attributes.get(attribute, "").strip()

    def is_true(self, attribute: str) -> bool:
        return self.get(attribute).lower() == "true"

    @property
    def targets(self) -> list[str]:
        """The names of what a control labels."""
        return [name.strip() for name in self.get("toname").split(",")]

    def __str__(self) -> str:
        return f'<{self.element.tag}> "{self.get("name")}"'


def read_tags(root: Element) -> Iterator[Tag]:
    """Yield the elements in document order, without what is inside of controls. A stack allows any depth."""
    stack: list[tuple[Element, Tag | None]] = [(root, None)]
    while stack:
        element, parent = stack.pop()
        attributes = {key.lower(): value for key, value in element.attrib.items()}
        condition = Condition.of(attributes)
        tag = Tag(
            element.tag.lower(),
            attributes,
            element,
            (parent.conditions if parent else ()) + ((condition,) if condition else ()),
            (parent.unread if parent else ()) + unread_conditions(attributes),
            (parent if parent.name == "repeater" else parent.repeater) if parent else None,
        )
        yield tag
        if tag.name not in {"taxonomy", "choices"}:
            stack.extend((child, tag) for child in reversed(element))


def why_not_on_an_image(control: Tag, objects: Mapping[str, Tag]) -> str | None:
    """Return why a control does not label a whole image, None when it does."""
    if control.is_true("perregion"):
        return "it labels regions (perRegion), not a whole image"
    found = [objects[name] for name in control.targets if name in objects]
    if any(tag.name == "image" for tag in found):
        return None
    if not found:
        return f'it labels "{control.get("toname")}", which the config does not have'
    return f"it labels the {found[0]}, and only images are learned"


def why_not_served(control: Tag, objects: Mapping[str, Tag]) -> str | None:
    """Return why a control that labels an image cannot be served, None when it can."""
    if control.repeater is not None:
        return (
            f'it is in a <Repeater on="{control.repeater.get("on")}">, which makes one control per item of a task; '
            "write one control for each item that every task has"
        )
    images = [objects[name] for name in control.targets if name in objects and objects[name].name == "image"]
    if len(images) > 1:
        return f'it labels several images (toName="{control.get("toname")}"); give each image a control of its own'
    if reason := _why_no_address(images[0]):
        return f"it labels the {images[0]}: {reason}"
    if control.is_true("peritem"):
        return "it labels the items of a list (perItem); give each image a task of its own"
    for attribute, found in (("apiUrl", control.get("apiurl")), ("value", control.get("value"))):
        if found:
            return (
                f'its choices are not in the config ({attribute}="{found}"), so its tree is unknown; '
                "write them into the config as nested <Choice> tags"
            )
    if control.name == "choices" and (field := _field_of_a_choice(control.element)):
        return f'the name of its choice "{field}" differs by task; write the name into the config, or give an alias'
    return None


def _field_of_a_choice(choices: Element) -> str | None:
    """Return the value of a choice that Label Studio's editor fills in from each task. It stores an alias as it is."""
    for element in choices.iter():
        attributes = {key.lower(): value for key, value in element.attrib.items()}
        value = attributes.get("value", "")
        if element.tag.lower() == "choice" and "alias" not in attributes and VARIABLE.search(value):
            return shorten(value)
    return None


def _why_no_address(image: Tag) -> str | None:
    """Return why an image has no address of its own in each task, None when it has."""
    if image.get("valuelist"):
        return f'valueList="{image.get("valuelist")}" is a list of images; give each image a task of its own'
    if image.repeater is not None:
        return f'it is in a <Repeater on="{image.repeater.get("on")}">, which makes one image per item of a task'
    if not has_field(image.get("value")):
        return f'value="{image.get("value")}" names no field of the task; write value="$image"'
    return None
