"""Labelling configs that cannot be served are refused by name: by an import, by /setup and by the doctor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from taxonomist.backend.labelling.label_studio_export import import_export
from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import ConfigError
from tests.backend.connection.doctor.conftest import seen
from tests.label_studio_stand_in import StandIn

CHOICE = '<Choice value="A"/>'
IMAGE = '<Image name="image" value="$image"/>'
REFUSED = {
    "<Repeater": '<View><Repeater on="$pages"><Image name="p_{{idx}}" value="$pages[{{idx}}]"/>'
    f'<Taxonomy name="t_{{{{idx}}}}" toName="p_{{{{idx}}}}">{CHOICE}</Taxonomy></Repeater></View>',
    'valueList="$images"': f'<View><Image name="i" valueList="$images"/><Taxonomy name="t" toName="i">{CHOICE}'
    "</Taxonomy></View>",
    "apiUrl=": f'<View>{IMAGE}<Taxonomy name="t" toName="image" apiUrl="https://x/tree.json"/></View>',
    "<Video>": f'<View><Video name="v" value="$video"/><Taxonomy name="t" toName="v">{CHOICE}</Taxonomy></View>',
    '"$x" differs by task': f'<View>{IMAGE}<Choices name="c" toName="image"><Choice value="$x"/>{CHOICE}'
    "</Choices></View>",
    'value="$options"': f'<View>{IMAGE}<Choices name="c" toName="image" value="$options"/></View>',
}


@pytest.mark.parametrize(("name", "xml"), REFUSED.items())
def test_an_import_refuses_it_and_stores_nothing(services: Services, tmp_path: Path, name: str, xml: str) -> None:
    (tmp_path / "config.xml").write_text(xml)
    (tmp_path / "export.json").write_text(json.dumps([{"id": 1, "data": {"image": "a.jpg", "images": ["a.jpg"]}}]))
    with pytest.raises(ConfigError) as caught:
        import_export(services, tmp_path / "export.json", project="7", config=tmp_path / "config.xml")
    assert name in str(caught.value)
    assert services.projects.get("7").label_config == ""
    assert (services.journal.pending(), services.catalog.count()) == (0, 0)


@pytest.mark.parametrize(("name", "xml"), REFUSED.items())
def test_setup_refuses_it(client: FlaskClient, name: str, xml: str) -> None:
    answer = client.post("/setup", json={"project": "7.1795531934", "schema": xml})
    assert answer.status_code == 400
    assert name in answer.get_json()["error"]


@pytest.mark.parametrize(("name", "xml"), REFUSED.items())
def test_the_doctor_names_it(services: Services, name: str, xml: str) -> None:
    with StandIn() as label_studio:
        services.projects.update("4", label_studio_url=label_studio.url, api_key=SecretStr("t"))
        label_studio.introduce_itself()
        label_studio.label_config = xml
        check = seen(services, "4")["taxonomy"]
    assert check.status == "fail"
    assert name in check.detail
