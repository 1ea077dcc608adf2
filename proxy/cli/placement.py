"""`shardgate placement`: where an object would go."""

from __future__ import annotations

from typing import Annotated

import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table
from proxy.codec.format import TAG_SIZE, footer_size, sealed_label_size
from proxy.codec.geometry import Scheme, SegmentGeometry, segment_sizes
from proxy.config import load_config
from proxy.engine.placing.placement import describe
from proxy.errors import ConfigError
from proxy.status.words import number

app = typer.Typer(help="Explain placement.", no_args_is_help=True)
TYPICAL_LABEL = 300  # bytes of a label: names and a small record


@app.command("explain")
def explain(
    config: ConfigOption = DEFAULT_CONFIG,
    size: Annotated[int, typer.Option(min=1, help="Object size in bytes.")] = 1_000_000,
    policy: Annotated[str | None, typer.Option(help="The default policy if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which stores would get which shards, what may fail, and what each provider, jurisdiction and coalition would hold."""
    from proxy.policies import make_policies  # half a second, which other commands need not spend

    settings = load_config(config)
    policies = make_policies(settings)
    chosen = policies.get(policy or settings.default_policy)
    if chosen is None:
        raise ConfigError(f'there is no policy "{policy}"; one of: {", ".join(sorted(policies))}')
    sizes = list(segment_sizes(size, chosen.segment_size))
    packed = size < settings.packs.below_kib * 1024
    stored = _stored_in_pack(chosen.scheme, size) if packed else sum(_stored(chosen.scheme, part) for part in sizes)
    report = describe(chosen, size_bytes=size, stored_bytes=stored, segments=len(sizes))
    rows = [
        [index, "data" if index < chosen.scheme.k else "parity", info.name, info.provider, info.region, info.jurisdiction]
        for index, info in enumerate(report.shards)
    ]
    if as_json:
        print_json({
            "policy": chosen.name, "scheme": str(chosen.scheme), "size": size, "segments": len(sizes), "stored_bytes": report.stored_bytes,
            "packed": packed,
            "shards": [dict(zip(("index", "cells", "store", "provider", "region", "jurisdiction"), row, strict=True)) for row in rows],
            "survives": report.survives,
            "never_together": report.never_together,
            "holdings": [
                {"unit": h.unit, "name": h.name, "members": h.members, "shards": h.shards, "readable": h.readable, "guarded": h.guarded}
                for h in report.holdings
            ],
            "storage_usd_month": report.storage_usd_month, "put_usd": report.put_usd, "get_egress_usd": report.get_egress_usd,
        })  # fmt: skip
        return
    form = "a slot of a pack" if packed else number(len(sizes), "segment", "segments")
    print(f"policy {chosen.name}: {chosen.scheme}, {form}, {report.stored_bytes:,} bytes stored for {size:,}")
    if packed:
        print("It shares the pack with other small objects: one shard holds it, and the others give it back if that one is lost.")
    print_table(
        "Shards of the first segment", ["shard", "cells", "store", "provider", "region", "jurisdiction"], [[*map(str, row)] for row in rows]
    )
    print("can be read after losing: " + "; ".join(report.survives))
    print(f"whoever never_together limits never gets {chosen.scheme.k} shards, whatever fails")
    print_table("Who holds what", ["hand", "name", "shards", "could read with the keys", "limited"], [
        [
            holding.unit,
            f"{holding.name} ({holding.members})" if holding.members else holding.name,
            f"{holding.shards} of the {chosen.scheme.k} a read needs",
            "YES" if holding.readable else "no",
            "yes" if holding.guarded else "NO",
        ]
        for holding in report.holdings
    ])  # fmt: skip
    put = "to put the pack" if packed else "to put"
    if report.storage_usd_month or report.put_usd or report.get_egress_usd:
        print(f"cost: ${report.storage_usd_month:.6f} a month, ${report.put_usd:.6f} {put}, ${report.get_egress_usd:.6f} egress to get")
    else:
        print("cost: none, as the configuration gives these stores no prices")


def _stored(scheme: Scheme, size: int) -> int:
    return (SegmentGeometry(scheme, size).cells_size + footer_size(sealed_label_size(TYPICAL_LABEL))) * scheme.n


def _stored_in_pack(scheme: Scheme, size: int) -> int:
    """Return about what an object adds to a pack that is full: its slot, and what the table says of it, coded."""
    return -(-(size + TAG_SIZE + TYPICAL_LABEL) * scheme.n // scheme.k)
