"""tools/shardgate-decode.py: objects with their names, from shard files and the root key, with two packages and nothing of Shardgate."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.codec.customer import CustomerKey
from proxy.config import JournalConfig
from proxy.engine.repack.rewriting import SlotRewriter
from proxy.manifest.drafts import CompletedPart, Conditions
from proxy.manifest.records import Bucket, BucketName, Encryption, ObjectAttributes, ObjectKey
from proxy.tenancy import add_kms_key
from tests.fault.test_recover import ALL
from tests.laboratory import ROOT, BytesBody, Laboratory, laboratory
from tests.packing import bodies, commit_pack, delete, drafts_of, put_pack, repack, store_pack
from tests.patience import PATIENCE_SECONDS

TOOL = ROOT / "tools/shardgate-decode.py"
STORES = ("alder", "birch", "cedar", "dogwood", "elm", "fir")
JOURNAL = JournalConfig(interval_ms=3_600_000)
LARGE = bytes(range(256)) * 4096 * 20  # two segments
PLAIN = ("a", "ü €", "_other", "index.tsv")
AWKWARD = (*PLAIN, "../../escape", "/absolute", "a//b", "a/b", ".", "tab\there", "x" * 300, "back\\slash", "trailing/")
PACKAGES = ("cryptography", "_cffi_backend*", "cffi", "pyeclib*")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder from which only the packages that the tool may need can be imported."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for pattern in PACKAGES:
        for found in Path(sysconfig.get_path("platlib")).glob(pattern):
            (folder / found.name).symlink_to(found)
    return folder


def decode(packages: Path, data: Path, *options: str, stores: Iterable[str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the tool with nothing to import but the standard library and those packages."""
    copies = [str(data / "stores" / name) for name in stores or sorted(path.name for path in (data / "stores").iterdir())]
    arguments = [str(TOOL), "--root-key", str(data / "root.key"), *options, *copies]
    start = (
        f"import runpy, sys; sys.path.append({str(packages)!r}); sys.argv = {arguments!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-I", "-S", "-c", start], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)


