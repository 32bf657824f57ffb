"""What of a labelling config is not learned, or not filled in, is said by connect, /setup, an import and the doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from taxonomist.backend.connection.connect import connect
from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import LabelStudioError
from tests.backend.cli.conftest import Run, run, run_json  # noqa: F401 - a fixture
from tests.backend.connection.doctor.conftest import seen
from tests.label_studio_stand_in import StandIn

IMAGE = '<Image name="image" value="$image"/>'


def control(name: str, attributes: str = "", choice: str = "A", kind: str = "Taxonomy") -> str:
    return f'<{kind} name="{name}" toName="image" {attributes}><Choice value="{choice}"/></{kind}>'


def view(*tags: str) -> str:
    return f"<View>{IMAGE}{control('t')}{''.join(tags)}</View>"


NOTES = {
    'sees it nowhere: <Taxonomy> "r_{{idx}}" is not learned: it is in a <Repeater on="$parts">': view(
        f'<Repeater on="$parts">{control("r_{{idx}}")}</Repeater>'
    ),
    '<Choices> "q_{{idx}}": not learned, since the config has a <Taxonomy>': view(
        f'<Repeater on="$parts">{control("q_{{idx}}", kind="Choices")}</Repeater>'
    ),
    'the name of its choice "$x" differs by task; write the name into the config, or give an alias': (
        f"<View>{IMAGE}{control('c', kind='Choices')}{control('d', choice='$x', kind='Choices')}</View>"
    ),
    'The choice "$x" of "u" has this text as its name': view(control("u", choice="$x")),
    '"u" is learned and never filled in: it depends on "q", which is not learned': view(
        control("q", kind="Choices"), control("u", 'visibleWhen="choice-selected" whenTagName="q"')
    ),
    '"u" is filled in only where annotators see it (visibleWhen="choice-selected" whenTagName="t" whenChoice': (
        view(control("u", 'visibleWhen="choice-selected" whenTagName="t" whenChoiceValue="A"'))
    ),
    '"u" is learned and never filled in: no region is selected': view(
        f'<View visibleWhen="region-selected" whenLabelValue="x">{control("u")}</View>'
    ),
    '"u": whenRole="annotator" is not read, so it counts as shown to all annotators.': view(
        f'<View visibleWhen="no-region-selected" whenRole="annotator">{control("u")}</View>'
    ),
    'visibleWhen="for-reviewers" is not read': view(control("u", 'visibleWhen="for-reviewers"')),
}
parametrized = pytest.mark.parametrize(
    ("note", "xml"), [(note.removeprefix("sees it nowhere: "), xml) for note, xml in NOTES.items()]
)


@pytest.fixture
def label_studio(services: Services) -> Any:
    with StandIn() as stand_in:
        services.projects.update("4", label_studio_url=stand_in.url, api_key=SecretStr("t"))
        stand_in.introduce_itself()
        yield stand_in


@parametrized
def test_connect_says_it(services: Services, label_studio: StandIn, note: str, xml: str) -> None:
    label_studio.label_config = xml
    label_studio.refuse = lambda method, path: 500 if method == "POST" else None  # what follows does not matter
    said: list[str] = []
    with pytest.raises(LabelStudioError):
        connect(
            services.settings,
            services.credentials,
            services.projects,
            url=label_studio.url,
            api_key="t",
            project="4",
            model_version="v",
            ask=lambda question: False,
            say=said.append,
        )
    assert any(line.startswith("Note: ") and note in line for line in said)


@parametrized
def test_the_doctor_says_it(services: Services, label_studio: StandIn, note: str, xml: str) -> None:
    label_studio.label_config = xml
    check = seen(services, "4")["taxonomy"]
    assert check.status == "ok"
    assert note.rstrip(".") in check.detail


@parametrized
def test_setup_logs_it_once(client: FlaskClient, caplog: pytest.LogCaptureFixture, note: str, xml: str) -> None:
    for _ in range(2):
        assert client.post("/setup", json={"project": "7.1795531934", "schema": xml}).status_code == 200
    assert len([message for message in caplog.messages if "project 7: " in message and note in message]) == 1


@parametrized
def test_an_import_says_it(services: Services, run: Run, tmp_path: Path, note: str, xml: str) -> None:  # noqa: F811
    (tmp_path / "config.xml").write_text(xml)
    export = tmp_path / "export.json"
    export.write_text(json.dumps([{"id": 1, "data": {"image": "a.jpg"}}]))
    options = ("--project", "7", "--config", tmp_path / "config.xml")
    shown = " ".join(run("import", export, *options)[1].split())
    assert f"note: {note}" in shown or note in shown
    assert any(note in line for line in run_json(run, "import", export, *options)["notes"])
    assert import_export(services, export, project="7").notes


def test_a_plain_config_has_no_note(services: Services, tmp_path: Path) -> None:
    export = tmp_path / "export.json"
    export.write_text(json.dumps([{"id": 1, "data": {"image": "a.jpg"}}]))
    services.projects.update("7", label_config=view())
    assert import_export(services, export, project="7").notes == ()
