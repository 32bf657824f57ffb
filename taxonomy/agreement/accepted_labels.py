"""Decides which labels of an image are accepted, from the annotations of several people, or why there are none.

The rules, in the order in which they apply:

1. A *ground truth* annotation decides alone, the newest one when there are several; otherwise a *reviewed* annotation
   does (its last review accepted it). With `require_review` no other annotation decides.
2. The newest annotation of each person counts. One that was made from a prediction without a person has no vote and
   replaces no other. An annotation that a reviewer rejected does not count. A skip does not
   count either, unless `skips_as` names the path that a skip votes for ("sort out").
3. The remaining people are the *annotators* of the image. With fewer than `min_annotators` of them there is no label.
4. An annotator who names a path names every node on it. A node is agreed on when the share of annotators who name it
   reaches `min_agreement`. The share is always of *all* annotators: an annotator who stops at an inner node, leaves the
   control empty or names an unknown path did not name the deeper node. So shares never grow from level to level, and
   the accepted label is the deepest prefix that enough annotators share.
5. Each path is judged alone, so one image can have several accepted labels. With a `min_agreement` of one half or less,
   two siblings can both have enough votes although no annotator named both. This is a disagreement, not two labels:
   the sibling with more votes wins; in a tie neither wins, and their parent is the label.
6. A path that is not in the tree still names its known prefix (`UnknownPath.known`). An annotator all of whose regions
   of the control cannot be read has no vote, nor has one who only answered controls that the config does not have.
7. When enough annotators left the control empty, the reason is EMPTY: they agree that it has no answer.
8. With the rates of the annotators (`Weights`) a probability takes the place of the share in 4 and 5: a node is agreed
   on when it is a label with a probability of at least `PROBABLE`, and at least `min_annotators` people name it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Literal

from taxonomist.taxonomy.agreement.answer_table import Answer, ImageAnswers
from taxonomist.taxonomy.agreement.dawid_skene import AnnotatorRates, probabilities
from taxonomist.taxonomy.annotations import Annotation, UnknownPath, named_nodes, newest, newest_of_each
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.paths import TaxonomyPath, deepest, format_path, prefixes
from taxonomist.taxonomy.tree import Tree

PROBABLE = 0.9
"""The probability that makes a node a label, where annotators are weighed."""


@dataclass(frozen=True)
class AgreementPolicy:
    """How much agreement a label needs. Raises ConfigError for values outside their bounds.

    `min_annotators`: how many people must have annotated the image, at least 1. `min_agreement`: the share of them that
    must name a node, above 0 and at most 1; None: more than half. `require_review`: accept reviewed annotations only.
    `skips_as`: the path that a skip votes for; it should be a path of the tree.
    """

    min_annotators: int = 2
    min_agreement: float | None = 2 / 3
    require_review: bool = False
    skips_as: TaxonomyPath | None = None

    def __post_init__(self) -> None:
        if self.min_annotators < 1:
            raise ConfigError(f"min_annotators is {self.min_annotators}, it must be at least 1.")
        if self.min_agreement is not None and not 0 < self.min_agreement <= 1:
            raise ConfigError(f"min_agreement is {self.min_agreement}, it must be above 0 and at most 1.")

    def votes_needed(self, annotators: int) -> int:
        """Return how many of `annotators` people must name a node: the share, rounded up."""
        if self.min_agreement is None:
            return annotators // 2 + 1
        return max(1, math.ceil(self.min_agreement * annotators - 1e-9))


@dataclass(frozen=True)
class Weights:
    """What the answers of annotators weigh on a tree: how often each of them is right."""

    tree: Tree
    rates: AnnotatorRates


class Reason(StrEnum):
    """Why an image has no accepted label."""

    NOT_ANNOTATED = "not_annotated"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    TOO_FEW_ANNOTATORS = "too_few_annotators"
    NOT_REVIEWED = "not_reviewed"
    EMPTY = "empty"
    NO_AGREEMENT = "no_agreement"
    UNKNOWN_PATHS = "unknown_paths"
    UNREADABLE = "unreadable"
    OTHER_CONTROLS = "other_controls"


@dataclass(frozen=True)
class Verdict:
    """The result for one image: its accepted labels, sorted, or the reason why there are none; never both.

    `annotators` is the number of people whose annotation counts. `decided_by` is the rule that decided, None when no
    rule did. `detail` explains the verdict in a sentence.
    """

    accepted: tuple[TaxonomyPath, ...]
    reason: Reason | None
    annotators: int
    decided_by: Literal["agreement", "review", "ground_truth"] | None
    detail: str


@dataclass(frozen=True)
class _Ballot:
    """The votes of one person: all nodes that they named, and the paths that are not in the tree."""

    nodes: frozenset[TaxonomyPath]
    unknown: tuple[UnknownPath, ...] = ()


def decide(
    annotations: Sequence[Annotation], control: str, policy: AgreementPolicy, weights: Weights | None = None
) -> Verdict:
    """Return the verdict on one image for one control; the rules are at the top of this file.

    `annotations` are all annotations of the image, from all its tasks, in any order. With `weights` the annotators are
    weighed, else they are counted.
    """
    standing = newest_of_each(annotations)
    voters = _voters(standing, control, policy)
    ballots = list(voters.values())
    count = len(ballots)
    note = _unknown_note(ballots) + _model_note(annotations)

    def left_out(reason: Reason, detail: str) -> Verdict:
        return Verdict((), reason, count, None, detail + note)

    decider = newest(a for a in annotations if a.ground_truth) or newest(a for a in annotations if a.reviewed)
    if decider is not None:
        return _decided_alone(decider, control, policy, count)
    if not standing:
        return left_out(Reason.NOT_ANNOTATED, "This image has no annotation by a person yet.")
    if policy.require_review:
        return left_out(Reason.NOT_REVIEWED, "No annotation of this image has been accepted by a review.")
    if not ballots:
        if any(annotation.skipped for annotation in standing):
            return left_out(Reason.SKIPPED, "All annotators skipped this image.")
        if any(_is_unreadable(annotation, control) for annotation in standing):
            return left_out(Reason.UNREADABLE, f'No annotation has a region of "{control}" that can be read.')
        if any(annotation.is_of_other_controls for annotation in standing):
            return left_out(Reason.OTHER_CONTROLS, f'The annotations are of other controls, not of "{control}".')
        return left_out(Reason.REJECTED, "A review rejected every annotation of this image.")
    if count < policy.min_annotators:
        return left_out(Reason.TOO_FEW_ANNOTATORS, f"Annotated by {count}; {policy.min_annotators} are needed.")
    votes = Counter(node for ballot in ballots for node in ballot.nodes)
    if weights is not None:
        return _weighed(voters, votes, policy, weights, note)
    needed = policy.votes_needed(count)
    accepted = deepest(_agreed(ballots, votes, needed))
    if accepted:
        shares = ", ".join(f'"{format_path(path)}" by {votes[path]} of {count}' for path in accepted)
        return Verdict(accepted, None, count, "agreement", f"Named {shares}.{note}")
    return left_out(_why_none(ballots, votes, needed), _nearest_miss(votes, needed, count, control))


def answers_of(annotations: Sequence[Annotation], control: str, policy: AgreementPolicy) -> ImageAnswers | None:
    """Return what the annotators of an image answered, and the truth if one decides alone; None without any answer.

    An annotator who named only unknown paths has no answer.
    """
    answers = _answers(_voters(newest_of_each(annotations), control, policy))
    decider = newest(a for a in annotations if a.ground_truth) or newest(a for a in annotations if a.reviewed)
    ballot = None if decider is None else _ballot(decider, control, policy)
    truth = None if ballot is None or ballot.unknown else ballot.nodes
    return ImageAnswers(answers, truth) if answers else None


def _voters(standing: Iterable[Annotation], control: str, policy: AgreementPolicy) -> dict[str, _Ballot]:
    """Return the votes of each annotator who has one."""
    votes = ((annotation.annotator, _ballot(annotation, control, policy)) for annotation in standing)
    return {annotator: ballot for annotator, ballot in votes if ballot is not None}


def _answers(voters: Mapping[str, _Ballot]) -> dict[str, Answer]:
    return {person: ballot.nodes for person, ballot in voters.items() if ballot.nodes or not ballot.unknown}


def _weighed(
    voters: Mapping[str, _Ballot],
    votes: Counter[TaxonomyPath],
    policy: AgreementPolicy,
    weights: Weights,
    note: str,
) -> Verdict:
    """Return the verdict of annotators who are weighed by how often they are right."""
    answers, count, needed = _answers(voters), len(voters), policy.min_annotators
    found = probabilities(answers, weights.tree, weights.rates) if answers else {}
    empty = found.pop((), 0.0)
    accepted = deepest([node for node, share in found.items() if share >= PROBABLE and votes[node] >= needed])
    if accepted:
        shares = ", ".join(f'"{format_path(path)}" with a probability of {found[path]:.2f}' for path in accepted)
        return Verdict(accepted, None, count, "agreement", f"A label is {shares}, by the answers of {count}.{note}")
    if empty >= PROBABLE and sum(not answer for answer in answers.values()) >= needed:
        return Verdict((), Reason.EMPTY, count, None, f"No answer with a probability of {empty:.2f}.{note}")
    reason = Reason.UNKNOWN_PATHS if any(ballot.unknown for ballot in voters.values()) else Reason.NO_AGREEMENT
    if not found:
        return Verdict((), reason, count, None, f"Annotated by {count}; no annotator chose a known path.{note}")
    best = min(found, key=lambda node: (-found[node], node))
    detail = f'Most probable is "{format_path(best)}": {found[best]:.2f}, named by {votes[best]} of {count}; '
    return Verdict((), reason, count, None, f"{detail}{PROBABLE} and {needed} are needed.{note}")


def _ballot(annotation: Annotation, control: str, policy: AgreementPolicy) -> _Ballot | None:
    """Return what an annotation votes for, None when it has no vote."""
    if annotation.rejected and not annotation.ground_truth:
        return None
    if annotation.skipped:
        return _Ballot(frozenset(prefixes(policy.skips_as))) if policy.skips_as else None
    if annotation.is_of_other_controls or _is_unreadable(annotation, control):
        return None
    unknown = tuple(unknown for unknown in annotation.unknown if unknown.control == control)
    return _Ballot(named_nodes(annotation, control), unknown)


def _is_unreadable(annotation: Annotation, control: str) -> bool:
    """Return whether the annotation has regions of the control, or of an unknown one, and none that can be read."""
    named = {*annotation.labels, *(unknown.control for unknown in annotation.unknown)}
    return control not in named and any(region.control in (control, None) for region in annotation.unreadable)


def _agreed(ballots: Sequence[_Ballot], votes: Counter[TaxonomyPath], needed: int) -> set[TaxonomyPath]:
    """Return the nodes with enough votes that win against their siblings, without nodes below one that lost."""
    enough = {node for node, count in votes.items() if count >= needed}
    lost: set[TaxonomyPath] = set()
    siblings: dict[TaxonomyPath, list[TaxonomyPath]] = {}
    for node in enough:
        siblings.setdefault(node[:-1], []).append(node)
    for group in siblings.values():
        for first, second in combinations(group, 2):
            if not any({first, second} <= ballot.nodes for ballot in ballots):
                lost |= {node for node, rival in ((first, second), (second, first)) if votes[node] <= votes[rival]}
    return {node for node in enough if lost.isdisjoint(prefixes(node))}


def _decided_alone(decider: Annotation, control: str, policy: AgreementPolicy, annotators: int) -> Verdict:
    rule: Literal["ground_truth", "review"] = "ground_truth" if decider.ground_truth else "review"
    who = f"The {'ground truth' if decider.ground_truth else 'reviewed'} annotation {decider.id}"
    ballot = _ballot(decider, control, policy)
    if ballot is None and _is_unreadable(decider, control):
        return Verdict((), Reason.UNREADABLE, annotators, rule, f'{who} has no region of "{control}" that can be read.')
    if ballot is None and decider.is_of_other_controls:
        return Verdict((), Reason.OTHER_CONTROLS, annotators, rule, f'{who} is of other controls, not of "{control}".')
    if ballot is None:
        return Verdict((), Reason.SKIPPED, annotators, rule, f"{who} is a skip.")
    note = _unknown_note([ballot])
    if ballot.nodes:
        return Verdict(deepest(ballot.nodes), None, annotators, rule, f"{who} decides.{note}")
    reason = Reason.UNKNOWN_PATHS if ballot.unknown else Reason.EMPTY
    return Verdict((), reason, annotators, rule, f'{who} has no known path in "{control}".{note}')


def _why_none(ballots: Sequence[_Ballot], votes: Counter[TaxonomyPath], needed: int) -> Reason:
    """Return EMPTY when enough annotators gave no answer, UNKNOWN_PATHS when known paths in place of the unknown ones
    could have led to an agreement."""
    if sum(not ballot.nodes and not ballot.unknown for ballot in ballots) >= needed:
        return Reason.EMPTY
    unclear = [ballot for ballot in ballots if ballot.unknown]
    tops = [node for node in votes if len(node) == 1]
    reachable = [votes[node] + sum(node not in ballot.nodes for ballot in unclear) for node in tops]
    if unclear and max(reachable, default=len(unclear)) >= needed:
        return Reason.UNKNOWN_PATHS
    return Reason.NO_AGREEMENT


def _nearest_miss(votes: Counter[TaxonomyPath], needed: int, count: int, control: str) -> str:
    if not votes:
        return f'Annotated by {count}; no annotator chose a known path in "{control}".'
    best = min(votes, key=lambda node: (-votes[node], node))
    if votes[best] >= needed:
        return f'"{format_path(best)}" is tied with another path, each named by {votes[best]} of {count}.'
    return f'Most named "{format_path(best)}": {votes[best]} of {count}; {needed} are needed.'


def _model_note(annotations: Iterable[Annotation]) -> str:
    count = sum(annotation.by_model for annotation in annotations)
    if not count:
        return ""
    subject = "1 annotation was" if count == 1 else f"{count} annotations were"
    return f" {subject} made from a prediction without a person, which does not count."


def _unknown_note(ballots: Iterable[_Ballot]) -> str:
    notes = dict.fromkeys(str(unknown) for ballot in ballots for unknown in ballot.unknown)
    return "".join(f" {note}" if note.endswith("?") else f" {note}." for note in notes)