def index_of(output: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Return (bucket, key) → (state, file)."""
    rows = [line.split("\t") for line in (output / "index.tsv").read_text("utf-8").splitlines()[1:]]
    return {(row[2], row[3]): (row[0], row[1]) for row in rows}


def snapshot(data: Path, to: Path) -> Path:
    shutil.copytree(data / "stores", to / "stores")
    shutil.copy(data / "root.key", to / "root.key")
    return to


async def fill(lab: Laboratory) -> dict[str, bytes]:
    """Put objects before and behind the end of the journal; return what is to be found."""
    engine = lab.services.engine
    objects = {"large": LARGE, "small": b"s", "empty": b"", "overwritten": b"new", "copy": LARGE, "multipart": b"part"}
    await lab.put("large", LARGE)
    await lab.put("overwritten", b"old")
    source = await engine.find_version(lab.bucket, ObjectKey("large"))
    assert source is not None
    await engine.copy_object(source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey("copy"), ObjectAttributes())
    upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("multipart"), ObjectAttributes())
    part = await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"part"))
    await engine.complete_upload(lab.bucket, upload, [CompletedPart(number=1, etag=part.etag)])
    await lab.put("deleted", b"deleted")
    await engine.delete_latest(lab.bucket, ObjectKey("deleted"))
    await lab.put("empty", b"")
    await lab.put("small", b"s")
    await lab.put("overwritten", b"new")
    return objects


async def test_it_finds_journaled_and_labelled_objects_without_two_stores(tmp_path: Path, packages: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        objects = await fill(lab)
        data = snapshot(tmp_path / "old", tmp_path / "copy")
    output = tmp_path / "out"
    ran = decode(packages, data, "--output", str(output), stores=("alder", "cedar", "elm", "fir"))
    assert (ran.returncode, ran.stderr) == (0, f"{len(objects)} objects are whole, 0 are not\n")
    assert {key: (output / "bucket" / key).read_bytes() for key in objects} == objects
    assert index_of(output) == {("bucket", key): ("whole", f"bucket/{key}") for key in objects}


async def test_it_lists_what_there_is(tmp_path: Path, packages: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("journaled", b"")
        await lab.put("labelled", b"abc")
        data = snapshot(tmp_path / "old", tmp_path / "copy")
    ran = decode(packages, data, "--list")
    rows = [line.split("\t") for line in ran.stdout.splitlines()]
    assert rows == [
        ["state", "bucket", "key", "version", "size", "from"],
        ["whole", "bucket", "journaled", "null", "0", "journal"],
        ["whole", "bucket", "labelled", rows[2][3], "3", "label"],
    ]


async def test_names_that_cannot_be_files_get_numbers_and_nothing_leaves_the_directory(tmp_path: Path, packages: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        for key in AWKWARD:
            await lab.put(key, key.encode())
        data = snapshot(tmp_path / "old", tmp_path / "copy")
    output = tmp_path / "deep" / "out"
    before = set(tmp_path.rglob("*"))
    assert decode(packages, data, "--output", str(output)).returncode == 0
    assert {path for path in set(tmp_path.rglob("*")) - before if not path.is_relative_to(output)} <= {tmp_path / "deep"}
    index = index_of(output)
    for key in AWKWARD:
        shown = key.encode("unicode_escape").decode() if not key.isprintable() or "\\" in key else key
        state, file = index["bucket", shown]
        assert state == "whole"
        assert (output / file).read_bytes() == key.encode()
        assert file.startswith(("bucket/", "_other/"))
    plain = {key for key in AWKWARD if index.get(("bucket", key), ("", ""))[1] == f"bucket/{key}"}
    assert plain == set(PLAIN)


async def test_every_version_can_be_had(tmp_path: Path, packages: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.services.manifest.set_versioning(lab.bucket.id, "Enabled")
        lab.bucket = replace(lab.bucket, versioning="Enabled")
        ids = [(await lab.put("k", b"%d" % number)).id for number in range(3)]
        assert lab.services.journal is not None
        await lab.services.journal.flusher.stored()
        ids.append((await lab.put("k", b"3")).id)
        data = snapshot(tmp_path / "old", tmp_path / "copy")
    output = tmp_path / "out"
    assert decode(packages, data, "--output", str(output), "--all-versions").returncode == 0
    assert [(output / "bucket" / f"k@{version}").read_bytes() for version in ids] == [b"0", b"1", b"2", b"3"]
    assert decode(packages, data, "--output", str(tmp_path / "latest")).returncode == 0
    assert (tmp_path / "latest/bucket/k").read_bytes() == b"3"


async def test_what_is_damaged_is_told_and_not_written(tmp_path: Path, packages: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("good", b"g")
        await lab.put("empty", b"")
        assert lab.services.journal is not None
        await lab.put("bad", b"b" * 1000)
        await lab.services.journal.flusher.stored()
        data = snapshot(tmp_path / "old", tmp_path / "copy")
        version = await lab.services.engine.find_readable(lab.bucket, ObjectKey("bad"))
        assert version is not None
        segment = version.extents[0].layout.segments[0].id.hex()
    for path in sorted((data / "stores").glob(f"*/*/{segment}-*"))[:3]:
        path.write_bytes(b"\0" + path.read_bytes()[1:])
    output = tmp_path / "out"
    ran = decode(packages, data, "--output", str(output))
    assert (ran.returncode, ran.stderr) == (1, "2 objects are whole, 1 are not\n")
    assert index_of(output)["bucket", "bad"] == ("damaged", "")
    assert not (output / "bucket/bad").exists()
    assert (output / "bucket/good").read_bytes() == b"g"


async def test_a_write_that_may_have_been_refused_is_no_object(tmp_path: Path, packages: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"")
        journal = {path.name for path in (tmp_path / "old/stores").glob("*/j/*/*")}
        body, conditions = BytesBody(b"x"), Conditions(if_none_match="*")
        await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey("new"), body, ObjectAttributes(), conditions=conditions)
        data = snapshot(tmp_path / "old", tmp_path / "copy")
    for path in (data / "stores").glob("*/j/*/*"):
        if path.name not in journal:
            path.unlink()
    ran = decode(packages, data, "--list")
    assert "new" not in ran.stdout
    assert "bucket/new: a version was written on a condition" in ran.stderr


async def test_another_root_key_opens_nothing(tmp_path: Path, packages: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x")
        data = snapshot(tmp_path / "old", tmp_path / "copy")
    async with laboratory(tmp_path / "other"):
        pass
    shutil.copy(tmp_path / "other/root.key", data / "root.key")
    ran = decode(packages, data, "--list")
    assert ran.returncode == 2
    assert "this root key opens no copy of a manifest here" in ran.stderr


async def test_buckets_of_two_tenants_are_kept_apart(tmp_path: Path, packages: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"one")
        bucket = Bucket(name=BucketName("second"), tenant_id=lab.tenant.id, policy="standard", created_ms=0)
        lab.bucket = await lab.services.manifest.create_bucket(bucket)
        await lab.put("k", b"two")
        data = snapshot(tmp_path / "old", tmp_path / "copy")
    assert decode(packages, data, "--output", str(tmp_path / "out")).returncode == 0
    assert [(tmp_path / "out" / name / "k").read_bytes() for name in ("bucket", "second")] == [b"one", b"two"]


@pytest.mark.parametrize(
    ("key", "told"),
    [(None, "cannot read the root key"), (b"\xff", "is not a root key"), (b"shardgate-root-key-v1:AAAA", "is not a root key")],
)
def test_a_root_key_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, packages: Path, key: bytes | None, told: str) -> None:
    (tmp_path / "stores" / "alder").mkdir(parents=True)
    if key is not None:
        (tmp_path / "root.key").write_bytes(key)
    done = decode(packages, tmp_path, "--list")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr


async def test_objects_under_kms_keys_and_customers_keys_are_read(tmp_path: Path, packages: Path) -> None:
    """Before and behind the end of the journal, whole and in parts; a customer's only with its key."""
    key = CustomerKey(bytes(range(32)))
    secret = ObjectAttributes(encryption=Encryption(customer_check=key.check_value(bytes(24))))
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        services, engine = lab.services, lab.services.engine
        kms_key = await add_kms_key(services.manifest, services.keyring, lab.clock, lab.tenant)
        under = ObjectAttributes(encryption=Encryption(kms_key_id=kms_key.id))
        upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("parts"), secret)
        bodies = [LARGE[: 5 << 20], b"rest"]
        parts = [
            await engine.upload_part(lab.bucket, lab.tenant, upload, number, BytesBody(body), customer_key=key)
            for number, body in enumerate(bodies, 1)
        ]
        await engine.complete_upload(lab.bucket, upload, [CompletedPart(number=part.number, etag=part.etag) for part in parts])
        for name in ("journaled", "labelled"):
            await engine.put_object(lab.bucket, lab.tenant, ObjectKey(f"kms-{name}"), BytesBody(LARGE), under)
            await engine.put_object(lab.bucket, lab.tenant, ObjectKey(f"customer-{name}"), BytesBody(LARGE), secret, customer_key=key)
            await lab.settled()
            if name == "journaled":
                assert services.journal is not None
                await services.journal.flusher.stored()
        data = snapshot(tmp_path / "old", tmp_path / "copy")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "other").write_text(base64.b64encode(bytes(32)).decode() + "\n")
    open_ones = {"kms-journaled": LARGE, "kms-labelled": LARGE}
    closed = {"customer-journaled": LARGE, "customer-labelled": LARGE, "parts": b"".join(bodies)}

    given = ["--customer-key", str(tmp_path / "other")]
    ran = decode(packages, data, "--output", str(tmp_path / "all"), *given, "--customer-key", str(tmp_path / "key"))
    assert (ran.returncode, ran.stderr) == (0, "5 objects are whole, 0 are not\n")
    assert {name: (tmp_path / "all/bucket" / name).read_bytes() for name in open_ones | closed} == open_ones | closed

    ran = decode(packages, data, "--output", str(tmp_path / "some"), *given)
    assert (ran.returncode, ran.stderr) == (1, "2 objects are whole, 3 are not\n")
    index = index_of(tmp_path / "some")
    assert {name for (_, name), (state, _) in index.items() if state == "whole"} == open_ones.keys()
    assert "none was given that fits" in (tmp_path / "some/index.tsv").read_text("utf-8")


