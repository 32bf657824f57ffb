"""Commands that run the product: demo, serve, worker, connect, doctor."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from taxonomist.backend.cli.output import fields, out, print_json, say
from taxonomist.backend.connection.connecting import connect_project
from taxonomist.backend.connection.doctor import run_checks
from taxonomist.backend.demo.run import run_demo
from taxonomist.backend.services import Services
from taxonomist.backend.settings import load_settings
from taxonomist.backend.state.credentials import check_exposure
from taxonomist.backend.web.become_server import become_server
from taxonomist.backend.worker.worker import Worker


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: `taxonomist demo --port 8080`")(demo)
    app.command(epilog="Examples: `taxonomist serve` · `TAXONOMIST_PASSWORD=… taxonomist serve --host 0.0.0.0`")(serve)
    app.command(epilog="Example: `taxonomist worker`, beside a `taxonomist serve --no-worker`")(worker)
    app.command(epilog="Example: `taxonomist connect --url http://localhost:8080 --api-key … --project 4`")(connect)
    app.command(epilog="Examples: `taxonomist doctor` · `taxonomist doctor --project 4 --json`")(doctor)


def demo(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="First port to try for Label Studio.")] = 8080,
    backend_port: Annotated[int, typer.Option(help="First port to try for the backend.")] = 9090,
    environment: Annotated[
        Path | None, typer.Option(help="Virtual environment with Label Studio; made when it is missing.")
    ] = None,
    keep_running: Annotated[bool, typer.Option(help="Stay until stopped; otherwise end once all is up.")] = True,
) -> None:
    """Start Label Studio with a demo project of furniture pictures, and the backend, all on this machine."""
    run_demo(
        services_of(context).settings,
        environment=environment,
        port=port,
        backend_port=backend_port,
        keep_running=keep_running,
        say=say,
    )


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    with_worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Run the worker, too.")] = True,
) -> None:
    """Run the backend that Label Studio talks to, with its worker beside it."""
    settings = load_settings(
        **{**services_of(context).settings.model_dump(exclude_unset=True), **_given(host=host, port=port)}
    )
    check_exposure(settings)
    say(f"taxonomist serves {settings.url}, state is in {settings.home}")
    become_server(settings, with_worker=with_worker)


def worker(
    context: typer.Context,
    parent: Annotated[
        int | None, typer.Option(hidden=True, help="End when this process is no longer the parent.")
    ] = None,
) -> None:
    """Run only the worker: it decides labels, trains, embeds and writes predictions."""
    Worker(services_of(context), parent=parent).run()


def connect(
    context: typer.Context,
    project: Annotated[str, typer.Option(help="Number of the project in Label Studio.")],
    url: Annotated[str | None, typer.Option(help="Address of Label Studio.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Access token of a Label Studio user.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before the labelling config is changed.")
    ] = False,
) -> None:
    """Register the backend in a project: model, webhook with its secret, look-alike panel, pre-filling."""
    connected = connect_project(
        services_of(context), project, url=url, api_key=api_key, ask=lambda text: yes or typer.confirm(text), say=say
    )
    fields(asdict(connected))


def doctor(
    context: typer.Context,
    project: Annotated[str | None, typer.Option(help="Number of the project; default: every known one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check what commonly breaks, and say how to mend it. Ends with 1 when a check fails."""
    checks = run_checks(services_of(context), project)
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        marks = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}
        for check in checks:
            out.print(f"{marks[check.status]} ", end="")
            say(f"{check.name}: {check.detail}")
            if check.fix:
                say(f"       fix: {check.fix}")
    raise typer.Exit(1 if any(check.status == "fail" for check in checks) else 0)


def services_of(context: typer.Context) -> Services:
    """The services that the root command opened."""
    services = context.find_root().obj
    assert isinstance(services, Services)
    return services


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}
