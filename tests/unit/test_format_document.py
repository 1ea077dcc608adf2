"""docs/FORMAT.md against the code: sizes, offsets, constants, infos and vectors; and a decoder written from the page reads the vectors."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from math import ceil

import msgspec
import pytest

from proxy.codec import format as layout
from proxy.codec.customer import CustomerKey
from proxy.codec.decode import decode_segment
from proxy.codec.footer import FixedPart, parse_footer
from proxy.codec.geometry import MAX_CELLS, Scheme, SegmentGeometry, parse_scheme
from proxy.codec.keys import Derivation, DerivedKeys, ShareCipher
from proxy.codec.label import Label, encode_label
from proxy.codec.segment import SegmentKeys, SegmentSealer
from proxy.codec.sharing import GF256, key_sharing, xor
from proxy.codec.slots import PackEntry, SlotContent, arrange, compose
from proxy.keyring import TenantCipher
from proxy.keyring.file import PREFIX, FileRootKey
from proxy.manifest import journal, records
from proxy.manifest.drafts import VersionDraft
from tests.servers import ROOT
from tests.unit.codec import paper_decoder
from tests.unit.codec.samples import TENANT_KEY_ID, keys_for, opened, pattern, seal
from tests.unit.test_docs import page, quoted, tables

TEXT = page("FORMAT.md")
VECTORS = json.loads((ROOT / "docs/format-vectors.json").read_text())
SEGMENTS = [pytest.param(segment, id=f"{segment['scheme']} {segment['plaintext_size']}") for segment in VECTORS["segments"]]
PACK = VECTORS["segments"][3]
TENANT_KEY = bytes.fromhex(VECTORS["tenant_key"])
DATA_KEY = bytes.fromhex(VECTORS["data_key"])


def rows_of(heading: str) -> list[dict[str, str]]:
    return [row for title, row in tables(TEXT) if title == heading]


@dataclass(frozen=True)
class Field:
    offset: int
    size: int
    value: str


def fixed_fields() -> dict[str, Field]:
    return {row["field"]: Field(int(row["offset"]), int(row["size"]), row["value"]) for row in rows_of("Fixed part")}


def test_the_fixed_part_lies_as_the_page_says() -> None:
    fields = fixed_fields()
    ends = list(itertools.accumulate(field.size for field in fields.values()))
    assert [field.offset for field in fields.values()] == [0, *ends[:-1]]
    assert ends[-1] == layout.FIXED_PART_SIZE
    packed = FixedPart(
        segment_id=bytes(range(16)),
        shard_index=5,
        scheme=Scheme(4, 2),
        segment_size=5000,
        tenant_key_id=TENANT_KEY_ID,
        commitment=b"c" * 32,
    ).pack()
    found = {name: packed[field.offset : field.offset + field.size] for name, field in fields.items()}
    assert found == {
        "magic": fields["magic"].value.strip("`").encode(),
        "format version": bytes([int(fields["format version"].value)]),
        "code id": bytes([int(fields["code id"].value.partition(":")[0])]),
        "k": b"\x04",
        "m": b"\x02",
        "segment id": bytes(range(16)),
        "shard index": b"\x05",
        "reserved": bytes(3),
        "cell size": int(fields["cell size"].value).to_bytes(4, "big"),
        "segment size": (5000).to_bytes(8, "big"),
        "tenant key id": bytes.fromhex(TENANT_KEY_ID.replace("-", "")),
        "key commitment": b"c" * 32,
    }
    assert str(layout.MAX_SEGMENT_SIZE) in fields["segment size"].value
    assert f"is {MAX_CELLS} at most" in fields["m"].value


def test_a_shard_is_cut_as_the_page_says() -> None:
    name, shard = next(iter(seal(Scheme(4, 2), pattern(5000)).items()))
    footer = parse_footer(shard, name=name, size_bytes=len(shard))
    sizes = {"C": footer.fixed.geometry.cells_size, "L": len(footer.sealed_label)}
    rows = rows_of("A shard")
    assert [row["part"] for row in rows] == ["cells", "sealed label", "wrapped share", "fixed part", "generation", "label size"]
    lengths = [sizes.get(row["size"]) or int(row["size"]) for row in rows]
    assert sum(lengths) == len(shard)
    parts = [shard[end - length : end] for length, end in zip(lengths, itertools.accumulate(lengths), strict=True)]
    assert parts[1:] == [footer.sealed_label, footer.wrapped_share, footer.fixed.pack(), bytes(4), sizes["L"].to_bytes(4, "big")]
    assert f"`L + {layout.FOOTER_BASE_SIZE}`" in TEXT
    assert f"multiple of {layout.LABEL_STEP}, and {layout.sealed_label_size(0)} at least" in TEXT


@pytest.mark.parametrize(
    ("scheme", "size"), [(Scheme(4, 2), 300_001), (Scheme(1, 1), 65_536), (Scheme(20, 12), 16 << 20), (Scheme(3, 1), 1)]
)
def test_geometry_is_computed_as_the_page_says(scheme: Scheme, size: int) -> None:
    rows = {row["name"]: row["value"].strip("`").split("=")[-1] for row in rows_of("Geometry")}
    names = {"ceil": ceil, "S": size, "k": scheme.k}
    names["T"] = _compute(rows["stripes"], names)
    names["P"] = _compute(rows["plaintext of the last stripe"], names)
    geometry = SegmentGeometry(scheme, size)
    assert (geometry.stripe_count, geometry.last_stripe_size) == (names["T"], names["P"])
    assert geometry.last_cell_size == _compute(rows["cell of the last stripe"], names)
    assert geometry.cells_size == _compute(rows["cells of a shard"], names)
    assert int(rows["cell of a full stripe"]) == layout.CELL_SIZE
    assert f"byte `t × {layout.SEALED_CELL_SIZE}`" in TEXT


def _compute(formula: str, names: dict[str, object]) -> int:
    return int(eval(formula.replace("×", "*").replace("−", "-"), {"__builtins__": {}}, names))  # of our own page


def test_the_infos_are_those_of_the_code_and_no_use_can_be_taken_for_another() -> None:
    infos = {name: value.decode() for name, value in vars(layout).items() if name.startswith("INFO_")}
    assert sorted(quoted(row["info"])[0] for row in rows_of("Keys") if row.get("info")) == sorted(infos.values())
    assert not [pair for pair in itertools.permutations(infos.values(), 2) if pair[0].startswith(pair[1])]


def test_sizes_in_the_text_are_those_of_the_code() -> None:
    assert (layout.KEY_SIZE, layout.NONCE_SIZE, layout.TAG_SIZE, layout.COMMITMENT_SIZE) == (32, 12, 16, 32)
    assert f"{layout.SALT_SIZE} random bytes of salt" in TEXT
    assert f"A wrapped data key has {layout.WRAPPED_KEY_SIZE} bytes" in TEXT
    assert f"a salt of {layout.SALT_SIZE} random bytes" in TEXT
    assert f"**check value** of {len(CustomerKey(bytes(32)).check_value(bytes(layout.SALT_SIZE)))} bytes" in TEXT
    assert f"its first {layout.CUSTOMER_ETAG_SIZE} bytes in hex are the ETag" in TEXT
    assert f"That makes {layout.SHARE_SIZE} bytes" in TEXT
    assert f"up to the next multiple of {layout.LABEL_STEP}" in TEXT
    assert f"`length ({layout.LABEL_LENGTH_SIZE} bytes)" in TEXT
    assert f"`{PREFIX}`" in TEXT


def test_the_labels_fields_are_those_of_the_page() -> None:
    names = {"text": str, "number": int, "bytes": bytes}
    fields = {field.name: field for field in msgspec.structs.fields(Label)}
    rows = {quoted(row["field"])[0]: row for row in rows_of("The label") if "field" in row}
    assert list(rows) == list(fields)
    for name, row in rows.items():
        assert names[row["type"]] is fields[name].type
        assert [repr(fields[name].default).replace("'", '"')] * (not fields[name].required) == quoted(row["default"])


def test_the_example_of_a_name_is_one() -> None:
    assert f"`{layout.shard_name(bytes(range(16)), 31, 26)}` is shard 31 in generation 26" in TEXT


@pytest.mark.parametrize("scheme", [Scheme(4, 2), Scheme(1, 2), Scheme(3, 5), Scheme(16, 16)], ids=str)
def test_parity_is_what_the_page_says(scheme: Scheme) -> None:
    data = pattern(scheme.k * 100)
    shards = list(seal(scheme, data).values())
    keys = keys_for(scheme, len(data))
    cells = [opened(keys.cipher(index), shard[:116]) for index, shard in enumerate(shards)]
    for index in range(scheme.k, scheme.n):
        terms = [cells[j].translate(GF256.tables[GF256.invert(index ^ j)]) for j in range(scheme.k)]
        assert xor(terms) == cells[index]


def test_the_vectors_of_the_manifest_open() -> None:
    root, tenant = FileRootKey(bytes.fromhex(VECTORS["root_key"])), TenantCipher(VECTORS["tenant_key_id"], TENANT_KEY)
    wrapped = bytes.fromhex(VECTORS["wrapped_tenant_key"])
    assert root.id == VECTORS["root_key_id"]
    assert root.unwrap(wrapped, context=VECTORS["tenant_key_id"].encode()) == TENANT_KEY
    assert tenant.unwrap(bytes.fromhex(VECTORS["wrapped_data_key"])) == DATA_KEY
    assert tenant.open_secret(bytes.fromhex(VECTORS["sealed_secret"])) == VECTORS["secret"]


@pytest.mark.parametrize("vector", SEGMENTS)
def test_stored_bytes_never_change_under_one_format_version(vector: dict[str, object]) -> None:
    segment = _Vector(vector)
    derived = DerivedKeys(DATA_KEY, segment.id)
    assert derived.commitment().hex() == vector["commitment"]
    assert derived.label_key().hex() == vector["label_key"]
    assert Derivation(TENANT_KEY).expand(layout.INFO_SHARES + segment.id).hex() == vector["shares_key"]
    shares = key_sharing(segment.scheme.k, segment.scheme.n).share(DATA_KEY, bytes.fromhex(str(vector["randomness"])))
    for index, (name, shard) in enumerate(segment.seal().items()):
        wanted = segment.shards[index]
        assert (name, len(shard), hashlib.sha256(shard).hexdigest()) == (wanted["name"], wanted["size"], wanted["sha256"])
        assert (derived.shard_key(index).hex(), shares[index].hex()) == (wanted["cells_key"], wanted["share"])
        assert shard.hex() == wanted.get("bytes", shard.hex())
        assert shard.hex().endswith(str(wanted.get("footer", "")))


@pytest.mark.parametrize("vector", SEGMENTS)
def test_a_decoder_written_from_the_page_reads_the_vectors(vector: dict[str, object]) -> None:
    segment = _Vector(vector)
    shards = segment.seal()
    cipher = TenantCipher(VECTORS["tenant_key_id"], TENANT_KEY)
    for chosen in itertools.combinations(shards, segment.scheme.k):
        held = {name: shards[name] for name in chosen}
        plaintext, label = paper_decoder.decode(held, TENANT_KEY)
        ours = decode_segment(held, cipher.open_share)
        assert plaintext == ours.plaintext == segment.plaintext
        assert msgspec.msgpack.encode(label) == encode_label(ours.label) == segment.label


def test_the_pack_among_the_vectors_is_arranged_as_it_says() -> None:
    segment = _Vector(PACK)
    assert DerivedKeys(DATA_KEY, segment.id).slots_key().hex() == PACK["slots_key"]
    assert segment.arranged.column_size == PACK["column_size"]
    label = msgspec.msgpack.decode(segment.label)
    assert (label["table_offset"], label["table_size"]) == (segment.arranged.table_offset, len(segment.arranged.table))
    assert (label["bucket"], label["key"]) == ("", "")
    assert segment.arranged.table.hex() == PACK["table"]
    assert [segment.arranged.offsets[number] for number in range(len(PACK["objects"]))] == [one["offset"] for one in PACK["objects"]]


def test_a_table_has_the_fields_that_the_page_lists() -> None:
    assert [quoted(row["field"])[0] for row in rows_of("Packs")] == [field.encode_name for field in msgspec.structs.fields(PackEntry)]
    told = [{name: value for name, value in one.items() if name != "plaintext"} for one in PACK["objects"]]
    found = [{**entry, "record": entry["record"].hex()} for entry in msgspec.msgpack.decode(bytes.fromhex(PACK["table"]))]
    assert found == told


def test_a_decoder_written_from_the_page_reads_each_slot_alone_from_others_and_from_the_whole() -> None:
    segment = _Vector(PACK)
    shards = list(segment.seal().values())
    label, k = msgspec.msgpack.decode(segment.label), segment.scheme.k
    slots = [(one["offset"], one["size"], object_bytes(one)) for one in PACK["objects"]]
    for offset, size, data in (*slots, (label["table_offset"], label["table_size"], segment.arranged.table)):
        column = offset // PACK["column_size"]
        assert paper_decoder.slot_alone(shards[column], DATA_KEY, offset, size) == data
        others = [shard for index, shard in enumerate(shards) if index != column][:k]
        assert paper_decoder.slot_of_others(others, DATA_KEY, offset, size) == data
        assert paper_decoder.slot_in(segment.plaintext, shards[0][-96:-8], DATA_KEY, offset, size) == data


def test_a_decoder_written_from_the_page_opens_what_the_manifest_holds() -> None:
    tenant_id = VECTORS["tenant_key_id"]
    for key, use, sealed, message in (
        ("root_key", b"shardgate v1 tenant key ", "wrapped_tenant_key", TENANT_KEY),
        ("tenant_key", b"shardgate v1 data key ", "wrapped_data_key", DATA_KEY),
        ("tenant_key", b"shardgate v1 secret ", "sealed_secret", VECTORS["secret"].encode()),
    ):
        assert paper_decoder.open_salted(bytes.fromhex(VECTORS[key]), use, bytes.fromhex(VECTORS[sealed]), tenant_id) == message


class _Vector:
    """One segment of the vectors, sealed by the code from the vector's keys and randomness."""

    def __init__(self, vector: dict[str, object]) -> None:
        self.scheme = parse_scheme(str(vector["scheme"]))
        self.id = bytes.fromhex(str(vector["segment_id"]))
        size = int(str(vector["plaintext_size"]))
        if "objects" in vector:
            self.plaintext = bytes(self._packed(SegmentGeometry(self.scheme, size), vector["objects"]))  # type: ignore[arg-type]
        else:
            self.plaintext = bytes.fromhex(str(vector["plaintext"])) if "plaintext" in vector else pattern(size)
        self.label = bytes.fromhex(str(vector["label"]))
        self.shards: list[dict[str, object]] = vector["shards"]  # type: ignore[assignment]
        self._randomness = bytes.fromhex(str(vector["randomness"]))
        assert hashlib.sha256(self.plaintext).hexdigest() == vector["plaintext_sha256"]

    def _packed(self, geometry: SegmentGeometry, objects: list[dict[str, object]]) -> bytearray:
        contents = contents_of(objects)
        self.arranged = arrange(contents, compose([len(content.plaintext) for content in contents], self.scheme.k))
        assert self.scheme.k * self.arranged.column_size == geometry.size
        return self.arranged.plaintext(self.keys(geometry), contents)

    def keys(self, geometry: SegmentGeometry) -> SegmentKeys:
        return SegmentKeys(geometry, segment_id=self.id, data_key=DATA_KEY, tenant_key_id=VECTORS["tenant_key_id"])

    def seal(self) -> dict[str, bytes]:
        geometry = SegmentGeometry(self.scheme, len(self.plaintext))
        keys = self.keys(geometry)
        sealer = SegmentSealer(keys)
        sealer.add([self.plaintext])
        shards = sealer.shards(label=self.label, wrapped_shares=wrap_shares(keys, self._randomness))
        return {layout.shard_name(self.id, index): b"".join(shard) for index, shard in enumerate(shards)}


