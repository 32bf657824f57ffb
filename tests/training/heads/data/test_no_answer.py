from taxonomist.taxonomy.paths import NO_ANSWER
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.dataset import Example
from taxonomist.training.heads.data.no_answer import learn_no_answer

COLOUR = Tree("colour", "image", "taxonomy", (("Red",), ("Blue",)))
MARK = Tree("mark", "image", "taxonomy", (("Scratch",),))
EMPTY = (NO_ANSWER,)
RED, SCRATCH = (("Red",),), (("Scratch",),)


def examples(count: int, **labels: tuple[tuple[str, ...], ...]) -> list[Example]:
    return [Example(f"{sorted(labels)}-{labels}-{number}", labels) for number in range(count)]


def test_a_control_that_is_often_left_empty_learns_no_answer() -> None:
    given = examples(20, colour=RED, mark=SCRATCH) + examples(10, colour=RED, mark=EMPTY)
    found, trees = learn_no_answer(given, [COLOUR, MARK])
    assert found == given
    assert [tree.paths for tree in trees] == [COLOUR.paths, (("Scratch",), NO_ANSWER)]


def test_a_control_that_is_rarely_left_empty_learns_nothing_of_it() -> None:
    for empty, answered in ((3, 20), (4, 100), (5, 0)):
        given = examples(answered, mark=SCRATCH) + examples(empty, mark=EMPTY)
        found, trees = learn_no_answer(given, [MARK])
        assert (len(found), trees) == (answered, [MARK])


def test_an_image_keeps_its_other_labels() -> None:
    given = examples(20, colour=RED, mark=SCRATCH) + examples(1, colour=RED, mark=EMPTY)
    found, trees = learn_no_answer(given, [COLOUR, MARK])
    assert (len(found), trees, found[-1].labels) == (21, [COLOUR, MARK], {"colour": RED})


def test_images_without_any_answer_count() -> None:
    given = examples(20, colour=RED) + examples(10, colour=EMPTY)
    found, (tree,) = learn_no_answer(given, [COLOUR])
    assert (len(found), NO_ANSWER in tree) == (30, True)
