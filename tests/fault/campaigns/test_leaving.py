"""A store that is being left gets no new shard, from the moment a process knows of it, and is read as before."""

from __future__ import annotations

from pathlib import Path

from proxy.manifest.campaigns import Campaign, CampaignId
from tests.laboratory import laboratory

DRAIN = Campaign(id=CampaignId("drain-1"), verb="drain", store="elm", planned_ms=0)


async def test_writes_place_elsewhere_from_then_on(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("before", b"x" * 300_000)
        await lab.services.manifest.add_campaign(DRAIN)
        await lab.services.manifest.order_campaign(DRAIN.id, "apply", now_ms=lab.clock.now_ms())
        await lab.worker("leaving-stores").step()
        lab.stores["elm"].sent.clear()
        for number in range(12):
            await lab.put(f"after-{number}", b"y" * 300_000)
        assert not lab.stores["elm"].sent
        assert await lab.get("before") == b"x" * 300_000


async def test_a_process_that_starts_later_knows_of_it_before_its_first_write(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.services.manifest.add_campaign(DRAIN)
        await lab.services.manifest.order_campaign(DRAIN.id, "apply", now_ms=lab.clock.now_ms())
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"y" * 300_000)
        assert not lab.stores["elm"].sent
