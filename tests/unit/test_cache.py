"""The answer cache: it forgets the one unused longest, and holds nothing that gives a text away."""

from sidecar.cache import AnswerCache


def test_the_answer_unused_longest_is_forgotten_first() -> None:
    cache: AnswerCache[int] = AnswerCache(2)
    a, b, c = (cache.key(text) for text in "abc")
    cache.put(a, 1)
    cache.put(b, 2)
    assert cache.get(a) == 1
    cache.put(c, 3)
    assert (cache.get(a), cache.get(b), cache.get(c)) == (1, None, 3)
    assert len(cache) == 2
    assert (cache.hits, cache.misses) == (3, 1)


def test_a_cache_without_room_remembers_nothing() -> None:
    cache: AnswerCache[int] = AnswerCache(0)
    cache.put(cache.key("a"), 1)
    assert cache.get(cache.key("a")) is None


def test_a_key_can_be_computed_by_its_own_cache_alone() -> None:
    one, other = AnswerCache[int](1), AnswerCache[int](1)
    assert one.key("a") == one.key("a")
    assert one.key("a") != other.key("a")
    assert one.key("a") != one.key("b")