def contents_of(objects: list[dict[str, object]]) -> list[SlotContent]:
    return [
        SlotContent(str(one["bucket"]), str(one["key"]), str(one["version_id"]), bytes.fromhex(str(one["record"])), object_bytes(one))
        for one in objects
    ]


def object_bytes(one: dict[str, object]) -> bytes:
    return bytes.fromhex(str(one["plaintext"])) if "plaintext" in one else pattern(int(str(one["size"])))


def wrap_shares(keys: SegmentKeys, randomness: bytes) -> list[bytes]:
    scheme, cipher = keys.geometry.scheme, ShareCipher(Derivation(TENANT_KEY), keys.segment_id)
    shares = key_sharing(scheme.k, scheme.n).share(DATA_KEY, randomness)
    return [cipher.wrap(index, share, keys.fixed_part(index)) for index, share in enumerate(shares)]


def test_the_manifests_copy_is_named_as_the_page_says() -> None:
    rows = {row["what"]: quoted(row["name"])[0] for row in rows_of("The manifest's copy")}
    prefixes = {"journal segment": layout.JOURNAL_PREFIX, "checkpoint": layout.CHECKPOINT_PREFIX, "run": layout.RUN_PREFIX}
    assert rows.keys() == prefixes.keys()
    for what, name in rows.items():
        copy = layout.CopyName(prefixes[what], "ab" * 16, 7, bytes(range(16)), 31)
        for field, value in (
            ("manifest identity", "ab" * 16),
            ("number", "7".zfill(20)),
            ("segment id", bytes(range(16)).hex()),
            ("index", "1f"),
        ):
            name = name.replace(f"<{field}>", value)
        assert str(copy) == name
        assert layout.parse_copy_name(name) == copy
        assert not layout.is_shard_name(name)
    assert f"`{layout.JOURNAL_KEY_ID}`" in TEXT


