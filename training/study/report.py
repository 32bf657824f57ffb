"""study.md: the data and the settings of a study in words, its tables and its plots."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from taxonomist.training.heads.head import HeadOptions
from taxonomist.training.study.contestants import Contestant
from taxonomist.training.study.labelled_images import LabelledImages
from taxonomist.training.study.options import StudyOptions
from taxonomist.training.study.split import Sizes
from taxonomist.training.study.tables import Table, Trials


def write_markdown(
    path: Path,
    labelled: LabelledImages,
    contestants: Sequence[Contestant],
    options: StudyOptions,
    sizes: Sizes,
    trials: Trials,
    tables: Sequence[Table],
    notes: Sequence[str],
) -> None:
    """Write the report to `path`; it links plots by their names in the same folder."""
    by_name: Mapping[str, Table] = {table.name: table for table in tables}
    compared = [name for name in by_name if name.startswith("comparison")]
    parts = [
        "# Study: comparison of embeddings\n",
        _data(labelled, options, sizes),
        _method(options),
        *(f"{note}\n" for note in notes),
        _contestants(contestants, trials),
        "## Labels\n",
        by_name["split"].markdown(),
        "![Label distribution](labels.png)\n",
        "## Results\n",
        *(by_name[name].markdown() for name in (*compared, "paired", "levels")),
        "## Each contestant\n",
    ]
    for contestant in contestants:
        parts += [
            by_name[f"report-{contestant.slug}"].markdown(),
            f"![Learning curves](curves-{contestant.slug}.png)\n",
            f"![Confusion matrix](confusion-{contestant.slug}.png)\n",
            f"confusion-{contestant.slug}.csv lists what was taken for what, the most frequent first.\n",
        ]
    path.write_text("\n".join(parts), encoding="utf-8")


def _data(labelled: LabelledImages, options: StudyOptions, sizes: Sizes) -> str:
    levels = [len({path[:level] for path in labelled.paths if len(path) >= level}) for level in _levels(labelled)]
    classes = ", ".join(f"{count} at level {level}" for level, count in zip(_levels(labelled), levels, strict=True))
    held_out = labelled.held_out & set(labelled.groups)
    lines = [
        f"{len(labelled)} labelled images of {len(set(labelled.groups))} products, "
        f"{labelled.images.shape[1]} pixels; classes: {classes}.",
        f"Test images are of {len(held_out)} products that are held out of pre-training, the others are of the rest."
        if held_out
        else "Nothing is held out: a pre-training may have seen the test images, without their labels.",
        f"Each of {options.seeds} seeds draws {sizes.train} images for training, {sizes.validation} for validation "
        f"and {sizes.test} for testing; no product is in two parts, and all contestants get the same splits.",
    ]
    if sizes != options.sizes:
        lines.append(
            f"{options.train}, {options.validation} and {options.test} were requested, which is more than these labels "
            "allow; all three were scaled down by the same factor."
        )
    return "\n".join(lines) + "\n"


def _levels(labelled: LabelledImages) -> range:
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
        "each training image; the epoch with the lowest validation loss, after temperature scaling, is kept. The "
        "linear probe is a logistic regression whose regularisation the validation part chooses.\n\n"
        "± is the standard deviation over the seeds.\n"
    )


def _contestants(contestants: Sequence[Contestant], trials: Trials) -> str:
    lines = ["| contestant | embedded by | oversampling | blocks fine-tuned | embedding, s | training, s |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for contestant in contestants:
        runs = trials[contestant.name]
        seconds = [sum(trial.embedding_s for trial in runs), sum(trial.training_s for trial in runs)]
        lines.append(
            f"| {contestant.name} | {contestant.origin} | {'yes' if contestant.oversample else 'no'} | "
            f"{contestant.fine_tune or 'none'} | {seconds[0]:.0f} | {seconds[1]:.0f} |"
        )
    lines.append("\nSeconds are sums over the seeds; embeddings that an earlier run has computed are reused.\n")
    return "\n".join(lines)
