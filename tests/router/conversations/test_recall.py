import threading

from router.conversations.recall import Recall
from router.decision import Decision


class Counting:
    """Decides, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def decide(self, prompt: str) -> Decision:
        self.asked.append(prompt)
        return Decision(prompt, prompt, 1.0, {prompt: 1.0}, False, "expert", {}, 0.0)

    def cluster_in(self, label: str, prompt: str, decision: Decision) -> str:
        self.asked.append(f"{label}: {prompt}")
        return f"{label}/{prompt}"


def test_what_was_asked_before_is_not_decided_again() -> None:
    router = Counting()
    recall = Recall(router)
    assert [recall.decide(prompt).category for prompt in ("a", "b", "a")] == ["a", "b", "a"]
    assert router.asked == ["a", "b"]


def test_it_keeps_those_that_were_used_last() -> None:
    router = Counting()
    recall = Recall(router, size=2)
    for prompt in ("a", "b", "a", "c", "a", "b"):
        recall.decide(prompt)
    assert router.asked == ["a", "b", "c", "b"]
    assert repr(recall).endswith("2 of 2 decisions>")


def test_a_finer_category_under_another_label_is_found_once() -> None:
    router = Counting()
    recall = Recall(router, size=2)
    decision = recall.decide("a")
    for label, prompt in (("x", "a"), ("x", "b"), ("x", "a"), ("y", "a"), ("x", "b")):
        assert recall.cluster_in(label, prompt, decision) == f"{label}/{prompt}"
    assert router.asked == ["a", "x: a", "x: b", "y: a", "x: b"]


def test_text_that_is_no_unicode_is_decided_too() -> None:
    assert Recall(Counting()).decide("\udcff").category == "\udcff"


def test_many_threads_get_their_own_answers() -> None:
    recall = Recall(Counting(), size=3)
    wrong: list[str] = []

    def ask() -> None:
        for number in range(500):
            prompt = str(number % 7)
            if recall.decide(prompt).category != prompt:
                wrong.append(prompt)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
