"""The commands of the data pipeline: `taxonomist data query|split|fetch`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.completion import projects
from taxonomist.backend.cli.options import Json, services_of
from taxonomist.backend.cli.output import count_bar, print_fields, print_json, print_line, print_table
from taxonomist.backend.data_stages.fetch import run_fetch
from taxonomist.backend.data_stages.files import PARTS
from taxonomist.backend.data_stages.query import QueryOptions, run_query
from taxonomist.backend.data_stages.split import SplitOptions, run_split
from taxonomist.backend.pretraining.prepared_images import serving_size
from taxonomist.backend.services import Services
from taxonomist.storage.catalog.label_query import LabelQuery
from taxonomist.storage.embeddings import Embeddings
from taxonomist.taxonomy.errors import ConfigError

data = typer.Typer(
    help="Choose, split and fetch images for a training; each stage reads the files of the former one.",
    epilog="Example: `taxonomist data query --out data --labelled`, then `taxonomist data split --query data`, then "
    "`taxonomist data fetch --query data --split data --part train --out images`",
    no_args_is_help=True,
)
_FAILURES_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(data, name="data")
    data.command(
        epilog="Examples: `taxonomist data query --out data --labelled` · `taxonomist data query --out data "
        "--include Badezimmersysteme --exclude 'Sort Out' --min-annotators 2` · `taxonomist data query --out data "
        "--unlabelled --address 'azure-blob://images/{id}'`"
    )(query)
    data.command(
        epilog="Examples: `taxonomist data split --query data` · "
        "`taxonomist data split --query data --level 2 --seed 3 --no-oversample`"
    )(split)
    data.command(
        epilog="Examples: `taxonomist data fetch --query data --out images` · "
        "`taxonomist data fetch --query data --split data --part train --size 160 --out images`"
    )(fetch)


def query(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for query.csv, containers.json and query.json.")],
    project: Annotated[
        str | None,
        typer.Option(
            help="Only images of this project; default: all projects.",
            autocompletion=projects,
        ),
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only images with this node, at any level, in a label; repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No images with this node, at any level, in a label; repeatable.")
    ] = None,
    min_annotators: Annotated[int, typer.Option(min=0, help="Only images with at least this many annotators.")] = 0,
    reviewed: Annotated[
        bool | None, typer.Option("--reviewed/--not-reviewed", help="Only images with, or without, a review.")
    ] = None,
    labelled: Annotated[
        bool | None, typer.Option("--labelled/--unlabelled", help="Only images with, or without, labels.")
    ] = None,
    blurred: Annotated[bool, typer.Option("--blurred", help="Include blurred images.")] = False,
    sortout: Annotated[
        list[str] | None, typer.Option(help="Only images in this sort-out state, such as Keep; repeatable.")
    ] = None,
    testset: Annotated[
        bool | None, typer.Option("--testset/--no-testset", help="Only images in, or outside, the test set.")
    ] = None,
    control: Annotated[
        str | None, typer.Option(help="Taxonomy of the labels; default: the first one with a label.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of images that are in no project: a pattern with {id}, {uri_orig} and {container}; "
            "default: uri_orig."
        ),
    ] = None,
    reasons: Annotated[bool, typer.Option(help="Read every document to report why images are left out.")] = True,
    as_json: Json = False,
) -> None:
    """Choose images by their labels; write their ids, addresses and labels, and report why others are left out."""
    label_query = LabelQuery(
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        min_annotators=min_annotators,
        reviewed=reviewed,
        labelled=labelled,
        blurred=None if blurred else False,
        sortout=tuple(sortout or ()),
        testset=testset,
        project=project,
    )
    with count_bar("Query") as progress:
        result = run_query(services_of(context), label_query, out, QueryOptions(control, address, reasons), progress)
    if as_json:
        print_json(result.to_json())
        return
    print_fields({"folder": result.folder, "images": result.images, "labelled": result.labelled})
    if result.labels:
        print_table("Labels", ["level 1", "images"], result.labels.items())
    _print_left_out(result.left_out)


def split(
    context: typer.Context,
    query: Annotated[Path, typer.Option(help="Folder that `data query` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for split.csv and split.json; default: that of the query.")
    ] = None,
    level: Annotated[int, typer.Option(min=1, help="Level whose nodes are the classes; 1 is the top.")] = 1,
    test: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Share of the test part; default: TAXONOMIST_TEST_SHARE.")
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="Validation share of the rest; default: TAXONOMIST_VALIDATION_SHARE."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the random split; default: TAXONOMIST_SEED.")] = None,
    oversample: Annotated[
        bool | None,
        typer.Option(
            "--oversample/--no-oversample",
            help="Repeat images of rare classes in training until all classes are equally large; "
            "default: according to TAXONOMIST_IMBALANCE.",
        ),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep/--anew", help="Leave images in the part that their document names, or redraw all."),
    ] = True,
    as_json: Json = False,
) -> None:
    """Split the images of a query into train, validation and test parts: by product, stratified by class, seeded.

    Where products are not known, near-duplicates count as one product, as far as the images are embedded.
    """
    services = services_of(context)
    settings = services.settings
    options = SplitOptions(
        level=level,
        test=settings.test_share if test is None else test,
        validation=settings.validation_share if validation is None else validation,
        seed=settings.seed if seed is None else seed,
        oversample=settings.imbalance == "oversample" if oversample is None else oversample,
        keep=keep,
    )
    result = run_split(query, out or query, options, lambda: _served_embeddings(services))
    if as_json:
        print_json(result.to_json())
        return
    rows = [(counts.label, counts.train, counts.copies, counts.validation, counts.test) for counts in result.classes]
    print_table("Images", ["class", "train", "with copies", "validation", "test"], rows)
    print_fields({"folder": result.folder, **result.images})
    if result.without_product:
        print_line(
            f"  products unknown: {result.without_product} images; {result.near_duplicates} of them have "
            f"near-duplicates, which stand in the same part; {result.not_embedded} have no embedding (taxonomist embed)"
        )
    _print_left_out(result.left_out)


def fetch(
    context: typer.Context,
    query: Annotated[Path, typer.Option(help="Folder that `data query` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for the prepared images; a fetch that was stopped resumes.")],
    size: Annotated[
        int | None,
        typer.Option(min=32, max=1024, help="Side in pixels; default: the size of served images."),
    ] = None,
    split: Annotated[Path | None, typer.Option(help="Folder that `data split` wrote.")] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="Only images of this part: train, validation or test; repeatable."),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Images that are read at the same time.")] = 16,
    as_json: Json = False,
) -> None:
    """Read, decode and resize the images of a query for `pretrain --prepared`; only missing images are read."""
    services = services_of(context)
    unknown = set(part or ()) - set(PARTS)
    if unknown:
        raise ConfigError(f"There is no part {min(unknown)!r}.", hint=f"The parts are {', '.join(PARTS)}.")
    with count_bar("Fetch") as progress:
        result = run_fetch(
            services,
            query,
            out,
            size or serving_size(services),
            split=split,
            parts=[name for name in PARTS if name in (part or ())],
            concurrency=concurrency,
            progress=progress,
        )
    if as_json:
        print_json(result.to_json())
        return
    print_fields(asdict(result) | {"size": f"{result.size} pixels", "failures": len(result.failures)})
    for image, reason in list(result.failures.items())[:_FAILURES_SHOWN]:
        print_line(f"  failed: {image}: {reason}")


def _served_embeddings(services: Services) -> tuple[Embeddings, float] | None:
    if (backbone := services.backbone()) is None:
        return None
    return services.embeddings(backbone.version), backbone.backbone_manifest.near_distance


def _print_left_out(reasons: dict[str, int]) -> None:
    for reason, count in reasons.items():
        print_line(f"  left out: {count}, each {reason}")