def test_rows_of_the_manifests_copy_are_those_that_the_page_lists() -> None:
    listed = [(quoted(row["table"])[0], tuple(quoted(row["key"])), tuple(quoted(row["other columns"]))) for row in rows_of("Rows")]
    assert listed == [(table.name, table.key, table.columns) for table in journal.TABLES]


def test_records_of_the_manifests_copy_have_the_fields_that_the_page_lists() -> None:
    listed = [quoted(row["field"])[0] for heading in ("Journal segments", "Checkpoints and runs") for row in rows_of(heading)]
    records = (journal.JournalSegment, journal.Checkpoint, journal.Run)
    assert sorted(listed) == sorted(field.encode_name for record in records for field in msgspec.structs.fields(record))
    row = journal.Row("t", (1, b"k"), ("v", None))
    assert msgspec.msgpack.decode(journal.encode_rows([row])) == [["t", [1, b"k"], ["v", None]]]


def test_the_records_have_the_fields_that_the_page_lists() -> None:
    structs: dict[str, type[msgspec.Struct]] = {
        "tenant": records.Tenant,
        "KMS key": records.KmsKey,
        "bucket": records.Bucket,
        "version": records.Version,
        "layout": records.Layout,
        "upload": records.Upload,
        "part": records.Part,
        "draft": VersionDraft,
    }
    name, seen = "", set[str]()
    for row in rows_of("Records"):
        name = row["record"] or name
        seen.add(name)
        for field in quoted(row["field"]):
            assert field in structs[name].__struct_fields__, f"{name}.{field}"
    assert seen == set(structs)
