"""tools/shardgate-verify.py: anyone can see from listings alone whether a hand could read, with the standard library and no key."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.codec.format import END, FIXED, shard_name
from proxy.config import CoalitionConfig, Config
from tests.fault.journal_child import KEPT
from tests.laboratory import laboratory
from tests.packing import put_pack
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT

TOOL = ROOT / "tools/shardgate-verify.py"
# Runs the tool as its readers do, without any package: an import of anything but the standard library fails.
BLOCKED = """
import runpy, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names:
            raise ModuleNotFoundError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
BUCKETS = {
    "alder": ("alder-cloud", "north", "EU"),
    "birch": ("birch-cloud", "south", "EU"),
    "cedar": ("cedar-cloud", "east", "US"),
    "dogwood": ("dogwood-cloud", "west", "UK"),
    "elm": ("elm-cloud", "alps", "CH"),
    "fir": ("fir-cloud", "tokyo", "JP"),
}
ID = bytes(range(16))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", "-c", BLOCKED, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


def state(folder: Path, *, buckets: Mapping[str, Sequence[str]] = BUCKETS, **more: object) -> Path:
    """Write a statement in JSON."""
    tables = {name: dict(zip(("provider", "region", "jurisdiction"), whose, strict=True)) for name, whose in buckets.items()}
    path = folder / "statement.json"
    path.write_text(json.dumps({"buckets": tables, **more}))
    return path


def list_names(folder: Path, shards: Iterable[tuple[str, bytes, int, int]]) -> list[str]:
    """Write a listing of names for each bucket; each shard is (bucket, segment id, index, generation)."""
    names: dict[str, list[str]] = {name: [] for name in BUCKETS}
    for bucket, segment, index, generation in shards:
        names[bucket].append(shard_name(segment, index, generation))
    for bucket, listed in names.items():
        (folder / f"{bucket}.txt").write_text("".join(f"{name}\n" for name in listed))
    return [f"{bucket}={folder}/{bucket}.txt" for bucket in names]


def spread(*segments: bytes) -> list[tuple[str, bytes, int, int]]:
    return [(bucket, segment, index, 0) for segment in segments for index, bucket in enumerate(BUCKETS)]


def shard(segment: bytes, index: int, *, k: int, generation: int = 0) -> bytes:
    """The end of a shard, as in docs/FORMAT.md."""
    fixed = FIXED.pack(b"SHGT", 1, 1, k, 2, segment, index, bytes(3), 65536, 1, bytes(16), bytes(32))
    return bytes(100) + fixed + END.pack(generation, 272)


def put(folder: Path, bucket: str, segment: bytes, index: int, *, k: int, name: str = "") -> None:
    path = folder / bucket / (name or shard_name(segment, index))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(shard(segment, index, k=k))


def with_a_coalition(config: Config) -> Config:
    policy = msgspec.structs.replace(config.policies["standard"], never_together=("provider", "jurisdiction", "alps"))
    alps = CoalitionConfig(jurisdictions=("CH", "JP"), providers=("cedar-cloud",))
    return msgspec.structs.replace(config, coalitions={"alps": alps}, policies={**config.policies, "standard": policy})


async def test_writes_through_failures_keep_a_coalition_below_k_and_so_does_the_journal(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "data", journal=KEPT, adjust=with_a_coalition) as lab:
        faults = ("down", "loses_answers", "rejects", "keeps_what_it_refuses", "full")
        for number, name in enumerate(("alder", "elm", "fir", "birch", "cedar") * 2):
            fault = faults[number % len(faults)]
            setattr(lab.stores[name], fault, True)
            await lab.put(f"key-{number}", bytes(50_000 * number + 1))
            setattr(lab.stores[name], fault, False)
        await lab.services.journal.flusher.flush()
    listings = [f"{name}={tmp_path / 'data/stores' / name}" for name in BUCKETS]
    alps = {"coalitions": {"alps": {"jurisdictions": ["CH", "JP"], "buckets": ["cedar"]}}}
    found = run(state(tmp_path, **alps), *listings, "--json")
    report = json.loads(found.stdout)
    assert found.returncode == 0, found.stdout
    assert report["segments"]["objects"] == 10
    assert report["segments"]["the journal"] >= 1
    assert {(hand["name"], hand["most"]) for hand in report["hands"] if hand["kind"] == "coalition"} == {("alps", 3)}
    assert not [limit for limit in report["limits"] if "do not end with a footer" in limit or "not named like shards" in limit]


