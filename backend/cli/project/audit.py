"""The command `taxonomist audit`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.options import Json, Project, services_of
from taxonomist.backend.cli.output import print_json, print_line, print_table, step_bar
from taxonomist.backend.prediction.label_checks import (
    LabelFinding,
    audit_labels,
    format_paths,
    show_in_label_studio,
    write_findings,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `taxonomist audit --project 4` · `taxonomist audit --limit 200 --csv doubtful.csv` · "
        "`taxonomist audit --project 4 --label-studio`"
    )(audit)


def audit(
    context: typer.Context,
    project: Project = "",
    limit: Annotated[int, typer.Option(min=1, help="Findings at most, the most doubtful first.")] = 100,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="File for the findings; one that is there is replaced.")
    ] = None,
    label_studio: Annotated[
        bool, typer.Option("--label-studio", help="Show the tasks in a tab of Label Studio's Data Manager.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show accepted labels that may be wrong: views of a product disagree, or a model. Nothing is changed."""
    services = services_of(context)
    with step_bar("Audit") as progress:
        found = audit_labels(services, project, progress)
    findings = found.findings[:limit]
    if csv is not None:
        write_findings(csv, findings)
    shown = show_in_label_studio(services, project, findings) if label_studio and findings else 0
    if as_json:
        rows = [asdict(finding) | {"explanation": finding.explanation} for finding in findings]
        print_json(asdict(found) | {"findings": rows, "found": len(found.findings), "tasks_shown": shown})
        return
    if csv is None:
        columns = ["image, and the other", "given label", "contradicting label", "why"]
        title = f"Labels of project {project} that may be wrong"
        print_table(title, columns, map(_row, findings), places=columns[:1])
    counts = Counter(finding.reason for finding in found.findings)
    print_line(
        f"{found.images} labelled images were checked. Shown: {len(findings)} of {len(found.findings)} findings"
        + (f" ({', '.join(f'{reason}: {count}' for reason, count in counts.items())})." if counts else ".")
    )
    for note in found.notes:
        print_line(f"note: {note}")
    if csv is not None:
        print_line(f"written: {csv}")
    if shown:
        print_line(f"Label Studio: the tab of the Data Manager shows {shown} tasks.")


def _row(finding: LabelFinding) -> tuple[str, str, str, str]:
    other = f"\n{finding.other_image}" if finding.other_image else ""
    return (
        f"{finding.image}{other}",
        format_paths(finding.given),
        format_paths(finding.contradicting),
        finding.explanation,
    )
