"""`shardgate object`: where an object really is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.errors import BucketMissing, ConfigError, VersionMissing
from proxy.manifest.records import BucketName, Extent, ExtentRef, ObjectKey, VersionId

if TYPE_CHECKING:
    from proxy.codec.slots import Slot
    from proxy.services import Services

app = typer.Typer(help="Explain objects, and list those that cannot be read.", no_args_is_help=True)
Rows = list[dict[str, object]]


@app.command("explain")
def explain(
    address: Annotated[str, typer.Argument(metavar="s3://BUCKET/KEY")],
    config: ConfigOption = DEFAULT_CONFIG,
    version_id: Annotated[str | None, typer.Option(help="The latest if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the store and upstream name of every shard of an object; of one that lies in a pack, which bytes of which shard it is."""
    if not address.startswith("s3://") or "/" not in address[5:]:
        raise ConfigError(f'"{address}" is not s3://BUCKET/KEY')
    bucket, _, key = address[5:].partition("/")
    rows = with_services(config, lambda services: _shards(services, bucket, key, version_id))
    if as_json:
        print_json(rows)
    elif not rows:
        print(f"{address} is empty: it has no shards")
    else:
        columns = ["segment", "shard", "store", "provider", "jurisdiction", "name", "missing"]
        if any(row["slot"] for row in rows):
            columns.append("slot")
        print_table(address, columns, [[_cell(row[column]) for column in columns] for row in rows])


async def _shards(services: Services, bucket: str, key: str, version_id: str | None) -> Rows:
    found = await services.manifest.find_bucket(BucketName(bucket))
    wanted = VersionId(version_id) if version_id else None
    version = None if found is None else await services.manifest.find_version(found.id, ObjectKey(key), wanted)
    if found is None:
        raise BucketMissing(f"there is no bucket {bucket}")
    if version is None:
        what = f"version {version_id} of" if version_id else "object"
        raise VersionMissing(f"there is no {what} s3://{bucket}/{key}")
    if version.is_delete_marker:
        remedy = "" if version_id else "; show an older version with --version-id"
        raise VersionMissing(f"s3://{bucket}/{key} is deleted: version {version.id} is a delete marker{remedy}")
    rows: Rows = []
    extents = await services.manifest.load_extents([ref.id for ref in version.extents])
    for ref, extent in zip(version.extents, extents, strict=True):
        slot = _slot(ref, extent)
        for segment in extent.layout.segments:
            for index, store in enumerate(segment.stores):
                info = services.stores[store].info if store in services.stores else None
                rows.append({
                    "segment": segment.id.hex(), "shard": index, "store": store, "provider": info.provider if info else "?",
                    "jurisdiction": info.jurisdiction if info else "?", "name": segment.shard_name(index),
                    "missing": index in segment.missing, "scheme": f"{extent.layout.k}+{extent.layout.m}", "segment_size": segment.size,
                    "slot": f"bytes {slot.start}-{slot.start + slot.length - 1}" if slot and slot.column == index else "",
                })  # fmt: skip
    return rows


def _slot(ref: ExtentRef, extent: Extent) -> Slot | None:
    """Return where in its pack an object lies, if it does."""
    from proxy.codec.slots import Slot  # with the erasure coder, which no other command loads

    if ref.offset is None:
        return None
    layout = extent.layout
    return Slot(SegmentGeometry(Scheme(layout.k, layout.m), layout.segments[0].size), ref.offset, ref.size)


def _cell(value: object) -> str:
    return "yes" if value is True else "" if value is False else str(value)
