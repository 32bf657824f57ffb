"""The heads of two layers in an ensemble: what they have not seen, and the one head that they become."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.targets import HeadData, Labels, Outputs
from taxonomist.training.heads.ensemble import MEMBERS, Members, train_members
from taxonomist.training.heads.head_options import HeadOptions

COLOUR = Tree("colour", "image", "taxonomy", (("warm",), ("warm", "red"), ("warm", "pink"), ("cold",)))
SIZE = Tree("size", "image", "choices", (("small",), ("large",)))
OUTPUTS = Outputs((COLOUR, SIZE))
X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
PRODUCTS = [f"p{row // 2}" for row in range(40)]
LABELS: list[dict[str, tuple[TaxonomyPath, ...]]] = [
    {"colour": (COLOUR.paths[1 + int(x[0] > 0)],), "size": (SIZE.paths[int(x[1] > 0)],)} for x in X
]  # the first number tells the colour, the second the size


def train(labels: Sequence[Labels], products: list[str] = PRODUCTS) -> Members:
    data = HeadData.plain(X, OUTPUTS.encode(labels))
    return train_members(data, products, OUTPUTS, HeadOptions(hidden=8, epochs=3, threads=1), lambda step, share: None)


def test_an_image_is_predicted_by_a_head_that_has_not_seen_its_product() -> None:
    changed = [label | {"colour": (("cold",),)} if product == "p7" else label
               for label, product in zip(LABELS, PRODUCTS, strict=True)]  # fmt: skip
    before, after = train(LABELS).held_out, train(changed).held_out
    is_same = (before == after).all(axis=1)
    assert is_same[[14, 15]].all()
    assert not is_same.all()  # the others do see it


def test_one_head_gives_the_mean_of_the_logits_at_the_temperature_of_each_control() -> None:
    members = train(LABELS)
    assert len(members.heads) == MEMBERS
    mean = np.mean([head.outputs(X) for head in members.heads], axis=0)
    merged = members.merged({"colour": 2.0}).logits(X)
    np.testing.assert_allclose(merged["colour"], mean[:, :4] / 2, atol=1e-5)
    np.testing.assert_allclose(merged["size"], mean[:, 4:], atol=1e-5)


def test_a_single_product_has_a_head_and_no_prediction() -> None:
    members = train(LABELS, ["p"] * 40)
    assert len(members.heads) == 1
    assert not members.held_out.any()
