"""The checker itself: histories made by hand, good ones and bad ones."""

from __future__ import annotations

import pytest

from tests.fault.machine import linearizable
from tests.fault.machine.history import Entry, Event, History, Place, Refused
from tests.fault.machine.linearizable import Undecided, explain

HERE = Place("bucket", "key")


class Told(History):
    """Events that are told one after the other; what overlaps is begun by hand."""

    def happened(self, kind: str, answer: object, **asked: object) -> Event:
        event = self.begin(HERE, kind, **asked)  # type: ignore[arg-type]
        self.end(event, answer)
        return event

    def put(self, body: str, **asked: object) -> Event:
        return self.happened("put", f"version of {body}", body=body, **asked)

    def got(self, body: str) -> Event:
        return self.happened("get", Entry(f"version of {body}", body))

    def got_nothing(self) -> Event:
        return self.happened("get", Refused())

    def explained(self, *, versioned: bool = False) -> bool:
        return not explain(self.events, versioned=versioned)


def test_what_was_put_last_is_read() -> None:
    told = Told()
    told.put("a")
    told.put("b")
    told.got("b")
    assert told.explained()


def test_a_stale_read_is_found() -> None:
    told = Told()
    told.put("a")
    told.put("b")
    told.got("a")
    assert not told.explained()


def test_a_lost_write_is_found() -> None:
    told = Told()
    told.put("a")
    told.got_nothing()
    assert not told.explained()


def test_a_resurrected_object_is_found() -> None:
    told = Told()
    told.put("a")
    told.happened("delete", None)
    told.got_nothing()
    told.got("a")
    assert not told.explained()


def test_of_writes_at_once_either_may_be_last() -> None:
    for last in ("a", "b"):
        told = Told()
        first, second = told.begin(HERE, "put", body="a"), told.begin(HERE, "put", body="b")
        told.end(second, "version of b")
        told.end(first, "version of a")
        told.got(last)
        assert told.explained()


def test_readers_agree_on_which_of_two_writes_was_last() -> None:
    told = Told()
    first, second = told.begin(HERE, "put", body="a"), told.begin(HERE, "put", body="b")
    told.end(second, "version of b")
    told.end(first, "version of a")
    told.got("a")
    told.got("b")
    assert not told.explained()


def test_a_write_without_an_answer_may_have_happened_or_not_but_not_both() -> None:
    for bodies, good in (("ab", True), ("aa", True), ("bb", True), ("aba", False), ("ba", False)):
        told = Told()
        told.put("a")
        told.begin(HERE, "put", body="b")
        for body in bodies:
            told.got(body)
        assert told.explained() == good, bodies


def test_a_write_without_an_answer_may_happen_late() -> None:
    told = Told()
    told.begin(HERE, "put", body="b")
    told.put("a")
    told.got("a")
    told.got("b")
    assert told.explained()


def test_a_condition_must_have_held_when_it_was_met() -> None:
    told = Told()
    told.put("a")
    told.put("b", if_absent=True)
    assert not told.explained()


def test_a_condition_must_not_have_held_when_it_was_refused() -> None:
    told = Told()
    told.happened("put", Refused(), body="a", if_absent=True)
    assert not told.explained()


def test_of_two_who_put_if_absent_at_once_one_is_refused() -> None:
    for answers, good in (((Refused(), "version of b"), True), (("version of a", "version of b"), False), ((Refused(), Refused()), False)):
        told = Told()
        first, second = told.begin(HERE, "put", body="a", if_absent=True), told.begin(HERE, "put", body="b", if_absent=True)
        told.end(first, answers[0])
        told.end(second, answers[1])
        assert told.explained() == good


def test_a_put_in_the_place_of_another_body_holds_only_while_that_is_there() -> None:
    told = Told()
    told.put("a")
    told.put("b", if_body="a")
    told.happened("put", Refused(), body="c", if_body="a")
    assert told.explained()
    told.put("d", if_body="a")
    assert not told.explained()