async def test_the_stores_of_a_real_run_pass_and_a_shard_moved_on_purpose_is_found(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "data") as lab:
        for number in range(5):
            await lab.put(f"key-{number}", bytes(100_000 * number + 1))
        await put_pack(lab, {f"small-{number}": bytes(5_000 + number) for number in range(40)})
        await put_pack(lab, {"lone": b"lone"})
        await lab.settled()
    stores = tmp_path / "data/stores"
    listings = [f"{name}={stores / name}" for name in BUCKETS]
    statement = state(tmp_path)
    whole = run(statement, *listings)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert "Shards that give a segment back: 4 (" in whole.stdout
    assert "The rule holds" in whole.stdout
    assert json.loads(run(statement, *listings, "--json").stdout)["segments"]["objects"] == 5 + 2, "a pack is one segment"

    (victim, *_) = sorted((stores / "alder").glob("??/*-*"))
    segment = victim.name.partition("-")[0]
    for other in ("birch", "cedar", "dogwood"):  # alder comes to hold four shards of one segment
        (found,) = (stores / other).glob(f"??/{segment}-*")
        shutil.move(found, victim.parent / found.name)
    broken = run(statement, *listings, "--json", "--ids", tmp_path / "ids")
    report = json.loads(broken.stdout)
    assert broken.returncode == 1
    assert {(facts["segment"], facts["unit"], facts["name"], facts["k"]) for facts in report["broken"]} == {
        (segment, "provider", "alder-cloud", 4),
        (segment, "region", "alder-cloud/north", 4),
        (segment, "jurisdiction", "EU", 4),
    }
    assert (tmp_path / "ids").read_text() == f"{segment}\n"


def test_a_coalition_with_k_shards_is_named_with_the_segment_and_the_indexes(tmp_path: Path) -> None:
    coalition = {"coalitions": {"atlantic": {"jurisdictions": ["US", "UK", "CA"], "providers": ["alder-cloud"]}}}
    listings = list_names(tmp_path, spread(ID))
    broken = run(state(tmp_path, **coalition), *listings, "--k", 3)
    assert broken.returncode == 1
    assert "THE RULE IS BROKEN for 1 segment." in broken.stdout
    assert f"{ID.hex()}  coalition atlantic has shards 0, 2, 3 (k = 3, not read from its footer)" in broken.stdout
    assert run(state(tmp_path, **coalition), *listings, "--k", 4).returncode == 0
    assert run(state(tmp_path, never_together=["provider"], **coalition), *listings, "--k", 3).returncode == 0


def test_generations_and_copies_of_one_index_are_one_shard_in_a_hand(tmp_path: Path) -> None:
    shards = [*spread(ID), ("alder", ID, 0, 1), ("alder", ID, 0, 26), ("birch", ID, 0, 2)]
    assert run(state(tmp_path), *list_names(tmp_path, shards), "--k", 3).returncode == 0  # EU: 0 and 1
    assert run(state(tmp_path), *list_names(tmp_path, [*shards, ("birch", ID, 5, 3)]), "--k", 3).returncode == 1


def test_the_journal_and_checkpoints_count_like_objects(tmp_path: Path) -> None:
    identity, number = "ab" * 16, f"{7:020d}"
    for kind in "jcr":
        listings = list_names(tmp_path, spread(ID))
        with (tmp_path / "alder.txt").open("a") as listing:
            listing.writelines(f"{kind}/{identity}/{number}-{'cd' * 16}-{index:02x}\n" for index in range(3))
        broken = run(state(tmp_path), *listings, "--k", 3)
        assert broken.returncode == 1
        assert f"{'cd' * 16}  provider alder-cloud has shards 0, 1, 2" in broken.stdout
        assert "1 of objects, 1 of " in broken.stdout


