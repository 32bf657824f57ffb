"""The panel in German: no English sentence, whatever it shows."""

from __future__ import annotations

import re
from pathlib import Path

from flask import render_template

from taxonomist.backend.labelling.missing_annotators import MissingAnnotators
from taxonomist.backend.prediction.assistance import (
    Assistance,
    LookAlikeGroup,
    Offer,
    Offers,
    OffersKind,
    Reason,
    ShownLookAlike,
)
from taxonomist.backend.services import Services
from taxonomist.backend.web.app import create_app
from taxonomist.backend.web.console.german import GERMAN
from taxonomist.backend.web.console.german_panel import GERMAN_PANEL
from taxonomist.backend.web.console.language import Language
from taxonomist.backend.web.panel import pages, view
from taxonomist.backend.web.panel.view import Links, panel_view
from taxonomist.taxonomy.errors import AuthError, BadRequestError, ImageError, NotFoundError
from tests.backend.web.sentences import ENGLISH, PageText, own_words, sentences_of_templates
from tests.backend.web.test_app import client_of, new_image

PANEL = Path(pages.__file__).parent
PATHS = (("Zimmer", "Bett"),)
LOOK_ALIKES = (ShownLookAlike("1", "", 0.9, True, False, "3"), ShownLookAlike("2", "", 0.8, False, True))
EVERYTHING = Assistance(
    tuple(Offers("Art", kind, (Offer(PATHS[0], 0.5),)) for kind in OffersKind),
    (LookAlikeGroup({"Art": PATHS}, LOOK_ALIKES, {"Art": PATHS}),),
    tuple(Reason),
    MissingAnnotators(3, 2),
    {"Art": "Bild"},
)
PROBLEMS = {pages._in_words(error("x"))[1] for error in (AuthError, NotFoundError, BadRequestError, ImageError)}


def test_a_page_with_everything_has_no_english_sentence(services: Services) -> None:
    shown = panel_view(EVERYTHING, Links(lambda image: image, lambda task: task), Language("de"))
    with create_app(services.settings, services).test_request_context():
        html = render_template("panel.html", view=shown, version="x", project="7", use_key="x")
    parser = PageText("de")
    parser.feed(html)
    texts = parser.found + re.findall(r'data-(?:some|count|back|similarity)="([^"]*)"', html)
    assert [text for text in texts if ENGLISH.search(text)] == []
    assert {"Vorschlag", "Ähnlichkeit 0,90", "fast dasselbe", "{count} weitere"} <= set(texts)


def test_the_language_is_the_one_of_the_browser_or_the_one_chosen_in_the_console(trained: Services) -> None:
    key, client = trained.credentials.project_key("7"), client_of(trained)
    good, wrong = (
        f"/similar?project=7&key={key}&src={new_image(trained, ('Cold', 'Green'))}",
        "/similar?project=7&key=x",
    )
    german = {"Accept-Language": "de-AT,en;q=0.5"}
    for path, sentence in ((good, "<h2>Vorschlag</h2>"), (wrong, "Sagen Sie es Ihrer Projektleitung.")):
        answer = client.get(path, headers=german)
        assert sentence in answer.get_data(as_text=True)
        assert '<html lang="de"' in answer.get_data(as_text=True)
        assert {"accept-language", "cookie"} <= {name.lower() for name in answer.vary}
        assert sentence not in client.get(path).get_data(as_text=True)
    client.set_cookie("taxonomist_language", "en")
    assert "<h2>Suggestion</h2>" in client.get(good, headers=german).get_data(as_text=True)


def test_each_sentence_is_translated_with_the_same_values() -> None:
    needed = sentences_of_templates(PANEL, GERMAN_PANEL) | set(view._HEADINGS.values()) | {*Reason} | PROBLEMS
    assert needed - GERMAN.keys() <= GERMAN_PANEL.keys()
    assert not GERMAN.keys() & GERMAN_PANEL.keys()
    names = re.compile(r"\{(\w+)\}")
    for english, translated in GERMAN_PANEL.items():
        assert set(names.findall(english)) == set(names.findall(translated)), english


def test_templates_have_no_text_of_their_own() -> None:
    for template, words in own_words(PANEL):
        assert words <= {"Alt"}, template