async def test_where_shards_of_a_store_too_many_are_missing_it_says_so_in_a_few_lines(tmp_path: Path, packages: Path) -> None:
    async with laboratory(tmp_path / "lab", journal=JOURNAL) as lab:
        for number in range(40):
            await lab.put(str(number), b"%d" % number * 1000)
        data = snapshot(tmp_path / "lab", tmp_path / "copy")
    for folder in (data / "stores/elm").glob("[0-9a-f][0-9a-f]"):
        shutil.rmtree(folder)
    ran = decode(packages, data, "--list", stores=("alder", "cedar", "elm", "fir"))
    assert ran.returncode == 1
    notes = [line for line in ran.stderr.splitlines() if line.startswith("note: ")]
    assert len(notes) == 21
    assert "more like these; are shards of enough stores here?" in notes[-1]


@pytest.mark.parametrize("stores", [STORES, STORES[2:], ("alder", "cedar", "elm", "fir"), STORES[:4]], ids="+".join)
async def test_it_finds_what_lies_in_packs_whole_and_without_two_stores(tmp_path: Path, packages: Path, stores: tuple[str, ...]) -> None:
    """One pack is in the journal, and something of it was deleted; one is behind its end; and one was stored twice, as a repacker does."""
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        objects = {f"k{number}": os.urandom(size) for number, size in enumerate((1, 15, 4096, 65_520, 65_521, 100_000, 120_000))}
        await put_pack(lab, {**objects, "deleted": b"deleted"})
        await lab.services.engine.delete_latest(lab.bucket, ObjectKey("deleted"))
        assert lab.services.journal is not None
        await lab.services.journal.flusher.flush()
        behind = {"behind": b"b" * 5000, "k1": b"newer"}
        drafts = drafts_of(lab, behind)
        stored, packed = await store_pack(lab, drafts, list(behind.values()))
        await commit_pack(lab, stored, packed)
        await store_pack(lab, drafts, list(behind.values()))
        await lab.settled()
        data = snapshot(tmp_path / "old", tmp_path / "copy")
    output, expected = tmp_path / "out", {**objects, **behind}
    ran = decode(packages, data, "--output", str(output), stores=stores)
    assert (ran.returncode, ran.stderr) == (0, f"{len(expected)} objects are whole, 0 are not\n")
    assert {key: (output / "bucket" / key).read_bytes() for key in expected} == expected
    listed = decode(packages, data, "--list", stores=stores).stdout
    assert {line.split("\t")[2] for line in listed.splitlines()[1:]} == expected.keys()