def test_a_segment_cannot_hide_behind_names_of_two_kinds(tmp_path: Path) -> None:
    listings = list_names(tmp_path, [("alder", ID, 0, 0), ("alder", ID, 2, 0)])
    with (tmp_path / "alder.txt").open("a") as listing:
        listing.write(f"j/{'ab' * 16}/{1:020d}-{ID.hex()}-01\n")
    assert run(state(tmp_path), *listings, "--k", 3).returncode == 1


def test_each_segment_is_held_against_its_own_k(tmp_path: Path) -> None:
    """alder holds two shards of a 2+2 segment, which is too many, and three of a 4+2 segment, which is not."""
    few, many = b"\x01" * 16, b"\x02" * 16
    for index in range(2):
        put(tmp_path, "alder", few, index, k=2)
    for index in range(3):
        put(tmp_path, "alder", many, index, k=4)
    statement = state(tmp_path, buckets={"alder": BUCKETS["alder"]})
    report = json.loads((found := run(statement, f"alder={tmp_path}/alder", "--json")).stdout)
    assert found.returncode == 1
    assert {facts["segment"] for facts in report["broken"]} == {few.hex()}
    assert report["k_in_footers"] == {"2": 2, "4": 3}
    assert all(facts["k_is_read"] for facts in report["broken"])


def test_one_store_cannot_make_k_look_larger_than_another_says(tmp_path: Path) -> None:
    for index in range(3):
        put(tmp_path, "alder", ID, index, k=9)
    put(tmp_path, "cedar", ID, 3, k=3)
    statement = state(tmp_path, buckets={name: BUCKETS[name] for name in ("alder", "cedar")})
    broken = run(statement, *(f"{name}={tmp_path}/{name}" for name in ("alder", "cedar")))
    assert broken.returncode == 1
    assert "Footers of one segment disagree about k for 1 segment;" in broken.stdout


def test_shards_under_false_names_are_found(tmp_path: Path) -> None:
    """Whoever renames shards could make one segment look like many."""
    for index in range(3):
        put(tmp_path, "alder", ID, index, k=3, name=shard_name(bytes([index]) * 16, index))
    put(tmp_path, "alder", b"\x07" * 16, 0, k=3)
    broken = run(state(tmp_path, buckets={"alder": BUCKETS["alder"]}), f"alder={tmp_path}/alder")
    assert broken.returncode == 1
    assert "NAMES CANNOT BE TRUSTED: 3 shards" in broken.stdout
    assert f"is shard 2 of segment {ID.hex()}" in broken.stdout


def test_what_is_not_a_shard_is_told_and_markers_are_not(tmp_path: Path) -> None:
    listings = list_names(tmp_path, spread(ID))
    with (tmp_path / "elm.txt").open("a") as listing:
        listing.write(
            f"epoch/{1:020d}-{'ab' * 16}-{'cd' * 16}-{'ef' * 16}\n.shardgate-store\n\x1b[2Jholiday.jpg\n{shard_name(ID, 0).upper()}\n"
        )
    told = run(state(tmp_path), *listings, "--k", 3)
    assert told.returncode == 0
    assert "nobody knows what they are: 2 in elm. Such as elm: '\\x1b[2Jholiday.jpg'; elm: " in told.stdout


def test_the_limits_are_told(tmp_path: Path) -> None:
    shards = [entry for entry in spread(ID) if entry[0] != "fir"]
    statement = state(tmp_path, buckets={**BUCKETS, "elm": ("elm-cloud", "", "CH")})
    told = run(statement, *list_names(tmp_path, shards), "--k", 3).stdout
    for words in (
        "No shard is in the listing of fir. If that is a mistake, the result means nothing.",
        "No region is stated for elm",
        "Buckets that are not in the statement",
        "whoever held a shard once may have kept it",
        "Without a key nobody can tell whether they are true",
        "The same data stored several times is several segments",
    ):
        assert words in told


def as_text(names: Sequence[str]) -> bytes:
    return "\r\n".join(names).encode()


def as_ls(names: Sequence[str]) -> bytes:
    return "".join(f"2026-01-02 03:04:05   1234567 {name}\n" for name in names).encode()


