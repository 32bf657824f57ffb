"""The look-alike panel is put into labelling configs of every style, and nothing else of them changes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxonomist.backend.connection.look_alike_panel import PANEL_ID, panel_address, panels_in, with_panel
from taxonomist.taxonomy.errors import ConfigError, ConfigTooLargeError
from taxonomist.taxonomy.label_config import parse_label_config

URL = "http://127.0.0.1:9090"
KEY = "a-b_c3"
TAXONOMY = '<Taxonomy name="t" toName="image"><Choice value="A &amp; B"><Choice value="C"/></Choice></Taxonomy>'
SIMPLE = f'<View><Image name="image" value="$image"/>{TAXONOMY}</View>'
ADDED = re.compile(r'<View style="[^"]*"><View style="[^"]*">(.*?)</View><Markdown [^>]*/></View>', re.DOTALL)


def markdown(label_config: str) -> ElementTree.Element:
    [found] = ElementTree.fromstring(label_config).iter("Markdown")
    return found


def test_the_panel_stands_beside_the_image() -> None:
    new = with_panel(SIMPLE, URL, "4", KEY)
    row = ElementTree.fromstring(new)[0]
    assert [child.tag for child in row] == ["View", "Markdown"]
    assert row[0][0].attrib == {"name": "image", "value": "$image"}
    assert "display: flex" in row.attrib["style"]


def test_the_address_is_escaped_for_html_and_for_xml() -> None:
    new = with_panel(SIMPLE, URL, "4", KEY)
    assert "&amp;amp;key=a-b_c3&amp;amp;src=$image&quot;" in new
    html = markdown(new).attrib["value"]  # one level is XML's, the other is left for the browser
    assert 'src="http://127.0.0.1:9090/similar?project=4&amp;key=a-b_c3&amp;src=$image"' in html
    assert panels_in(new) == [f"{URL}/similar?project=4&key=a-b_c3&src=$image"]
    assert panels_in(new) == [panel_address(URL, "4", KEY, "$image")]


def test_a_second_time_changes_nothing() -> None:
    once = with_panel(SIMPLE, URL, "4", KEY)
    assert with_panel(once, URL, "4", KEY) == once


def test_a_new_key_or_address_replaces_only_the_address() -> None:
    old = with_panel(SIMPLE, URL, "4", KEY)
    new = with_panel(old, "https://taxonomist.example.org/x", "4", "n3w")
    assert new == old.replace(URL, "https://taxonomist.example.org/x").replace(KEY, "n3w")


def test_a_panel_that_was_moved_and_styled_is_updated_where_it_stands() -> None:
    old = (
        "<View>\n  <Image name='image' value='$image'/>\n  <!-- <Markdown idattr='taxonomist-look-alikes'/> -->\n"
        f"  <View><Markdown   classname='mine'\n  idattr='{PANEL_ID}' value = 'x > y'  /></View>{TAXONOMY}</View>"
    )
    new = with_panel(old, URL, "4", KEY)
    before, _, after = old.partition("'x > y'")
    assert new.startswith(before + '"')
    assert new.endswith('"' + after)
    assert panels_in(new) == [panel_address(URL, "4", KEY, "$image")]


def test_a_panel_without_our_mark_is_known_by_its_address() -> None:
    old = with_panel(SIMPLE, URL, "3", "copied").replace(f'idattr="{PANEL_ID}" ', "")
    new = with_panel(old, URL, "4", KEY)
    assert panels_in(new) == [panel_address(URL, "4", KEY, "$image")]
    assert PANEL_ID not in new


@pytest.mark.parametrize("empty", [f'<Markdown idattr="{PANEL_ID}"/>', f'<Markdown idattr="{PANEL_ID}" ></Markdown>'])
def test_a_panel_without_a_value_gets_one(empty: str) -> None:
    new = with_panel(SIMPLE.replace(TAXONOMY, empty + TAXONOMY), URL, "4", KEY)
    assert panels_in(new) == [panel_address(URL, "4", KEY, "$image")]
    assert markdown(new).attrib["idattr"] == PANEL_ID


def test_two_panels_are_both_brought_up_to_date() -> None:
    one = with_panel(SIMPLE, URL, "4", "old")
    [element] = re.findall(r"<Markdown [^>]*/>", one)
    new = with_panel(one.replace(TAXONOMY, element + TAXONOMY), URL, "4", KEY)
    assert panels_in(new) == [panel_address(URL, "4", KEY, "$image")] * 2


def test_of_several_images_the_taxonomys_is_taken() -> None:
    config = (
        '<View><Image name="overview" value="$room"/><Image name="detail" value="$part"/>'
        '<Image name="more" value="$more"/>' + TAXONOMY.replace('"image"', '"detail"') + "</View>"
    )
    new = with_panel(config, URL, "4", KEY)
    assert panels_in(new) == [panel_address(URL, "4", KEY, "$part")]
    assert '"><Image name="detail" value="$part"/></View><Markdown' in new


TWO = """<View><View><Image name="left" value="$a"/>
  <Taxonomy name="l" toName="left"><Choice value="A"/></Taxonomy></View>
  <View><Image name="right" value="https://x/?f=$f&amp;size=9"/>
  <Taxonomy name="r" toName="right"><Choice value="A"/></Taxonomy></View></View>"""


def test_each_labelled_image_has_a_panel_of_its_own() -> None:
    new = with_panel(TWO, URL, "4", KEY)
    wanted = [panel_address(URL, "4", KEY, value) for value in ("$a", "https://x/?f=$f&size=9")]
    assert panels_in(new) == wanted
    assert with_panel(new, URL, "4", KEY) == new
    assert panels_in(with_panel(new, URL, "4", "n3w")) == [address.replace(KEY, "n3w") for address in wanted]
    assert parse_label_config(new) == parse_label_config(TWO)


def test_a_panel_of_one_image_is_kept_and_the_other_image_gets_one() -> None:
    new = with_panel(TWO, URL, "4", KEY)
    [first, second] = re.findall(r"<Markdown [^>]*/>", new)
    assert with_panel(new.replace(first, ""), URL, "4", KEY).count(second) == 1
    assert panels_in(with_panel(new.replace(second, ""), URL, "4", KEY)) == panels_in(new)


def test_an_image_that_moved_to_another_field_keeps_its_panel() -> None:
    old = with_panel(SIMPLE, URL, "4", KEY).replace('value="$image"', 'value="$photo"')
    assert panels_in(with_panel(old, URL, "4", KEY)) == [panel_address(URL, "4", KEY, "$photo")]


def test_flat_choices_get_a_panel_too() -> None:
    config = '<View><Image name="i" value="$u"/><Choices name="c" toName="i"><Choice value="a"/></Choices></View>'
    assert panels_in(with_panel(config, URL, "4", KEY)) == [panel_address(URL, "4", KEY, "$u")]


@pytest.mark.parametrize(
    "config",
    [
        "<View",
        "",
        '<View><Image name="image" value="$image"/></View>',
        '<View><Text name="image" value="$image"/></View>',
        '<!DOCTYPE View [<!ENTITY x "y">]>' + SIMPLE,
    ],
)
def test_what_has_no_taxonomy_gets_no_panel(config: str) -> None:
    with pytest.raises(ConfigError):
        with_panel(config, URL, "4", KEY)


def test_no_panel_is_found_where_there_is_none() -> None:
    assert panels_in(SIMPLE) == []
    assert panels_in('<View><Markdown value="&lt;iframe src=&quot;https://example.org&quot;>"/></View>') == []


blanks = st.text(" \n\t\r", max_size=3)
letters = st.characters(codec="utf-8", exclude_characters="<>&\"'\x7f", exclude_categories=["C"])
words = st.text(letters, max_size=8)
fillers = st.one_of(
    blanks,
    words,
    words.map(lambda word: f"<!-- <Image name='image' value='$image'/> {word.replace('-', '')} -->"),
    words.map(lambda word: f"<Header value='{word} > \"/>'/>"),
    words.map(lambda word: f'<Style value="a > b">.x {{ content: "{word}" }}</Style>'),
    words.map(lambda word: f"<View><![CDATA[<Image name='image'/> {word.replace(']', '')} </View>]]></View>"),
    st.just("<?pi <Image/> ?>"),
    st.just('<Image name="other" value="$other"/>'),
    st.just("<View className='a'><View/></View>"),
)
images = st.builds(
    lambda quote, gap, extra, close: (
        f"<Image{gap or ' '}name{gap}={quote}image{quote} {extra}\nvalue={quote}$image{quote}{gap}{close}"
    ),
    quote=st.sampled_from("\"'"),
    gap=blanks,
    extra=st.sampled_from(["", 'zoom="true"', "maxWidth='a>b' ", 'style="&quot;/>"', "naïve='ü€𝄞'"]),
    close=st.sampled_from(["/>", "></Image>", ">text/></Image >", "><!-- </Image> --></Image\n>"]),
)


@given(before=st.lists(fillers, max_size=5), image=images, after=st.lists(fillers, max_size=5), nested=st.booleans())
def test_every_other_byte_stays(before: list[str], image: str, after: list[str], nested: bool) -> None:
    open_tag, close_tag = ("<View style='x'><View>", "</View></View >") if nested else ("<View>", "</View>")
    head, tail = open_tag + "".join(before), "".join(after) + TAXONOMY + close_tag
    old = head + image + tail
    new = with_panel(old, URL, "4", KEY)
    assert new.startswith(head)
    assert new.endswith(tail)
    added = ADDED.fullmatch(new.removeprefix(head).removesuffix(tail))
    assert added is not None
    assert added.group(1) == image
    assert parse_label_config(new) == parse_label_config(old)
    assert panels_in(new) == [panel_address(URL, "4", KEY, "$image")]
    assert with_panel(new, URL, "4", KEY) == new
    assert with_panel(with_panel(new, URL, "4", "other"), URL, "4", KEY) == new


def test_a_config_that_is_too_large_is_not_looked_at() -> None:
    with pytest.raises(ConfigTooLargeError, match="at most 4,000,000"):
        panels_in(SIMPLE + " " * 4_000_000)


def test_an_absolute_address_becomes_a_path() -> None:
    absolute = with_panel(SIMPLE, "http://127.0.0.1:9090", "4", "k")
    relative = with_panel(SIMPLE, "/taxonomist", "4", "k")
    assert with_panel(absolute, "/taxonomist", "4", "k") == relative
    assert panels_in(relative) == ["/taxonomist/similar?project=4&key=k&src=$image"]
