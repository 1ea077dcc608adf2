"""From the configuration to targets.

What a kind of target needs is imported with the first of that kind: NATS and aiohttp take a quarter of the time of a short command.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from proxy.config import TargetConfig
from proxy.targets.log_file import LogFile
from proxy.targets.protocol import Target


@asynccontextmanager
async def open_targets(configured: Mapping[str, TargetConfig]) -> AsyncIterator[Mapping[str, Target]]:
    """Make what is configured. Nothing is connected to yet: a target that is down at the start is like one that goes down later."""
    async with AsyncExitStack() as opened:
        targets = {name: _make(config) for name, config in configured.items()}
        for target in targets.values():
            opened.push_async_callback(target.close)
        yield targets


def _make(config: TargetConfig) -> Target:
    match config.kind:
        case "file":
            return LogFile(Path(config.path))
        case "nats":
            from proxy.targets.jetstream import JetStream

            return JetStream(
                config.url,
                config.subject,
                token=config.token,
                credentials=config.credentials,
                timeout_seconds=config.timeout_seconds,
            )
        case "webhook":
            from proxy.targets.webhook import Webhook

            return Webhook(config.url, authorization=config.authorization, timeout_seconds=config.timeout_seconds)
