"""Which controls an annotator sees: `visibleWhen`, `whenTagName` and `whenChoiceValue` of a labelling config.

The rules are those of Label Studio's editor (`web/libs/editor/src/mixins/Visibility.js` of Label Studio 1.23). Nothing
is highlighted when a task is opened, so `region-selected` hides a control then.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from taxonomist.taxonomy.names import shorten
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree

_NAMES = {"visiblewhen": "visibleWhen", "whentagname": "whenTagName", "whenchoicevalue": "whenChoiceValue"}
_WRITTEN = _NAMES | {"whenlabelvalue": "whenLabelValue", "whenrole": "whenRole"}
_KNOWN = ("choice-selected", "choice-unselected", "region-selected", "no-region-selected")


@dataclass(frozen=True)
class Condition:
    """A condition on a control, or on a `<View>` around it.

    `control` and `values` are None where the config names none: any control, any value.
    """

    when: str
    control: str | None = None
    values: tuple[str, ...] | None = None

    @classmethod
    def of(cls, attributes: Mapping[str, str]) -> "Condition | None":
        """Return the condition in the attributes (names in lower case) of an element, None without one."""
        when, value = attributes.get("visiblewhen", ""), attributes.get("whenchoicevalue", "")
        if when in _KNOWN:
            return cls(when, attributes.get("whentagname") or None, tuple(value.split(",")) if value else None)
        return None if when or not value else cls("value-selected", None, (value,))

    def __str__(self) -> str:
        values = (None if self.when == "value-selected" else self.when, self.control, ",".join(self.values or ()))
        written = zip(_NAMES.values(), values, strict=True)
        return " ".join(f'{name}="{shorten(value)}"' for name, value in written if value)


def unread_conditions(attributes: Mapping[str, str]) -> tuple[str, ...]:
    """Return the attributes (names in lower case) of visibility that no condition is made of, as `whenrole="…"`."""
    when = attributes.get("visiblewhen", "")
    unread = {name for name in attributes if name.startswith("when")} - _NAMES.keys()
    if when and when not in _KNOWN:
        unread.add("visiblewhen")
    elif when == "region-selected":
        unread.discard("whenlabelvalue")
    return tuple(f'{_WRITTEN.get(name, name)}="{shorten(attributes[name])}"' for name in sorted(unread))


def visible_controls(
    trees: Mapping[str, Tree], conditions: Mapping[str, tuple[Condition, ...]], filled: Mapping[str, TaxonomyPath]
) -> set[str]:
    """Return the controls that an annotator sees when the controls in `filled` have these paths and all others none.

    A control that is hidden itself fulfils no condition.
    """
    visible: dict[str, bool] = {}

    def is_visible(control: str, asking: tuple[str, ...] = ()) -> bool:
        if control in asking:  # conditions in a circle
            return False
        if control not in visible:
            visible[control] = all(holds(condition, (*asking, control)) for condition in conditions.get(control, ()))
        return visible[control]

    def holds(condition: Condition, asking: tuple[str, ...]) -> bool:
        match condition.when:
            case "region-selected":
                return False
            case "no-region-selected":
                return True
            case "choice-unselected":
                return not is_selected(condition, asking)
        return is_selected(condition, asking)

    def is_selected(condition: Condition, asking: tuple[str, ...]) -> bool:
        asked = [condition.control] if condition.control else [name for name in trees if trees[name].kind == "choices"]
        return any(
            name in filled and is_visible(name, asking) and _matches(trees[name], filled[name], condition.values)
            for name in asked
            if name in trees
        )

    return {control for control in trees if is_visible(control)}


def _matches(tree: Tree, path: TaxonomyPath, values: tuple[str, ...] | None) -> bool:
    return values is None or not tree.names(path).isdisjoint(values)
