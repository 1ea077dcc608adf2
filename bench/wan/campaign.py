"""The measurement: every state of the lines, every operation in it, and the same operations on one bucket used directly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.servers import ACCESS_KEY, SECRET_KEY, shardgate
from bench.signing import Endpoint
from bench.wan.far import FarSide, far_side
from bench.wan.line import State
from bench.wan.operations import AT_ONCE, GET_4K, GET_8M, GET_64K, PUT_4K_16, PUT_8M, PUT_64K, Client, Measured, Operation
from bench.workloads import MIB

STORES = {
    "alder": ("eu-north", "EU"),
    "birch": ("eu-south", "EU"),
    "cedar": ("us-east", "US"),
    "dogwood": ("us-west", "US"),
    "elm": ("ch-zurich", "CH"),
    "fir": ("jp-tokyo", "JP"),
}
DIRECT = "direct"
FAST = 125.0  # MB/s of each line, in each direction
NARROW = 20.0  # for the large object: so narrow that neither the processor nor the client binds
TROUBLES: Mapping[str, Mapping[str, State]] = {
    "slow": {"birch": "slow"},
    "dead": {"cedar": "dead"},
    "hanging": {"dogwood": "hanging"},
    "slow + dead": {"birch": "slow", "cedar": "dead"},
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How long each measurement goes on."""

    seconds: float
    mending_seconds: float  # of GETs, then of PUTs: every store is asked meanwhile whether it is back
    large_bytes: int
    healthy: Sequence[Operation]
    troubled: Sequence[Operation]


FULL = Scale(5.0, 3.0, 256 * MIB, (GET_4K, GET_64K, PUT_64K, GET_8M, PUT_8M, PUT_4K_16), (GET_64K, PUT_64K, GET_8M, PUT_8M, PUT_4K_16))
QUICK = Scale(1.2, 1.2, 64 * MIB, (GET_64K, PUT_64K, GET_8M, PUT_8M, PUT_4K_16), (GET_64K, PUT_64K))


@dataclass(slots=True)
class Findings:
    """What was measured: by state and operation, and the large object's seconds by what was done with it."""

    direct: dict[str, Measured] = field(default_factory=dict)
    shardgate: dict[str, dict[str, Measured]] = field(default_factory=dict)
    large_bytes: int = 0
    large: dict[str, float] = field(default_factory=dict)


def measure(data: Path, scale: Scale, say: Callable[[str], None], *, states: Sequence[str] = tuple(TROUBLES)) -> Findings:
    """Measure all of it, one after the other."""
    findings = Findings(large_bytes=scale.large_bytes)
    with far_side((*STORES, DIRECT), megabytes_per_second=FAST) as far, _proxy(data, far) as client:
        direct = Client(Endpoint("127.0.0.1", far.ports[DIRECT], ACCESS_KEY, SECRET_KEY))
        for one in (direct, client):
            for operation in scale.healthy:
                if operation.method == "GET":
                    one.fill(operation)
        findings.direct = {one.name: _measured(direct, far, one, scale, (DIRECT,)) for one in scale.healthy}
        say("direct: done")
        findings.shardgate["healthy"] = {one.name: _measured(client, far, one, scale, tuple(STORES)) for one in scale.healthy}
        say("healthy: done")
        for state in states:
            far.turn(TROUBLES[state])
            findings.shardgate[state] = {one.name: _measured(client, far, one, scale, tuple(STORES)) for one in scale.troubled}
            far.turn({})
            _mend(client, scale.mending_seconds)
            say(f"{state}: done")
        far.widen(NARROW)
        findings.large = _large(client, scale.large_bytes)
        say("large object: done")
    return findings


def _measured(client: Client, far: FarSide, operation: Operation, scale: Scale, lines: Sequence[str]) -> Measured:
    before = far.requests()
    latencies, errors = client.run(operation, seconds=scale.seconds)
    after = far.requests()
    asked = sum(after[line] - before[line] for line in lines)
    return Measured(latencies=latencies, requests=asked / max(len(latencies), 1), errors=errors)


def _mend(client: Client, seconds: float) -> None:
    for operation in (GET_64K, PUT_64K):
        client.run(operation, seconds=seconds)


def _large(client: Client, size_bytes: int) -> dict[str, float]:
    return {
        "up": client.upload(size_bytes),
        f"down, {AT_ONCE} ranges at once": client.download(size_bytes, at_once=AT_ONCE),
        "down, one stream": client.download(size_bytes, at_once=1),
    }


@contextmanager
def _proxy(data: Path, far: FarSide) -> Iterator[Client]:
    config = data / "wan.toml"
    config.write_text(_configuration(far.ports))
    folder = data / "shardgate"
    folder.mkdir()
    with shardgate(folder, workers=1, config=config) as server:
        yield Client(server.endpoint)


def _configuration(ports: Mapping[str, int]) -> str:
    head = """
data = "${SHARDGATE_DATA}"
listen = "127.0.0.1:9000"
default_policy = "standard"

[manifest]
path = "${SHARDGATE_DATA}/manifest.sqlite"

[root_key]
path = "${SHARDGATE_DATA}/root.key"
create = true

[cache]
use = "never" # what is read twice would come from memory

[packs]
below_kib = 128

[policies.standard]
scheme = "4+2"
may_fail = { providers = 1 }
"""
    return head + "".join(
        f"""
[stores.{name}]
kind = "s3"
endpoint = "http://127.0.0.1:{ports[name]}"
bucket = "shards"
access_key = "{ACCESS_KEY}"
secret_key = "{SECRET_KEY}"
provider = "{name}-cloud"
region = "{region}"
jurisdiction = "{jurisdiction}"
"""
        for name, (region, jurisdiction) in STORES.items()
    )
