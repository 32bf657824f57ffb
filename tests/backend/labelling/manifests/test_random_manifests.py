"""Random manifests: the numbers of the summary add up to the rows of the file, or everything stays as it was."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from taxonomist.backend.labelling.import_result import UNKNOWN_NAME
from taxonomist.backend.labelling.manifests import ManifestOptions, import_manifest
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.taxonomy.errors import TaxonomistError
from tests.backend.labelling.manifests.small_manifests import state

FILES = ("a.jpg", "b b.jpg", "sub/c.jpg", "Küche.jpg", unicodedata.normalize("NFD", "Bäder.jpg"), "d;e,f.jpg", "g.jpg")
NAMES = (
    "",
    "",
    "Bath",
    "bath",
    "Sink",
    "Küche",
    unicodedata.normalize("NFD", "Küche"),
    "Bath\u00a0",
    "a,b;c",
    'say "x"',
)
ODD_NAMES = ("Ba\x0bth", "two\nlines", "\u200b", "\ufffd", "x" * 300, "<&>'\"", "厨房", "\x85")

file_names = st.sampled_from([*FILES, *FILES, "sub\\c.jpg", "./a.jpg", "B b.jpg", "none.jpg", "../a.jpg", "", "sub"])
cells = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(ODD_NAMES), st.text(max_size=3))
rows = st.tuples(
    file_names, cells, cells, st.sampled_from(["", "p1", "P1", "p2"]), st.sampled_from(["", "", "anna", "bela"])
)
tame_rows = st.tuples(
    st.sampled_from(FILES),
    st.sampled_from(NAMES[2:]),
    st.sampled_from(NAMES),
    st.just(""),
    st.sampled_from(["", "anna"]),
)
headers = st.sampled_from(
    [("file", "level1", "level2", "product", "annotator"), ("File", "Level 1", "LEVEL_2", "Product", "note")]
)
dialects = st.tuples(st.sampled_from([",", ";", "\t"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]))
damages = st.one_of(st.none(), st.none(), st.none(), st.tuples(st.integers(0, 400), st.sampled_from('",;\t\n\x00x')))


@st.composite
def manifests(draw: st.DrawFn) -> tuple[bytes, int | None]:
    """Return a manifest, and the number of its rows where no damage makes that unclear."""
    header, (delimiter, encoding), damage = draw(headers), draw(dialects), draw(damages)
    chosen: list[Sequence[str]] = draw(st.lists(st.one_of(rows, tame_rows, tame_rows), max_size=8))
    if draw(st.booleans()):  # the last row of an image counts, so that some manifests have no contradictions
        chosen = list({(row[0], row[4]): row for row in chosen}.values())
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerows([header, *chosen])
    text = out.getvalue()
    if damage is not None:
        position, letter = damage
        text = text[:position] + letter + text[position:]
    return text.encode(encoding, "surrogatepass"), len(chosen) if damage is None else None


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("random")
    for name in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.mark.slow
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(manifests(), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=3))
def test_random_manifests(
    catalogue: Path,
    tmp_path_factory: pytest.TempPathFactory,
    imports: list[tuple[tuple[bytes, int | None], bool, bool, bool]],
) -> None:
    services = Services(Settings(home=tmp_path_factory.mktemp("home")))
    for (content, count), skip_bad_rows, multi_label, confirmed in imports:
        (catalogue / "m.csv").write_bytes(content)
        before = state(services.settings.home)
        options = ManifestOptions(skip_bad_rows=skip_bad_rows, multi_label=multi_label, confirmed=confirmed)
        try:
            result = import_manifest(services, catalogue / "m.csv", "p", options=options)
        except TaxonomistError:
            assert state(services.settings.home) == before
            event("refused")
            continue
        event("imported")
        left_out = sum(number for reason, number in result.left_out_reasons.items() if reason != UNKNOWN_NAME)
        assert result.taken is not None
        assert result.entries == result.taken + left_out
        assert count is None or result.entries == count
        assert result.images == result.accepted + result.waiting + sum(result.unlabelled.values())
        assert skip_bad_rows or set(result.left_out_reasons) <= {"empty row", UNKNOWN_NAME}
        if not skip_bad_rows:  # then the project has exactly the images of the file
            assert services.catalog.count("p") == result.images
        after = state(services.settings.home)
        again = import_manifest(services, catalogue / "m.csv", "p", options=options)
        assert not any(again.changes.values())
        assert state(services.settings.home) == after
    services.close()
