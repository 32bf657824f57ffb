"""A lead labels many images in one action: only in a person's name, after a confirmation, and undone the same way."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from taxonomist.backend.services import Services
from taxonomist.backend.state.bulk_labels import ActionState, ItemState
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.web.app import create_app
from taxonomist.backend.web.console.bulk import wording
from taxonomist.backend.web.console.bulk.german import BULK
from taxonomist.backend.web.console.bulk.typed_paths import read_typed, shown_path
from taxonomist.backend.web.console.language import LANGUAGE
from taxonomist.backend.web.people import AuditLog
from taxonomist.storage.catalog import ImageDocument, ProjectLabels, image_id
from taxonomist.storage.journal import TaskSaved
from taxonomist.taxonomy.label_config import parse_label_config
from tests.backend.labelling.bulk.test_writing import CREATED_AT
from tests.backend.web.console.conftest import PASSWORD
from tests.backend.web.console.test_people import FORWARDED
from tests.backend.web.people.conftest import label_studio
from tests.backend.web.people.sessions import ANNA, LEA, OUTER, LabelStudio, services
from tests.label_studio_stand_in import SOURCE
from tests.small_world import CONFIG

__all__ = ["label_studio"]

EVIL = "<script>alert('x')</script>"
ALIASES = """<View><Image name="image" value="$image"/><Taxonomy name="colour" toName="image" leafsOnly="true">
<Choice value="Warm" alias="w"><Choice value="Red" alias="r"/></Choice></Taxonomy></View>"""


SEVERAL = CONFIG.replace(
    "</View>",
    '<Image name="back" value="$back"/><Taxonomy name="other" toName="back"><Choice value="A"/></Taxonomy></View>',
)


class Lead(NamedTuple):
    """Lea's browser, at Label Studio's address."""

    client: FlaskClient
    services: Services

    def get(self, path: str) -> str:
        answer = self.client.get(f"/project/4/{path}")
        assert answer.status_code == 200, path
        return html.unescape(answer.get_data(as_text=True))

    def post(self, path: str, token: str | None = None, **form: Any) -> tuple[int, str]:
        found = re.search(r'name="token" value="([0-9a-f]+)"', self.get("images"))
        assert found
        data = {"token": found[1] if token is None else token, **form}
        answer = self.client.post(f"/project/4/{path}", data=data)
        return answer.status_code, answer.headers.get("Location") or html.unescape(answer.get_data(as_text=True))

    def propose(self, **form: Any) -> str:
        status, location = self.post("label-many", **{"check": "1", "label-0": "Warm › Red", **form})
        assert status == 303, location
        return location.partition("id=")[2]


def uri(number: int) -> str:
    return f"/data/upload/4/{number}.jpg"


@pytest.fixture
def lead(tmp_path: Path, label_studio: LabelStudio) -> Lead:
    made = services(tmp_path, label_studio, password=SecretStr(PASSWORD))
    made.projects.update("4", label_config=CONFIG, created=SOURCE.partition(".")[2])
    made.journal.record([TaskSaved("4", SOURCE, str(number), uri(number), CREATED_AT) for number in range(1, 4)])
    made.journal.fold()
    for number in range(1, 5):  # the last one has no task
        document = ImageDocument(id=image_id(uri(number)))
        made.catalog.put(document.in_project("4", ProjectLabels(uri=uri(number), task_id=str(number))))
    client = create_app(made.settings, made).test_client()
    client.environ_base |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in FORWARDED.items()}
    client.set_cookie("sessionid", LEA)
    return Lead(client, made)


def test_images_are_labelled_after_a_confirmation_and_undone(lead: Lead) -> None:
    assert 'name="image"' in lead.get("images")
    id = lead.propose()
    page = lead.get(f"labelled-many?id={id}")
    assert "Label 3 images as Lea@Example.com?" in page
    assert "1 image cannot be labelled." in page
    assert "It has no task in Label Studio." in page
    assert lead.services.jobs.latest("4", JobKind.BULK) == []
    for _ in range(2):  # a double click
        assert lead.post("labelled-many", id=id, do="start")[0] == 303
    assert len(lead.services.jobs.latest("4", JobKind.BULK)) == 1
    running = lead.client.get(f"/project/4/labelled-many?id={id}")
    assert (running.headers["Refresh"], "being written" in running.get_data(as_text=True)) == ("3", True)
    items = lead.services.bulk_labels.items(id, [ItemState.WAITING])
    lead.services.bulk_labels.keep(id, [replace(item, state=ItemState.WRITTEN, annotation=9) for item in items])
    lead.services.bulk_labels.move("4", id, ActionState.WRITTEN, of=[ActionState.WRITING])
    assert "3 images are labelled." in lead.get(f"labelled-many?id={id}")
    assert "Warm › Red" in lead.get("labelled-many")
    assert "Undo this action?" in lead.get(f"labelled-many?id={id}&ask=undo")
    assert lead.post("labelled-many", id=id, do="undo")[0] == 303
    action = lead.services.bulk_labels.get("4", id)
    assert action is not None
    assert (action.person, action.state) == (1, ActionState.UNDOING)
    entries = AuditLog(lead.services.settings.home).entries("4")
    assert [(entry.who, entry.action) for entry in entries] == [
        ("Lea@Example.com", "undo-labels"),
        ("Lea@Example.com", "label-many"),
    ]
    assert entries[1].what == f"3 × {id}: colour: Warm › Red"
    assert "Undo the labels of many images" in lead.get("changes")


def test_the_images_of_a_filter_or_those_that_are_selected(lead: Lead) -> None:
    chosen, other = image_id(uri(2)), image_id(uri(1))
    page = lead.post("label-many", image=[chosen])[1]
    assert f'type="hidden" name="image" value="{chosen}"' in page
    assert [item.image_id for item in lead.services.bulk_labels.items(lead.propose(image=[chosen, "unknown"]))] == [
        chosen
    ]
    lead.services.catalog.update(chosen, lambda document: document.model_copy(update={"face_rects": [[0, 0, 1, 1]]}))
    assert "Images with personal data are left out" in lead.get("label-many")
    assert chosen not in {item.image_id for item in lead.services.bulk_labels.items(lead.propose())}
    labels = ProjectLabels(uri=uri(1), task_id="1", group="sofa")
    lead.services.catalog.update(other, lambda document: document.in_project("4", labels))
    status, location = lead.post("label-many?product=sofa", **{"check": "1", "label-0": "Warm"})
    assert status == 303
    assert [item.image_id for item in lead.services.bulk_labels.items(location.partition("id=")[2])] == [other]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "Give a label for at least one field."),
        ("Warm › Redd", "The control has no such path. Did you mean Warm › Red?"),
        (EVIL, "The control has no such path."),
    ],
)
def test_a_path_that_the_control_does_not_take_is_explained(lead: Lead, typed: str, sentence: str) -> None:
    status, page = lead.post("label-many", **{"check": "1", "label-0": typed})
    assert status == 200
    assert sentence in page
    assert lead.services.bulk_labels.count("4") == 0


def test_people_type_what_they_see_and_aliases_are_written() -> None:
    (tree,) = parse_label_config(ALIASES).trees
    assert [read_typed(tree, text).path for text in (" Warm › Red ", "Warm>Red", "w > r", "")] == [
        ("w", "r"),
        ("w", "r"),
        ("w", "r"),
        None,
    ]
    assert shown_path(tree, ("w", "r")) == "Warm › Red"
    assert [read_typed(tree, text).problem for text in ("Warm", "Blue")] == ["not_a_leaf", "unknown"]


def test_an_interrupted_action_can_be_continued(lead: Lead) -> None:
    id = lead.propose()
    lead.post("labelled-many", id=id, do="start")
    job = lead.services.jobs.start_next({JobKind.BULK})
    assert job is not None
    lead.services.jobs.finish(job.id, JobState.FAILED, f"Label Studio is away {EVIL}")
    answer = lead.client.get(f"/project/4/labelled-many?id={id}")
    page = answer.get_data(as_text=True)
    assert "Refresh" not in answer.headers
    assert "It was interrupted." in page
    assert EVIL not in page
    lead.post("labelled-many", id=id, do="continue")
    assert [job.state for job in lead.services.jobs.latest("4", JobKind.BULK)] == [JobState.WAITING, JobState.FAILED]


def test_without_a_person_the_action_is_absent_and_says_why(lead: Lead) -> None:
    id = lead.propose()
    lead.client.delete_cookie("sessionid")
    lead.client.post("/login", data={"password": PASSWORD})
    assert "Log in to Label Studio in this browser" in lead.get("label-many")
    assert lead.post("label-many", **{"check": "1", "label-0": "Warm"})[0] == 200
    assert lead.post("labelled-many", id=id, do="start")[0] == 404
    lead.client.set_cookie("sessionid", LEA)  # who has the password may be logged in to Label Studio, too
    assert "as Lea@Example.com" in lead.get("label-many")
    lead.services.projects.update("4", label_studio_outer="https://elsewhere.example")
    assert "which is not so here" in lead.get("label-many")
    lead.services.projects.update("4", label_studio_outer=OUTER)
    lead.services.projects.update("4", label_config=SEVERAL)
    assert "one by one in Label Studio" in lead.get("label-many")
    assert lead.services.bulk_labels.count("4") == 1


def test_only_leads_of_the_project_and_only_forms_of_ours(lead: Lead) -> None:
    id = lead.propose()
    assert lead.post("labelled-many", token="0" * 64, id=id, do="start")[0] == 403
    assert lead.post("label-many", token="", check="1", **{"label-0": "Warm"})[0] == 403
    assert lead.client.get("/project/5/labelled-many", query_string={"id": id}).status_code == 404
    lead.client.set_cookie("sessionid", ANNA)
    for path in ("label-many", "labelled-many", f"labelled-many?id={id}"):
        assert lead.client.get(f"/project/4/{path}").status_code == 403
        assert lead.client.post(f"/project/4/{path}").status_code == 403
    action = lead.services.bulk_labels.get("4", id)
    assert action is not None
    assert action.state is ActionState.PROPOSED


def test_pages_are_german_where_the_reader_is(lead: Lead) -> None:
    sentences = [*wording.ABSENT.values(), *wording.PROBLEMS.values(), *wording.STATES.values()]
    assert {*sentences, *(text for pair in wording.COUNTS.values() for text in pair)} <= BULK.keys()
    id = lead.propose()
    lead.client.set_cookie(LANGUAGE, "de")
    english = re.compile(r">[^<]*\b(the|of|is|are|and|not|no|has|have|with)\b[^<]*<", re.IGNORECASE)
    for path in ("label-many", "labelled-many", f"labelled-many?id={id}", f"labelled-many?id={id}&ask=undo"):
        page = re.sub(r'<(\w+)[^>]* lang="en".*?</\1>', "", lead.get(path))
        assert not english.search(page.partition("<main")[2].partition("</main")[0]), path
