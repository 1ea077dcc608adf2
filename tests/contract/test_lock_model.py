"""Whatever anybody does, in whatever order, and however clocks are set: no locked version goes before its time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.clock import ManualClock
from proxy.errors import ProxyError
from proxy.manifest.drafts import AttributeChange, CompletedPart
from proxy.manifest.lifecycle import Place
from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketId, ObjectAttributes, Part, Retention
from proxy.manifest.sqlite import open_sqlite
from proxy.s3.lifecycle.reading import read_configuration
from proxy.s3.lifecycle.rules import SETTING, encode_configuration
from tests.contract.conftest import NOW, tenant
from tests.contract.test_manifest import draft, upload

BUCKET = BucketId(1)
HOUR_MS = 3_600_000
KEYS = ("a", "b")
RULES = [
    {"ID": "1", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}},
    {"ID": "2", "Status": "Enabled", "Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}},
    {"ID": "3", "Status": "Enabled", "Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
]
RETENTIONS = st.one_of(st.none(), st.tuples(st.sampled_from(["GOVERNANCE", "COMPLIANCE"]), st.integers(1, 200)))
STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), RETENTIONS, st.booleans()),
    st.tuples(st.just("complete"), st.sampled_from(KEYS), RETENTIONS, st.booleans()),
    st.tuples(st.just("delete"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("hide"), st.sampled_from(KEYS)),
    st.tuples(st.just("retain"), st.integers(0, 30), RETENTIONS, st.booleans()),
    st.tuples(st.just("hold"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("rules")),
    st.tuples(st.just("end everything")),
    st.tuples(st.just("advance"), st.integers(0, 100)),
    st.tuples(st.just("set clock"), st.integers(-100_000, 100_000)),
    st.tuples(st.just("reboot"), st.integers(0, 50)),
    st.tuples(st.just("mark")),
    st.tuples(st.just("reopen")),
)


@dataclass
class Known:
    """What must be true of one version."""

    key: str
    retention: Retention | None
    held: bool


@dataclass
class World:
    """The manifest under test, and what a careful observer with a right watch knows."""

    path: Path
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    passed_ms: int = 0
    versions: dict[str, Known] = field(default_factory=dict)
    drawn: int = 0

    def retention(self, wanted: tuple[str, int] | None) -> Retention | None:
        """Return a retention that ends so many hours from now, by the right watch."""
        return None if wanted is None else Retention(mode=wanted[0], until_ms=NOW + self.passed_ms + wanted[1] * HOUR_MS)  # type: ignore[arg-type]

    def draw(self) -> str:
        self.drawn += 1
        return f"v{self.drawn}"

    def pick(self, number: int) -> tuple[str, Known] | None:
        names = list(self.versions)
        return (names[number % len(names)], self.versions[names[number % len(names)]]) if names else None

    def is_bound(self, known: Known, *, bypass: bool) -> bool:
        """Tell whether the version must still be there."""
        retention = known.retention
        retained = retention is not None and retention.until_ms > NOW + self.passed_ms
        return known.held or (retained and not (bypass and retention is not None and retention.mode == "GOVERNANCE"))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=5, max_size=40))
def test_no_locked_version_goes_before_its_time(steps: list[tuple[Any, ...]]) -> None:
    async def check() -> None:
        with TemporaryDirectory() as folder:
            world = World(Path(folder) / "m.sqlite")
            pending = list(steps)
            while pending:
                async with open_sqlite(world.path, world.clock) as manifest:
                    if not world.drawn:
                        await begin(manifest)
                        world.drawn = 1
                    while pending:
                        step = pending.pop(0)
                        if step[0] == "reopen":
                            break
                        await take(manifest, world, step)
                        await look(manifest, world, step)

    asyncio.run(check())


async def begin(manifest: Manifest) -> None:
    await manifest.add_tenant(tenant("t"))
    bucket = Bucket(name="b", tenant_id="t", policy="p", versioning="Enabled", settings={OBJECT_LOCK: "{}"}, created_ms=NOW)  # type: ignore[arg-type]
    await manifest.create_bucket(bucket)


async def look(manifest: Manifest, world: World, step: tuple[Any, ...]) -> None:
    """Hold the manifest against what is known. What may be gone and is, is forgotten."""
    for version_id, known in list(world.versions.items()):
        found = await manifest.find_version(BUCKET, known.key, version_id)  # type: ignore[arg-type]
        if found is None:
            bypass = step[0] == "delete" and bool(step[2])
            assert not world.is_bound(known, bypass=bypass), (step, version_id, known)
            del world.versions[version_id]
            continue
        kept = found.attributes.retention
        assert (found.attributes.legal_hold == "ON") == known.held
        if kept != known.retention:
            lighter = known.retention is not None and (
                kept is None or kept.mode != known.retention.mode or kept.until_ms < known.retention.until_ms
            )
            assert not lighter or not world.is_bound(replace_hold(known), bypass=step[0] == "retain" and bool(step[3])), (step, known, kept)
            known.retention = kept


def replace_hold(known: Known) -> Known:
    """Return the same without its hold: that does not guard the retention."""
    return Known(known.key, known.retention, held=False)


async def take(manifest: Manifest, world: World, step: tuple[Any, ...]) -> None:
    kind, *rest = step
    now_ms = world.clock.now_ms()
    with suppress(ProxyError):
        if kind in {"put", "complete"}:
            await write(manifest, world, kind, *rest)
        elif kind == "delete" and (picked := world.pick(rest[0])):
            await manifest.delete_version(BUCKET, picked[1].key, picked[0], now_ms=now_ms, bypass_governance=rest[1])  # type: ignore[arg-type]
        elif kind == "hide":
            await manifest.delete_latest(BUCKET, rest[0], marker_id=world.draw(), now_ms=now_ms)  # type: ignore[arg-type]
        elif kind == "retain" and (picked := world.pick(rest[0])):
            change = AttributeChange(retention=world.retention(rest[1]), bypass_governance=rest[2])
            await manifest.change_attributes(BUCKET, picked[1].key, picked[0], change)  # type: ignore[arg-type]
        elif kind == "hold" and (picked := world.pick(rest[0])):
            await manifest.change_attributes(BUCKET, picked[1].key, picked[0], AttributeChange(legal_hold="ON" if rest[1] else "OFF"))  # type: ignore[arg-type]
            picked[1].held = rest[1]
        elif kind == "rules":
            await run_rules(manifest, now_ms)
        elif kind == "mark":
            await manifest.renew_trusted_time()
    if kind == "end everything":
        await end_everything(manifest)
    elif kind == "advance":
        world.clock.advance(rest[0] * 3600)
        world.passed_ms += rest[0] * HOUR_MS
    elif kind == "set clock":
        world.clock.set_by(rest[0] * 3600)
    elif kind == "reboot":
        world.clock.reboot(off_seconds=rest[0] * 3600)
        world.passed_ms += rest[0] * HOUR_MS


async def write(manifest: Manifest, world: World, kind: str, key: str, wanted: tuple[str, int] | None, held: bool) -> None:
    version_id, retention = world.draw(), world.retention(wanted)
    attributes = ObjectAttributes(retention=retention, legal_hold="ON" if held else None)
    written = draft(key, version_id, versioning="Enabled", attributes=attributes, modified_ms=world.clock.now_ms())
    if kind == "put":
        await manifest.commit_version(written)
    else:
        await manifest.begin_upload(replace(upload(version_id, key), attributes=attributes))
        await manifest.commit_part(version_id, Part(number=1, size=0, etag="e", modified_ms=NOW))  # type: ignore[arg-type]
        await manifest.complete_upload(version_id, [CompletedPart(number=1, etag="e")], written)  # type: ignore[arg-type]
    world.versions[version_id] = Known(key, retention, held)


async def run_rules(manifest: Manifest, now_ms: int) -> None:
    configuration = read_configuration({"Rules": RULES}, minimum_size=None, storage_classes=())
    await manifest.put_bucket_setting(BUCKET, SETTING, encode_configuration(configuration))
    page = await manifest.walk_due(BUCKET, after=Place(), now_ms=now_ms, moves=False, max_rows=1000, max_due=1000)
    await manifest.carry_out(BUCKET, page.due, marker_ids=[f"m{now_ms}-{number}" for number in range(len(page.due))], now_ms=now_ms)  # type: ignore[misc]


async def end_everything(manifest: Manifest) -> None:
    """Try whatever would take a bucket and all that is in it away."""
    with suppress(ProxyError):
        await manifest.set_versioning(BUCKET, "Suspended")
    with suppress(ProxyError):
        await manifest.put_bucket_setting(BUCKET, OBJECT_LOCK, None)
    for key in KEYS:
        with suppress(ProxyError):
            await manifest.commit_version(draft(key, "null"))
        with suppress(ProxyError):
            await manifest.delete_version(BUCKET, key, "null", now_ms=NOW)  # type: ignore[arg-type]
    with suppress(ProxyError):
        await manifest.remove_tenant("t")  # type: ignore[arg-type]
    bucket = await manifest.find_bucket("b")  # type: ignore[arg-type]
    assert bucket is not None
    assert bucket.versioning == "Enabled"
    assert OBJECT_LOCK in bucket.settings
