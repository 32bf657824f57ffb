"""study.md: the data and the settings of a study in words, its tables and its plots."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from taxonomist.training.heads.head import HeadOptions
from taxonomist.training.study.data import Contestant, Labelled, StudyOptions
from taxonomist.training.study.split import Sizes
from taxonomist.training.study.tables import Table, Trials


def write_markdown(
    path: Path,
    labelled: Labelled,
    contestants: Sequence[Contestant],
    options: StudyOptions,
    sizes: Sizes,
    trials: Trials,
    tables: Sequence[Table],
    notes: Sequence[str],
) -> None:
    """Write the report; plots are linked by their names in the same folder."""
    by_name: Mapping[str, Table] = {table.name: table for table in tables}
    parts = [
        "# Study: what the embeddings are worth\n",
        _data(labelled, options, sizes),
        _method(options),
        *(f"{note}\n" for note in notes),
        _contestants(contestants, trials),
        "## Labels\n",
        by_name["split"].markdown(),
        "![Label distribution](labels.png)\n",
        "## Results\n",
        *(by_name[name].markdown() for name in ("comparison", "paired", "levels")),
        "## Each contestant\n",
    ]
    for contestant in contestants:
        parts += [
            by_name[f"report-{contestant.slug}"].markdown(),
            f"![Learning curves](curves-{contestant.slug}.png)\n",
            f"![Confusion matrix](confusion-{contestant.slug}.png)\n",
        ]
    path.write_text("\n".join(parts), encoding="utf-8")


def _data(labelled: Labelled, options: StudyOptions, sizes: Sizes) -> str:
    levels = [len({path[:level] for path in labelled.paths if len(path) >= level}) for level in _levels(labelled)]
    classes = ", ".join(f"{count} at level {level}" for level, count in zip(_levels(labelled), levels, strict=True))
    out = labelled.held_out & set(labelled.groups)
    lines = [
        f"{len(labelled)} labelled pictures of {len(set(labelled.groups))} products, "
        f"{labelled.pictures.shape[1]} pixels; classes: {classes}.",
        f"Test pictures come from {len(out)} products that are held out of pre-training, the others from the rest."
        if out
        else "Nothing is held out: a pre-training may have seen the test pictures, without their labels.",
        f"Each of {options.seeds} seeds draws {sizes.train} pictures for training, {sizes.validation} for validation "
        f"and {sizes.test} for testing; no product stands in two parts, and all contestants get the same splits.",
    ]
    if sizes != options.sizes:
        lines.append(
            f"{options.train}, {options.validation} and {options.test} were asked for, which is more than these labels "
            "allow; all three were scaled down alike."
        )
    return "\n".join(lines) + "\n"


def _levels(labelled: Labelled) -> range:
    return range(1, labelled.tree.depth + 1)


def _method(options: StudyOptions) -> str:
    head = options.head
    layers = "linear, batch norm, ReLU, dropout, linear" if head.batch_norm else "linear, ReLU, dropout, linear"
    changed = [
        f"{field.name} {getattr(head, field.name)}"
        for field in fields(HeadOptions)
        if field.name not in ("imbalance", "seed", "threads")
    ]
    return (
        f"The classifier is {layers} on the embeddings ({', '.join(changed)}), with {options.views} augmented views of "
        "each training picture; the epoch with the lowest validation loss, after temperature scaling, is kept. The "
        "linear probe is a logistic regression whose regularisation the validation part chooses.\n\n"
        "± is the standard deviation over the seeds.\n"
    )


def _contestants(contestants: Sequence[Contestant], trials: Trials) -> str:
    lines = ["| contestant | embeds by | oversampling | blocks fine-tuned | embedding, s | training, s |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for contestant in contestants:
        runs = trials[contestant.name]
        seconds = [sum(trial.embedding_s for trial in runs), sum(trial.training_s for trial in runs)]
        lines.append(
            f"| {contestant.name} | {contestant.origin} | {'yes' if contestant.oversample else 'no'} | "
            f"{contestant.fine_tune or 'none'} | {seconds[0]:.0f} | {seconds[1]:.0f} |"
        )
    lines.append("\nSeconds are those of all seeds; embeddings that an earlier run has computed cost nothing again.\n")
    return "\n".join(lines)
