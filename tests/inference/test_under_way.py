"""What several threads ask for at the same time is done once."""

import threading
from concurrent.futures import ThreadPoolExecutor

from taxonomist.inference.under_way import UnderWay


def test_a_key_is_claimed_once_and_the_others_get_its_result() -> None:
    under_way: UnderWay[str, int] = UnderWay()
    own, others = under_way.claim(["a", "b"])
    assert (own, others) == (["a", "b"], {})
    own, others = under_way.claim(["b", "c"])
    assert (own, list(others)) == (["c"], ["b"])
    under_way.finish("b", 5)
    under_way.finish("b")  # finished already
    assert others["b"].result(0) == 5
    assert under_way.claim(["b"])[0] == ["b"]  # it may be asked for again


def test_of_many_threads_one_works() -> None:
    under_way: UnderWay[int, int] = UnderWay()
    start, worked = threading.Barrier(4), []

    def ask(_: int) -> list[int]:
        start.wait()
        own, others = under_way.claim(range(20))
        worked.extend(own)
        for key in own:
            under_way.finish(key, key * key)
        return [others[key].result() or 0 if key in others else key * key for key in range(20)]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert answers == [[key * key for key in range(20)]] * 4
    assert len(worked) >= 20