def test_tags_belong_to_the_latest_version_and_a_new_one_has_its_own() -> None:
    told, tags = Told(), (("colour", "green"),)
    told.put("a")
    told.happened("tag", tags, tags=tags)
    told.happened("get", Entry("version of a", "a", tags))
    told.put("b")
    told.got("b")
    assert told.explained()
    told.happened("get", Entry("version of b", "b", tags))
    assert not told.explained()


def test_versions_are_listed_newest_first_with_their_markers() -> None:
    told = Told()
    told.put("a")
    told.happened("delete", "marker")
    told.put("b")
    listed = (Entry("version of b", "b"), Entry("marker", None), Entry("version of a", "a"))
    told.happened("list", listed)
    assert told.explained(versioned=True)
    told.happened("list", (listed[0], listed[2], listed[1]))
    assert not told.explained(versioned=True)


def test_a_version_that_was_deleted_is_gone_and_the_one_before_is_the_latest() -> None:
    told = Told()
    told.put("a")
    told.put("b")
    told.happened("delete version", Entry("version of b", "b"), version_id="version of b")
    told.got("a")
    told.happened("delete version", Refused(), version_id="version of b")
    assert told.explained(versioned=True)
    told.happened("see", Entry("version of b", "b"))
    assert not told.explained(versioned=True)


def test_the_id_of_a_version_whose_answer_got_lost_is_learnt_from_readers_who_must_agree() -> None:
    told = Told()
    told.begin(HERE, "put", body="a")
    told.happened("get", Entry("1", "a"))
    told.happened("get", Entry("1", "a"))
    assert told.explained(versioned=True)
    told.happened("get", Entry("2", "a"))
    assert not told.explained(versioned=True)


def test_what_is_wrong_is_said_with_all_that_was_told() -> None:
    told = Told()
    told.put("a")
    told.got("b")
    complaint = explain(told.events, versioned=False)
    assert complaint.startswith("no order explains [   2,    3] #1 get")
    assert "#0 put body=a" in complaint


def test_a_history_that_is_too_entangled_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearizable, "MAX_STATES", 1000)
    told = Told()
    for number in range(12):
        told.begin(HERE, "put", body=f"b{number}")
    for number in range(12):
        told.got(f"b{number}")
    told.got("never put")
    with pytest.raises(Undecided):
        told.explained()


class Recovered(Told):
    """Histories in which the manifest is lost. `recovered` is told what came back, newest first."""

    def deleted(self) -> Event:
        return self.happened("delete", None)

    def recovered(self, *bodies: str | None) -> None:
        self.lose()
        back = tuple(Entry(f"version of {body}" if body else "marker", body) for body in bodies)
        self.happened("recovery", back)


def test_an_acknowledged_put_must_come_back() -> None:
    for back, well in ((("b",), True), (("a",), False), ((), False)):
        told = Recovered()
        told.put("a")
        told.put("b")
        told.recovered(*back)
        assert told.explained() is well, back


def test_what_came_back_is_what_is_read_afterwards() -> None:
    told = Recovered()
    told.put("a")
    told.deleted()
    told.recovered("a")
    told.got_nothing()
    assert not told.explained()


def test_a_delete_that_only_the_manifest_knew_may_be_undone() -> None:
    for back in ((), ("a",)):
        told = Recovered()
        told.put("a")
        told.deleted()
        told.got_nothing()
        told.recovered(*back)
        assert told.explained(), back


def test_a_delete_that_the_journal_has_is_not_undone() -> None:
    told = Recovered()
    told.put("a")
    told.deleted()
    told.prove()
    told.recovered("a")
    assert not told.explained()


def test_a_put_without_an_answer_may_be_seen_and_then_be_gone() -> None:
    for back in (("a",), ("b",)):
        told = Recovered()
        told.put("a")
        told.begin(HERE, "put", body="b")
        told.got("b")
        told.recovered(*back)
        assert told.explained(), back


