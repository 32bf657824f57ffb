"""Commands of the data pipeline: data query|split|fetch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.data import Json
from taxonomist.backend.cli.operate import services_of
from taxonomist.backend.cli.output import counting, fields, print_json, say, table
from taxonomist.backend.pretraining.prepared_images import serving_size
from taxonomist.backend.stages.fetch import run_fetch
from taxonomist.backend.stages.files import PARTS
from taxonomist.backend.stages.query import QueryOptions, run_query
from taxonomist.backend.stages.split import SplitOptions, run_split
from taxonomist.storage.catalog.label_query import LabelQuery
from taxonomist.taxonomy.errors import ConfigError

data = typer.Typer(
    help="Choose, split and fetch pictures for a training, each stage from the files of the former.",
    no_args_is_help=True,
)
_FAILURES_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(data, name="data")
    data.command(
        epilog="Examples: `taxonomist data query --out data --labelled` · `taxonomist data query --out data "
        "--include Badezimmersysteme --exclude 'Sort Out' --min-annotators 2` · `taxonomist data query --out data "
        "--unlabelled --address 'azure-blob://pictures/{id}'`"
    )(query)
    data.command(
        epilog="Examples: `taxonomist data split --query data` · "
        "`taxonomist data split --query data --level 2 --seed 3 --no-oversample`"
    )(split)
    data.command(
        epilog="Examples: `taxonomist data fetch --query data --out pictures` · "
        "`taxonomist data fetch --query data --split data --part train --size 160 --out pictures`"
    )(fetch)


def query(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for query.csv, containers.json and query.json.")],
    project: Annotated[str | None, typer.Option(help="Only pictures of this project; default: all.")] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only pictures with this node, of any level, in a label; repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No pictures with this node, of any level, in a label; repeatable.")
    ] = None,
    min_annotators: Annotated[int, typer.Option(min=0, help="Annotators that a picture needs.")] = 0,
    reviewed: Annotated[
        bool | None, typer.Option("--reviewed/--not-reviewed", help="Only pictures with, or without, a review.")
    ] = None,
    labelled: Annotated[
        bool | None, typer.Option("--labelled/--unlabelled", help="Only pictures with, or without, labels.")
    ] = None,
    blurred: Annotated[bool, typer.Option("--blurred", help="Blurred pictures, too.")] = False,
    sortout: Annotated[
        list[str] | None, typer.Option(help="Only pictures in this sort-out state, such as Keep; repeatable.")
    ] = None,
    testset: Annotated[
        bool | None, typer.Option("--testset/--no-testset", help="Only pictures in, or outside, the test set.")
    ] = None,
    control: Annotated[str | None, typer.Option(help="Taxonomy of the label; default: the first that has one.")] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Where pictures that no project has are: a pattern with {id}, {uri_orig}, {container}; "
            "default: uri_orig."
        ),
    ] = None,
    reasons: Annotated[bool, typer.Option(help="Look at every document, to say why the others are left out.")] = True,
    as_json: Json = False,
) -> None:
    """Choose pictures by their labels: ids, addresses, labels and containers, and why the others are left out."""
    asked = LabelQuery(
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
    with counting("Query") as advance:
        done = run_query(services_of(context), asked, out, QueryOptions(control, address, reasons), advance)
    if as_json:
        print_json(asdict(done))
        return
    fields({"folder": done.folder, "pictures": done.pictures, "labelled": done.labelled})
    if done.labels:
        table("Labels", ["level 1", "pictures"], done.labels.items())
    _left_out(done.left_out)


def split(
    context: typer.Context,
    query: Annotated[Path, typer.Option(help="Folder that `data query` has written.")],
    out: Annotated[Path | None, typer.Option(help="Folder for split.csv and split.json; default: the same.")] = None,
    level: Annotated[int, typer.Option(min=1, help="Level of the taxonomy that makes the classes.")] = 1,
    test: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Share that tests; default: the setting test_share.")
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="Share of the rest that validates; default: the setting validation_share."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the draw; default: the setting seed.")] = None,
    oversample: Annotated[
        bool | None,
        typer.Option(
            "--oversample/--no-oversample",
            help="Repeat rare classes in training until all are equally large; default: as the setting imbalance.",
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep/--anew", help="Leave pictures in the part that their document names.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Split the pictures of a query into train, validation and test: by product, stratified by class, seeded."""
    settings = services_of(context).settings
    options = SplitOptions(
        level=level,
        test=settings.test_share if test is None else test,
        validation=settings.validation_share if validation is None else validation,
        seed=settings.seed if seed is None else seed,
        oversample=settings.imbalance == "oversample" if oversample is None else oversample,
        keep=keep,
    )
    done = run_split(query, out or query, options)
    if as_json:
        print_json(asdict(done))
        return
    rows = [(each.label, each.train, each.copies, each.validation, each.test) for each in done.classes]
    table("Pictures", ["class", "train", "with copies", "validation", "test"], rows)
    fields({"folder": done.folder, **done.pictures})
    _left_out(done.left_out)


def fetch(
    context: typer.Context,
    query: Annotated[Path, typer.Option(help="Folder that `data query` has written.")],
    out: Annotated[Path, typer.Option(help="Folder of the pictures; one in it that was stopped goes on.")],
    size: Annotated[
        int | None, typer.Option(min=32, max=1024, help="Side in pixels; default: that of served pictures.")
    ] = None,
    split: Annotated[Path | None, typer.Option(help="Folder that `data split` has written.")] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="Only this part of the split: train, validation or test; repeatable."),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Pictures that are read at the same time.")] = 16,
    as_json: Json = False,
) -> None:
    """Read, decode and resize the pictures of a query, for `pretrain --pictures`; only what is missing is read."""
    services = services_of(context)
    unknown = set(part or ()) - set(PARTS)
    if unknown:
        raise ConfigError(f"There is no part {min(unknown)!r}.", hint=f"There are: {', '.join(PARTS)}.")
    with counting("Fetch") as advance:
        done = run_fetch(
            services,
            query,
            out,
            size or serving_size(services),
            split=split,
            parts=[each for each in PARTS if each in (part or ())],
            concurrency=concurrency,
            advance=advance,
        )
    if as_json:
        print_json(asdict(done))
        return
    fields(asdict(done) | {"size": f"{done.size} pixels", "failures": len(done.failures)})
    for image, reason in list(done.failures.items())[:_FAILURES_SHOWN]:
        say(f"  left out: {image}: {reason}")


def _left_out(reasons: dict[str, int]) -> None:
    for reason, count in reasons.items():
        say(f"  left out: {count}, each {reason}")