async def test_what_was_deleted_while_it_was_stored_anew_does_not_come_back(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new pack is there whole, and only its label tells of it: the process died before its slots were exchanged."""
    async with laboratory(tmp_path / "old", journal=ALL) as lab:
        objects = bodies(700, 4096, 9000, 10_000)
        await put_pack(lab, objects)
        await delete(lab, "k2", "k3")

        async def die(*_: object) -> None:
            await delete(lab, "k0")
            raise RuntimeError("the process dies")

        monkeypatch.setattr(SlotRewriter, "_exchange", die)
        with pytest.raises(RuntimeError, match="dies"):
            await repack(lab)
        data = snapshot(tmp_path / "old", tmp_path / "copy")
    output = tmp_path / "out"
    assert decode(packages, data, "--output", str(output)).returncode == 0
    assert index_of(output) == {("bucket", "k1"): ("whole", "bucket/k1")}
    assert (output / "bucket/k1").read_bytes() == objects["k1"]


async def test_a_pack_is_read_around_a_store_that_spoils_it(tmp_path: Path, packages: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        objects = {f"k{number}": os.urandom(20_000) for number in range(12)}
        await put_pack(lab, objects)
        data = snapshot(tmp_path / "old", tmp_path / "copy")
    for path in (data / "stores/birch").rglob("*-*"):
        whole = bytearray(path.read_bytes())
        whole[0 : len(whole) - 1000 : 100] = bytes(len(range(0, len(whole) - 1000, 100)))
        path.write_bytes(whole)
    output = tmp_path / "out"
    ran = decode(packages, data, "--output", str(output), stores=("birch", "cedar", "dogwood", "elm", "fir"))
    assert (ran.returncode, ran.stderr) == (0, "12 objects are whole, 0 are not\n")
    assert {key: (output / "bucket" / key).read_bytes() for key in objects} == objects
