"""What a labelling config has that is not learned, or not filled in, in sentences for a person."""

import re
from collections.abc import Iterator, Mapping, Sequence

from taxonomist.taxonomy.label_config.visibility import Condition
from taxonomist.taxonomy.names import shorten
from taxonomist.taxonomy.tree import Tree

_FIELD = re.compile(r"\$[A-Za-z_][A-Za-z0-9_\[\].{}]*")
_SHOWN = 5


def notes_on(
    trees: Sequence[Tree],
    conditions: Mapping[str, Sequence[Condition]],
    not_served: Mapping[str, str],
    side_questions: Sequence[str],
    ignored: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Yield the notes on a config whose `trees` are learned.

    `not_served` has the reason for each control that is not, `side_questions` are `<Choices>` beside a `<Taxonomy>`,
    and `ignored` has by control the attributes of visibility that are not read.
    """
    for control, reason in not_served.items():
        yield f"{control} is not learned: {reason}."
    if side_questions:
        names = ", ".join(map(shorten, side_questions[:_SHOWN])) + (", …" if len(side_questions) > _SHOWN else "")
        yield f"{names}: not learned, since the config has a <Taxonomy>. <Choices> beside it are side questions."
    learned = {tree.control for tree in trees}
    for tree in trees:
        name = f'"{shorten(tree.control)}"'
        for condition in conditions.get(tree.control, ()):
            yield f"{name} {_effect(condition, learned)} ({condition})."
        if unread := ignored.get(tree.control, ()):
            yield f"{name}: {', '.join(map(shorten, unread))} is not read, so it counts as shown to all annotators."
        for path in tree.paths if tree.kind == "taxonomy" else ():
            if _FIELD.fullmatch(path[-1]):
                choice = shorten(path[-1])
                yield (
                    f'The choice "{choice}" of {name} has this text as its name: Label Studio fills no field of a task '
                    "into a <Taxonomy>. Write the names into the config."
                )
                break


def _effect(condition: Condition, learned: set[str]) -> str:
    if condition.when == "region-selected":
        return "is learned and never filled in: no region is selected when a task is opened"
    if condition.when == "no-region-selected":
        return "is filled in also where a region is selected later"
    if condition.control is not None and condition.control not in learned:
        other = f'"{shorten(condition.control)}", which is not learned'
        if condition.when == "choice-unselected":
            return f"counts as shown, whatever annotators answer in {other}"
        return f"is learned and never filled in: it depends on {other}. Remove the condition to have it filled in"
    return "is filled in only where annotators see it"