def as_pages(names: Sequence[str]) -> bytes:
    """Two pages, as `aws s3api list-objects-v2 --no-paginate` prints them; only the last says that it is the last."""
    half = len(names) // 2
    first = {"IsTruncated": True, "Contents": [{"Key": name, "Size": 5, "ETag": '"\\"Key\\": \\"x\\""'} for name in names[:half]]}
    last = {"Contents": [{"Key": name, "Owner": {"ID": "[{"}} for name in names[half:]], "IsTruncated": False}
    return (json.dumps(first, indent=4) + "\n" + json.dumps(last)).encode()


def as_array(names: Sequence[str]) -> bytes:
    return json.dumps([{"name": name, "properties": {"contentLength": 5}} for name in names]).encode()


def as_inventory(names: Sequence[str]) -> bytes:
    return "".join(f'"bucket","sh%20ards/{name}","1234","true"\n' for name in names).encode()


def as_titled_inventory(names: Sequence[str]) -> bytes:
    return "".join(["Size,Name\n", *(f"5,{name}\n" for name in names)]).encode()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("file", "written"),
    [
        ("names.txt", as_text),
        ("ls", as_ls),
        ("pages.json", as_pages),
        ("array.json", as_array),
        ("inventory.csv", as_inventory),
        ("titled.csv", as_titled_inventory),
    ],
)
def test_every_kind_of_listing_gives_the_same_names(tmp_path: Path, file: str, written, packed: bool) -> None:
    names = [shard_name(random.Random(number).randbytes(16), number % 6) for number in range(3000)]
    path = tmp_path / (file + ".gz" * packed)
    path.write_bytes(gzip.compress(written(names)) if packed else written(names))
    found = run(state(tmp_path, buckets={"alder": BUCKETS["alder"]}), f"alder={path}", "--k", 2, "--json")
    report = json.loads(found.stdout)
    assert (report["shards"], report["segments"], found.returncode) == (3000, {"objects": 3000}, 0)
    assert not any("not named like shards" in limit for limit in report["limits"])


def test_a_bucket_may_have_several_listings_and_only_its_prefix_counts(tmp_path: Path) -> None:
    for part in range(3):
        (tmp_path / f"{part}.txt").write_text(f"ours/deep/{shard_name(ID, part)}\ntheirs/{shard_name(ID, 3 + part)}\n")
    text = '[buckets.alder]\nprovider = "a"\nlisting = ["0.txt", "1.txt", "2.txt"]\nprefix = "ours/deep/"\n'
    (tmp_path / "statement.toml").write_text(text)
    report = json.loads(run(tmp_path / "statement.toml", "--k", 3, "--json").stdout)
    assert report["broken"][0]["indexes"] == [0, 1, 2]
    (tmp_path / "statement.toml").write_text(text.replace('prefix = "ours/deep/"\n', ""))
    report = json.loads(run(tmp_path / "statement.toml", "--k", 3, "--json").stdout)
    assert report["broken"][0]["indexes"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        (b'{"Contents": [{"Key": "a"}', "not whole JSON"),
        (b'{"Contents": [], "NextToken": "abc"}', "there is more than this page"),
        (b'{"IsTruncated": true, "Contents": []}', "there is more than this page"),
        (b'[{"size": 1}]', "an entry has no name"),
        (b"[" * 100_000, "failed, so nothing is known"),
        (b"\xff\xfe\x00", "cannot be read to its end"),
        (b"", "no shard is in any listing"),
        (b"holiday.jpg\n", "no shard is in any listing"),
    ],
)
def test_a_listing_that_is_not_whole_is_refused(tmp_path: Path, listing: bytes, words: str) -> None:
    (tmp_path / "listing").write_bytes(listing)
    refused = run(state(tmp_path, buckets={"alder": BUCKETS["alder"]}), f"alder={tmp_path}/listing", "--k", 3)
    assert refused.returncode == 2
    assert words in refused.stderr


