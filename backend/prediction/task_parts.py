"""The suggestions for the controls of a task, as far as its labelling config allows them."""

from __future__ import annotations

from collections.abc import Mapping

from taxonomist.taxonomy.label_config import LabelConfig
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.suggestion import Suggestion
from taxonomist.taxonomy.tree import Tree


def task_parts(
    config: LabelConfig, suggestions: Mapping[str, Mapping[str, Suggestion]], images: Mapping[str, str]
) -> list[tuple[Tree, Suggestion]]:
    """Return the suggestions for a task, each control's from its own image.

    `suggestions` are by image id and control, `images` the task's image ids by the name of their `<Image>`.
    """
    by_control = {
        tree.control: suggestion
        for tree in config.trees
        if (suggestion := suggestions.get(images.get(tree.to_name, ""), {}).get(tree.control))
    }
    return allowed_parts(config, by_control)


def allowed_parts(config: LabelConfig, suggestions: Mapping[str, Suggestion]) -> list[tuple[Tree, Suggestion]]:
    """Return the suggestions as far as today's labelling config allows them: it may be newer than the model.

    A control that would be hidden when a task is filled in with these suggestions gets none.
    """
    parts = []
    for tree in config.trees:
        suggestion = suggestions.get(tree.control)
        if suggestion is None:
            continue
        path = tree.known_prefix(suggestion.path)
        if not _may_fill(tree, path):
            path = ()
        listed = [tree.node_of(path) for path in suggestion.shortlist]
        shortlist = tuple(dict.fromkeys(path for path in listed if path and _may_fill(tree, path)))
        if None in listed:  # the truth may be what became of that node, so that nothing is promised
            shortlist = ()
        if path or shortlist:
            parts.append((tree, Suggestion(path, suggestion.score, len(path), shortlist, suggestion.images)))
    visible = config.visible({tree.control: suggestion.path for tree, suggestion in parts if suggestion.path})
    return [(tree, suggestion) for tree, suggestion in parts if tree.control in visible]


def _may_fill(tree: Tree, path: TaxonomyPath) -> bool:
    return bool(path) and not (tree.leafs_only and not tree.is_leaf[tree.index[path]])