def test_what_replaced_a_put_without_an_answer_is_not_undone_by_it() -> None:
    told = Recovered()
    told.begin(HERE, "put", body="a")
    told.got("a")
    told.deleted()
    told.prove()
    told.recovered("a")
    assert not told.explained()


def test_a_put_that_failed_is_not_seen_before_a_recovery_and_may_be_after_it() -> None:
    for back, read_before, well in ((("a",), False, True), (("b",), False, True), (("b",), True, False)):
        told = Recovered()
        told.put("a")
        failed = told.begin(HERE, "put", body="b")
        told.fail(failed)
        if read_before:
            told.happened("get", Entry("version of b", "b"))
        else:
            told.recovered(*back)
        assert told.explained() is well, (back, read_before)


def test_a_refused_put_does_not_come_back() -> None:
    told = Recovered()
    told.put("a")
    told.happened("put", Refused(), body="b", if_absent=True)
    told.recovered("b")
    assert not told.explained()


def test_versions_come_back_in_their_order() -> None:
    for back, well in ((("c", "b", "a"), True), (("b", "c", "a"), False), (("c", "a"), False), (("c", "b", "a", "a"), False)):
        told = Recovered()
        for body in "abc":
            told.put(body)
        told.recovered(*back)
        assert told.explained(versioned=True) is well, back


def test_a_version_without_an_answer_may_come_back_beneath_newer_ones() -> None:
    for back, well in ((("c", "b", "a"), True), (("c", "a", "b"), True), (("c", "a"), True), (("a", "c"), False)):
        told = Recovered()
        told.put("a")
        told.begin(HERE, "put", body="b")
        told.put("c")
        told.recovered(*back)
        assert told.explained(versioned=True) is well, back


def test_markers_and_deleted_versions_that_only_the_manifest_knew_may_be_undone() -> None:
    for proved, back, well in (
        (False, ("b", "a"), True), (False, (None, "b"), True), (False, (None, "b", "a"), True),
        (True, (None, "b"), True), (True, ("b",), False), (True, (None, "b", "a"), False),
    ):  # fmt: skip
        told = Recovered()
        told.put("a")
        told.put("b")
        told.happened("delete", "marker")
        told.happened("delete version", Entry("version of a", "a"), version_id="version of a")
        if proved:
            told.prove()
        told.recovered(*back)
        assert told.explained(versioned=True) is well, (proved, back)


def test_tags_that_only_the_manifest_knew_may_be_undone() -> None:
    old, new = (("colour", "green"),), (("colour", "red"),)
    for proved, back, well in ((False, old, True), (False, new, True), (True, new, True), (True, old, False), (False, (), False)):
        told = Recovered()
        told.put("a", tags=old)
        told.happened("tag", new, tags=new)
        if proved:
            told.prove()
        told.lose()
        told.happened("recovery", (Entry("version of a", "a", back),))
        assert told.explained() is well, (proved, back)
        assert told.explained(versioned=True) is well, (proved, back)


def test_what_was_undone_is_not_there_at_the_next_loss() -> None:
    told = Recovered()
    told.put("a")
    told.deleted()
    told.recovered("a")
    told.recovered()
    assert not told.explained()


def test_of_two_markers_without_an_answer_the_one_that_was_deleted_does_not_come_back() -> None:
    for back, well in ((("m1",), True), ((), True), (("m2",), False), (("m2", "m1"), False)):
        told = Recovered()
        told.begin(HERE, "delete")
        told.begin(HERE, "delete")
        told.happened("list", (Entry("m2", None), Entry("m1", None)))
        told.happened("delete version", Entry("m2", None), version_id="m2")
        told.prove()
        told.lose()
        told.happened("recovery", tuple(Entry(marker, None) for marker in back))
        assert told.explained(versioned=True) is well, back