def test_a_packed_listing_that_was_cut_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(random.Random(1).randbytes(3000).hex().encode())[:-200])
    refused = run(state(tmp_path, buckets={"alder": BUCKETS["alder"]}), f"alder={tmp_path}/cut.txt.gz", "--k", 3)
    assert (refused.returncode, "cannot be read to its end" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"buckets": {}}, "states no bucket"),
        ({"buckets": {"alder": {"region": "x"}}}, "buckets.alder.provider: missing"),
        ({"buckets": {"alder": {"provider": "x", "owner": "y"}}}, "there is no key owner; one of: endpoint"),
        ({"coalitions": {"west": {"providers": ["nobody"]}}}, "coalitions.west.providers: no bucket is of nobody; one of: alder-cloud"),
        ({"coalitions": {"west": {"jurisdictions": ["BR"]}}}, "no bucket is of BR; one of: CH, EU"),
        ({"coalitions": {"provider": {"providers": ["alder-cloud"]}}}, "give it another name"),
        ({"coalitions": {"west": {}}}, "names nobody"),
        ({"never_together": ["west"]}, '"west" is none of provider, region, jurisdiction'),
        ({"polices": {}}, "there is no key polices"),
    ],
)
def test_a_statement_that_says_too_little_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    statement = state(tmp_path)
    statement.write_text(json.dumps({**json.loads(statement.read_text()), **change}))
    listings = [] if "buckets" in change else list_names(tmp_path, spread(ID))
    refused = run(statement, *listings, "--k", 3)
    assert refused.returncode == 2
    assert words in refused.stderr


def test_a_bucket_without_a_listing_and_a_listing_without_a_bucket_are_refused(tmp_path: Path) -> None:
    statement, listings = state(tmp_path), list_names(tmp_path, spread(ID))
    assert "no listing of the bucket fir" in run(statement, *listings[:-1], "--k", 3).stderr
    assert "has no [buckets.oak]" in run(statement, *listings, f"oak={tmp_path}/fir.txt", "--k", 3).stderr
    assert "k shards" not in (refused := run(statement, *listings)).stdout
    assert (refused.returncode, "give --k" in refused.stderr) == (2, True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shards=st.sets(
        st.tuples(st.sampled_from(list(BUCKETS)), st.integers(0, 3), st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=60
    ),
    k=st.integers(1, 6),
    members=st.sets(st.sampled_from(list(BUCKETS)), min_size=1),
)
def test_counts_are_those_of_counting_by_hand(tmp_path: Path, shards: set[tuple[str, int, int, int]], k: int, members: set[str]) -> None:
    segments = [bytes([number]) * 16 for number in range(4)]
    statement = state(tmp_path, coalitions={"gang": {"buckets": sorted(members)}})
    listings = list_names(tmp_path, [(bucket, segments[number], index, generation) for bucket, number, index, generation in shards])
    found = run(statement, *listings, "--k", k, "--json")
    report = json.loads(found.stdout)

    hands = {("coalition", "gang"): members}
    for name, (provider, region, jurisdiction) in BUCKETS.items():
        for hand in (("provider", provider), ("region", f"{provider}/{region}"), ("jurisdiction", jurisdiction)):
            hands.setdefault(hand, set()).add(name)
    counted = {
        hand: [len({index for bucket, of, index, _ in shards if of == number and bucket in buckets}) for number in range(4)]
        for hand, buckets in hands.items()
    }
    assert {(hand["kind"], hand["name"]): hand["most"] for hand in report["hands"]} == {hand: max(most) for hand, most in counted.items()}
    broken = {(segments[number].hex(), *hand) for hand, most in counted.items() for number in range(4) if most[number] >= k}
    assert {(facts["segment"], facts["unit"], facts["name"]) for facts in report["broken"]} == broken
    assert found.returncode == bool(broken)


def test_shards_below_a_folder_with_any_name_are_counted_and_read(tmp_path: Path) -> None:
    for index in range(3):
        put(tmp_path, os.fsdecode(b"alder/\xff \xc3\xa9"), ID, index, k=3)
    broken = run(state(tmp_path, buckets={"alder": BUCKETS["alder"]}), f"alder={tmp_path}/alder")
    assert broken.returncode == 1
    assert f"{ID.hex()}  provider alder-cloud has shards 0, 1, 2 (k = 3)" in broken.stdout


def test_help_says_how_it_counts_and_what_the_exit_codes_mean() -> None:
    told = run("--help")
    assert (told.returncode, "how it counts" in told.stdout.lower(), "Exit code: 0" in told.stdout) == (0, True, True)


def test_the_fixed_part_is_that_of_the_format() -> None:
    text = TOOL.read_text("utf-8")
    assert re.search(r'FIXED = struct.Struct\("([^"]+)"\)', text)[1] == FIXED.format  # type: ignore[index]
