"""What a plan rests on, told the same way by every process, and compared before anything moves."""

from __future__ import annotations

import pytest

from proxy.codec.geometry import Scheme
from proxy.engine.campaigns.facts import LEAVING, check_facts, facts_of, with_leaving, without_leaving
from proxy.engine.placing.hands import Coalition
from proxy.engine.placing.placement import MayFail
from proxy.errors import CampaignRefused
from tests.unit.campaigns.fleets import INFOS, SIX, policy, priced

FLEET = {name: INFOS[name] for name in SIX}
NOW = facts_of({"p": policy()}, FLEET)


def test_facts_are_words_in_one_order() -> None:
    west = Coalition("west", frozenset({"cedar", "dogwood", "alder"}), "jurisdictions EU, US")
    told = facts_of({"p": policy(coalitions=(west,), storage_classes={"B": Scheme(3, 2), "A": Scheme(4, 2)})}, FLEET)
    assert told["store elm"] == "e, r, CH"
    assert told["policy p"] == (
        "stores alder birch cedar dogwood elm fir, scheme 4+2, may_fail stores=0 providers=1 regions=0, "
        "never_together jurisdiction provider, coalitions name=west stores=alder cedar dogwood parts=jurisdictions EU, US, "
        "storage_classes A=4+2 B=3+2, segment_size 16777216"
    )


def test_the_same_configuration_holds_and_so_does_one_with_other_prices() -> None:
    check_facts(NOW, facts_of({"p": policy()}, {**FLEET, "fir": priced("fir", egress_gb=1.0)}))


def test_what_goes_on_does_not_mind_that_another_store_is_left_meanwhile() -> None:
    check_facts(without_leaving(with_leaving(NOW, ["fir"])), NOW)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (facts_of({"p": policy(scheme=Scheme(3, 3))}, FLEET), r"policy p was \(.*scheme 4\+2.*\) and is \(.*scheme 3\+3"),
        (facts_of({"p": policy(may_fail=MayFail(stores=1))}, FLEET), "policy p was"),
        (facts_of({"p": policy()}, {**FLEET, "gum": INFOS["gum"]}), "store gum was added"),
        (facts_of({"p": policy()}, {name: FLEET[name] for name in SIX[1:]}), "store alder was removed"),
        (with_leaving(NOW, {"fir", "elm"}), r"stores being left was \(none\) and is \(elm fir\)"),
        (facts_of({}, FLEET), "policy p was removed"),
    ],
)
def test_another_configuration_is_refused_with_what_has_changed(now: dict[str, str], told: str) -> None:
    with pytest.raises(CampaignRefused, match=told):
        check_facts(with_leaving(NOW, ()), {LEAVING: "none", **now})
