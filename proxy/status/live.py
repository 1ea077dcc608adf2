"""What a server that runs on this machine says of itself: asked where the configuration says that it listens, and never for long."""

from __future__ import annotations

import asyncio
import ssl
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec
from msgspec import Struct

from proxy.config import Config, listen_address
from proxy.lanes import Lanes
from proxy.status.facts import ServerFacts
from proxy.stores.observe import Condition

ANOTHER = "what answers there is the server of another manifest"
STATUS, METRICS, HEALTH = "/-/status", "/-/metrics", "/-/health"
LARGEST_ANSWER = 64 * 1024**2
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on
_WELL = frozenset({"ok", "ShardMissing"})


class Live(Struct, frozen=True, kw_only=True):
    """What one process of a server knows: with several workers, the one that happened to answer."""

    process: int
    manifest: str  # its identity; "" if it does not answer
    in_flight: int
    stores: dict[str, Condition]


class Answers(NamedTuple):
    """What the server said, and the calls of stores that all its workers have made: by store, and how many of them failed."""

    server: ServerFacts
    manifest: str = ""  # whose identity the server's manifest has
    conditions: Mapping[str, Condition] = {}
    calls: Mapping[str, int] = {}
    errors: Mapping[str, int] = {}

    def of(self, manifest: str) -> Answers:
        """Return what was said, if it was by a server of the manifest that has this identity; it is not known to be another's if ""."""
        if manifest in {"", self.manifest} or not self.manifest:
            return self
        return Answers(ServerFacts(endpoint=self.server.endpoint, answers=False, trouble=ANOTHER))


async def ask_server(config: Config, *, seconds: float) -> Answers:
    """Ask for health, status and metrics. A server that does not answer, or not in time, is no error."""
    endpoint = endpoint_of(config)
    lanes = Lanes(1, name="ask-server")  # which nobody waits for at the end
    try:
        async with asyncio.timeout(2 * seconds):
            return await lanes.run(lambda _: _ask(endpoint, seconds))
    except (OSError, ValueError) as error:  # ValueError: what answers there is something else
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        told = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        return Answers(ServerFacts(endpoint=endpoint, answers=False, trouble=told or "no answer in time"))
    finally:
        lanes.close()


def endpoint_of(config: Config) -> str:
    """Return the URL by which this machine reaches the server."""
    host, port = listen_address(config.listen)
    host = _ANYWHERE.get(host, host)
    return f"{'http' if config.tls is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"


def _ask(endpoint: str, seconds: float) -> Answers:
    live = msgspec.json.decode(_get(endpoint + STATUS, seconds), type=Live)
    metrics = ""
    with suppress(urllib.error.HTTPError):  # they need the manifest; what is wrong with it, the health says
        metrics = _get(endpoint + METRICS, seconds).decode()
    calls, errors = count_calls(metrics)
    trouble = ""
    try:
        _get(endpoint + HEALTH, seconds)
    except urllib.error.HTTPError as error:
        trouble = error.read(1000).decode(errors="replace").strip()
    server = ServerFacts(endpoint=endpoint, answers=True, trouble=trouble, in_flight=live.in_flight)
    return Answers(server, live.manifest, live.stores, calls, errors)


def _get(url: str, seconds: float) -> bytes:
    context = None
    if url.startswith("https"):
        # The certificate is for the clients' name, not for this address; and nothing that is secret goes there.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(url, timeout=seconds) as answer:
        return bytes(answer.read(LARGEST_ANSWER))


def count_calls(metrics: str) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Return the calls of each store, and those that failed, of an exposition in Prometheus's text format."""
    from prometheus_client.parser import text_string_to_metric_families  # 50 ms, where a server runs

    calls: Counter[str] = Counter()
    errors: defaultdict[str, int] = defaultdict(int)
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples if family.name == "shardgate_store_calls" else ():
            store, outcome = sample.labels["store"], sample.labels["outcome"]
            if sample.name.endswith("_total"):
                calls[store] += int(sample.value)
                errors[store] += 0 if outcome in _WELL else int(sample.value)
    return calls, errors
