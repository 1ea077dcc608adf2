"""Probes of what Shardgate does not need, and an operator wants to know: conditional puts, the clock, versions, ETags, leftovers."""

from __future__ import annotations

import hashlib

from proxy.errors import StoreError
from proxy.stores.conformance.findings import Defect, Peculiarity, Untold
from proxy.stores.conformance.trial import FOLDER, Trial, random_bytes
from proxy.stores.protocol import ShardFacts

ACCURATE_MS = 5000  # a store tells whole seconds, and a put takes its time
REFUSED_MS = (
    15 * 60 * 1000
)  # S3 refuses requests whose signature is older: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
NOT_TOLD = "a store of this kind cannot be asked"
LEFTOVERS = 10_000


async def conditional_put(trial: Trial) -> str:
    """Put a name only if it is new: Shardgate does without."""
    name = trial.name("conditional")
    try:
        first, second = await trial.put_new(name, b"first"), await trial.put_new(name, b"second")
    except StoreError as error:
        raise Peculiarity(f"a put with If-None-Match: * failed: {error}") from error
    if first is None:
        raise Untold(NOT_TOLD)
    if not first:
        raise Peculiarity("a put with If-None-Match: * was refused, though the name was new")
    if second:
        raise Peculiarity("a put with If-None-Match: * replaced an object that was there: the condition is ignored")
    return "a put with If-None-Match: * is refused where the name is taken"


async def clock(trial: Trial) -> str:
    """Compare the store's clock with this machine's, by the time of a put."""
    before = trial.clock.now_ms()
    facts = await _put_and_ask(trial, "clock", b"now")
    after = trial.clock.now_ms()
    if facts.modified_ms is None:
        raise Untold(NOT_TOLD)
    ahead = facts.modified_ms - after if facts.modified_ms > after else min(facts.modified_ms - before, 0)
    if abs(ahead) > REFUSED_MS:
        raise Defect(f"the store's clock is {_skew(ahead)} of this machine's")
    if abs(ahead) > ACCURATE_MS:
        raise Peculiarity(f"the store's clock is {_skew(ahead)} of this machine's")
    return f"the store's clock and this machine's agree to {ACCURATE_MS // 1000} s"


def _skew(ahead_ms: int) -> str:
    return f"{abs(ahead_ms) / 1000:,.0f} s {'ahead' if ahead_ms > 0 else 'behind'}"


async def versions(trial: Trial) -> str:
    """Find out whether the bucket keeps what is deleted. Google counts generations whether it does or not, in digits alone."""
    facts = await _put_and_ask(trial, "versions", b"once")
    if facts.version and facts.version != "null" and not facts.version.isdigit():
        raise Peculiarity("the bucket keeps versions: a deleted object stays in it, behind a delete marker, and so do those of this check")
    return "the bucket shows no sign of keeping versions of deleted objects"


async def etag(trial: Trial) -> str:
    """Compare the ETag with the body's MD5: Shardgate authenticates each cell itself."""
    body = random_bytes(4096)
    facts = await _put_and_ask(trial, "etag", body)
    if facts.size_bytes != len(body):
        raise Defect(f"an object of {len(body):,} bytes is said to have {facts.size_bytes:,}")
    is_md5 = facts.etag.strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest()
    return "the ETag is the MD5 of what was put" if is_md5 else "the ETag is not the MD5 of what was put"


async def _put_and_ask(trial: Trial, label: str, body: bytes) -> ShardFacts:
    name = trial.name(label)
    await trial.put(name, body)
    facts = await trial.facts(name)
    if facts is None:
        raise Untold(NOT_TOLD)
    return facts


async def leftovers(trial: Trial) -> str:
    """Look for what earlier checks left, which were killed before they could clean."""
    try:
        found = {name for name, _ in await trial.entries(FOLDER, at_most=LEFTOVERS) if not name.startswith(trial.prefix)}
    except Defect:
        raise Peculiarity(f"more than {LEFTOVERS:,} objects lie below {FOLDER}, from earlier checks") from None
    if found:
        raise Peculiarity(f"{len(found):,} objects lie below {FOLDER}, from earlier checks, or from one that runs now: {min(found)}")
    return "no earlier check has left anything"
