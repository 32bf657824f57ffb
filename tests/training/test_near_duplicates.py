import numpy as np

from taxonomist.training.near_duplicates import near_duplicates


def test_copies_are_found_and_other_images_are_not() -> None:
    random = np.random.default_rng(0)
    images = random.normal(3, 1, (40, 32)).astype(np.float32)
    copies = images[:10] + random.normal(0, 0.03, (10, 32)).astype(np.float32)
    ids = [f"i{n}" for n in range(40)] + [f"copy of i{n}" for n in range(10)]
    near = near_duplicates(ids, np.concatenate([images, copies]))
    assert near == {f"{kind}i{n}": f"i{n}" for n in range(10) for kind in ("", "copy of ")}


def test_a_chain_is_one_product() -> None:
    steps = np.linspace(0, 0.5, 11)
    circle = np.stack([np.cos(steps), np.sin(steps)], axis=1)
    vectors = np.concatenate([circle, -circle]).astype(np.float32)  # their mean is zero
    near = near_duplicates([str(n) for n in range(22)], vectors)
    assert set(near.values()) == {"0", "11"}
    assert len(near) == 22


def test_none_one_and_equal_images() -> None:
    assert near_duplicates([], np.empty((0, 4), np.float32)) == {}
    assert near_duplicates(["a"], np.ones((1, 4), np.float32)) == {}
    assert near_duplicates(["a", "b"], np.ones((2, 4), np.float32)) == {"a": "a", "b": "a"}
