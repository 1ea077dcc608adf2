#!/usr/bin/env python3
"""shardgate-verify: check, from the listings of the buckets, that no hand holds enough shards of anything to read it.

You need no key, no manifest and nothing of Shardgate: only this file, Python 3.11, a listing of each bucket, and a statement of who owns
which bucket. (boto3 is needed only for buckets that this program is to list itself, as s3://BUCKET.)

    python3 shardgate-verify.py statement.toml alder=alder.txt birch=birch.json cedar=/mnt/cedar dogwood=s3://dogwood/shards

The statement, in TOML or JSON:

    never_together = ["provider", "jurisdiction", "five_eyes"]  # whom the rule is for; not given: everyone that is stated

    [buckets.alder]
    provider = "alder-cloud"
    region = "eu-central"             # optional
    jurisdiction = "EU"               # optional
    listing = ["a-1.csv.gz", "a-2.csv.gz"]  # optional: instead of alder=... on the command line; paths start at the statement's folder
    prefix = "shards"                 # optional: count only what is under it
    endpoint = "https://s3.example"   # optional: for s3://

    [coalitions]
    five_eyes = { jurisdictions = ["US", "UK", "CA", "AU", "NZ"] }
    holding = { providers = ["alder-cloud", "birch-cloud"] }   # also: regions (PROVIDER/REGION), buckets

A listing is a text file with a name a line (or what `aws s3 ls --recursive` prints), JSON (`aws s3api list-objects-v2`, `gcloud storage
objects list`, `az storage blob list`), a CSV inventory, any of them with .gz, a directory, or s3://BUCKET[/PREFIX]. Name a bucket twice if
its listing has two files.

How it counts. A shard is named after its segment and its index. Any k shards with different indexes give a segment back. So for each hand
(provider, region, jurisdiction, coalition) the different indexes of each segment are counted in all its buckets together. A second
generation of an index is the same shard again, and counts once. The number k stands in the footers of shards: --sample says how many are
read where contents can be read, and --k states it. Every segment that might break the rule has its own footers read.

Exit code: 0 if the rule holds for all that was listed, 1 if it is broken, 2 if the input is not good enough to tell.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import random
import re
import sqlite3
import struct
import sys
import tempfile
import tomllib
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote_plus

# hh/<segment id>-<index>[.<generation>]; the manifest's own copy: <j, c or r>/<manifest identity>/<number>-<segment id>-<index>
OBJECT_NAME = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{30})-([0-9a-f]{2})(?:\.([1-9a-f][0-9a-f]{0,7}))?")
COPY_NAME = re.compile(r"([jcr])/[0-9a-f]{32}/[0-9]{20}-([0-9a-f]{32})-([0-9a-f]{2})(?:\.([1-9a-f][0-9a-f]{0,7}))?")
MARKER_NAME = re.compile(r"(?:epoch/[0-9]{20}(?:-[0-9a-f]{32}){3}|\.shardgate-store)")
KINDS = {"": "objects", "j": "the journal", "c": "checkpoints", "r": "checkpoints"}
FIXED = struct.Struct(">4sBBBB16sB3sIQ16s32s")  # magic, version, code, k, m, segment id, index, ...: at the end of each shard
END = struct.Struct(">II")  # behind it: generation, size of the label
TAIL_SIZE = FIXED.size + END.size
UNITS = ("provider", "region", "jurisdiction")
LISTED_AS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\d+ (.*)")  # `aws s3 ls --recursive`
CHUNK = 1 << 16
BATCH = 10_000
SHOWN = 100


class BadInput(Exception):
    """What was given cannot be used; the message says what, and what to do."""


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    try:
        statement = load_statement(Path(options.statement), options.listing)
        with tempfile.TemporaryDirectory(prefix="shardgate-verify-", dir=options.scratch) as scratch:
            os.environ["SQLITE_TMPDIR"] = scratch  # where SQLite sorts
            report = verify(statement, Path(scratch) / "shards.sqlite", k=options.k, sample=options.sample, ids=options.ids or os.devnull)
    except BadInput as error:
        print(f"shardgate-verify: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # whatever it is, it must not look like a rule that is broken, nor like one that holds
        traceback.print_exc()
        print(f"shardgate-verify: failed, so nothing is known: {error or type(error).__name__}", file=sys.stderr)
        return 2
    print(json.dumps(as_document(report), indent=2) if options.json else as_text(report))
    return 1 if report.broken else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    head, _, body = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        "shardgate-verify", description=head, epilog=body, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("statement", help="who owns which bucket, TOML or JSON")
    parser.add_argument("listing", nargs="*", help="BUCKET=LISTING: a file, a directory, or s3://BUCKET[/PREFIX]")
    parser.add_argument("--k", type=int, help="the fewest shards that give a segment back, if footers cannot be read")
    parser.add_argument("--sample", type=int, default=1000, help="shards whose footers are read (default 1000; 0: read no contents)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--ids", help="write the ids of all segments that break the rule to this file")
    parser.add_argument("--scratch", help="folder for temporary files: about 150 bytes a shard")
    options = parser.parse_args(arguments)
    if options.k is not None and options.k < 1:
        parser.error("--k: it is 1 or more")
    if options.sample < 0:
        parser.error("--sample: it is 0 or more")
    return options


# ---- the statement


@dataclass(frozen=True)
class Bucket:
    name: str
    provider: str
    region: str
    jurisdiction: str
    prefix: str
    endpoint: str
    listings: tuple[str, ...]
    coalitions: tuple[str, ...] = ()

    def unit(self, unit: str) -> str:
        """Return whose it is, of one kind; nothing if that is not stated. A region is one provider's."""
        return f"{self.provider}/{self.region}" if unit == "region" and self.region else getattr(self, unit)

    @property
    def hands(self) -> tuple[tuple[str, str], ...]:
        units = [(unit, self.unit(unit)) for unit in UNITS if self.unit(unit)]
        return (*units, *(("coalition", name) for name in self.coalitions))


@dataclass(frozen=True)
class Statement:
    buckets: tuple[Bucket, ...]
    never_together: frozenset[str]

    def is_ruled(self, hand: tuple[str, str]) -> bool:
        return (hand[1] if hand[0] == "coalition" else hand[0]) in self.never_together


def load_statement(path: Path, given: Sequence[str]) -> Statement:
    """Read who owns which bucket, and where each one's listing is. Raises `BadInput`."""
    document = _read_document(path)
    _refuse_unknown(document, {"buckets", "coalitions", "never_together"}, str(path))
    listings: dict[str, list[str]] = {}
    for entry in given:
        name, equals, listing = entry.partition("=")
        if not equals or not listing:
            raise BadInput(f'"{entry}" is not BUCKET=LISTING')
        listings.setdefault(name, []).append(listing)
    tables = _table(document, "buckets", str(path))
    if not tables:
        raise BadInput(f"{path}: states no bucket; add [buckets.NAME] with its provider")
    for name in listings:
        if name not in tables:
            raise BadInput(
                f'a listing of "{name}" is given, but the statement has no [buckets.{name}]; add it, so that it is known whose it is'
            )
    buckets = [_bucket(path, name, table, listings.get(name)) for name, table in tables.items()]
    coalitions = _coalitions(path, _table(document, "coalitions", str(path)), buckets)
    ruled = document.get("never_together", [*UNITS, *coalitions])
    for name in _texts(ruled, f"{path}: never_together"):
        if name not in {*UNITS, *coalitions}:
            raise BadInput(f'{path}: never_together: "{name}" is none of {", ".join([*UNITS, *coalitions])}')
    joined = tuple(_joined(bucket, coalitions) for bucket in buckets)
    return Statement(joined, frozenset(ruled))


def _read_document(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
        document = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except OSError as error:
        raise BadInput(f"cannot read the statement {path}: {error.strerror}") from error
    except ValueError as error:  # of both parsers, and of UTF-8
        raise BadInput(f"{path}: neither TOML nor JSON: {error}") from error
    return document


def _bucket(path: Path, name: str, table: dict[str, Any], given: list[str] | None) -> Bucket:
    place = f"{path}: buckets.{name}"
    texts = ("provider", "region", "jurisdiction", "prefix", "endpoint")
    _refuse_unknown(table, {*texts, "listing"}, place)
    for key in texts:
        if not isinstance(table.get(key, ""), str):
            raise BadInput(f"{place}.{key}: not a text")
    if not table.get("provider"):
        raise BadInput(f"{place}.provider: missing; say whose the bucket is")
    stated = table.get("listing", [])
    listings = given or [_from_folder(path.parent, text) for text in _texts([stated] if isinstance(stated, str) else stated, place)]
    if not listings:
        raise BadInput(f"no listing of the bucket {name}; give {name}=LISTING. Without it nobody knows what its owner holds")
    provider, region, jurisdiction, prefix, endpoint = (table.get(key, "") for key in texts)
    return Bucket(name, provider, region, jurisdiction, prefix, endpoint, tuple(listings))


def _from_folder(folder: Path, listing: str) -> str:
    return listing if listing.startswith("s3://") else str(folder / listing)


Coalitions = dict[str, Callable[[Bucket], bool]]


def _coalitions(path: Path, tables: dict[str, Any], buckets: Sequence[Bucket]) -> Coalitions:
    """Return who is in which coalition. A jurisdiction may have no bucket, if another one of the coalition has."""
    members: Coalitions = {}
    for name, table in tables.items():
        place = f"{path}: coalitions.{name}"
        known = {
            "providers": {bucket.provider for bucket in buckets},
            "jurisdictions": {bucket.jurisdiction for bucket in buckets},
            "regions": {bucket.unit("region") for bucket in buckets},
            "buckets": {bucket.name for bucket in buckets},
        }
        _refuse_unknown(table, set(known), place)
        named = {key: set(_texts(table.get(key, []), f"{place}.{key}")) for key in known}
        for key, names in named.items():
            strangers = names - known[key] if key != "jurisdictions" or not names & known[key] else set()
            if strangers:
                raise BadInput(f"{place}.{key}: no bucket is of {', '.join(sorted(strangers))}; one of: {', '.join(sorted(known[key]))}")
        if name in UNITS or not any(named.values()):
            raise BadInput(f"{place}: " + ("give it another name" if name in UNITS else "names nobody"))
        members[name] = lambda bucket, named=named: (  # type: ignore[misc]
            bucket.provider in named["providers"]
            or bucket.jurisdiction in named["jurisdictions"]
            or bucket.unit("region") in named["regions"]
            or bucket.name in named["buckets"]
        )
    return members


def _joined(bucket: Bucket, coalitions: Coalitions) -> Bucket:
    return Bucket(**{**vars(bucket), "coalitions": tuple(name for name, is_member in coalitions.items() if is_member(bucket))})


def _table(document: dict[str, Any], key: str, place: str) -> dict[str, dict[str, Any]]:
    table = document.get(key, {})
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise BadInput(f"{place}: {key}: not a table of tables")
    return table


def _texts(value: object, place: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise BadInput(f"{place}: not a list of texts")
    return value


def _refuse_unknown(table: dict[str, Any], known: set[str], place: str) -> None:
    if strangers := sorted(set(table) - known):
        raise BadInput(f"{place}: there is no key {strangers[0]}; one of: {', '.join(sorted(known))}")


# ---- listings: every kind becomes a stream of names


def names_in(bucket: Bucket, listing: str) -> Iterator[str]:
    """Yield the names in a listing, whatever its kind. Raises `BadInput` if it cannot be read to its end."""
    if listing.startswith("s3://"):
        yield from _list_s3(bucket, listing)
    elif os.path.isdir(listing):
        yield from _list_directory(listing)
    else:
        try:
            with _open_text(listing) as text:
                yield from _read_listing(text, listing)
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
            raise BadInput(f"{listing}: cannot be read to its end: {error or type(error).__name__}") from error


def _open_text(path: str) -> TextIO:
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    if path.endswith((".orc", ".parquet")):
        raise BadInput(f"{path}: this kind of inventory cannot be read; let the provider write CSV")
    return open(path, encoding="utf-8", newline="")


def _read_listing(text: TextIO, listing: str) -> Iterator[str]:
    buffered = _Lookahead(text)
    start = buffered.peek().lstrip("\ufeff").lstrip()
    if start.startswith(("{", "[")):
        return _read_json(buffered, listing)
    if ".csv" in os.path.basename(listing).lower():
        return _read_csv(buffered.lines(), listing)
    return _read_lines(buffered.lines())


class _Lookahead:
    """A text whose beginning can be looked at."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._ahead = ""

    def peek(self) -> str:
        self._ahead = self._ahead or self._text.read(CHUNK)
        return self._ahead

    def read(self) -> str:
        """Return the next piece, empty at the end."""
        piece, self._ahead = self._ahead or self._text.read(CHUNK), ""
        return piece

    def lines(self) -> Iterator[str]:
        rest = ""
        while piece := self.read():
            *whole, rest = (rest + piece).split("\n")
            yield from whole
        if rest:
            yield rest


def _read_lines(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        name = line.rstrip("\r").lstrip("\ufeff")
        if name:
            listed = LISTED_AS.fullmatch(name)
            yield listed[1] if listed else name


def _read_csv(lines: Iterable[str], listing: str) -> Iterator[str]:
    """Read an inventory: with a header, its column "key" or "name"; without one, AWS's columns bucket, key, ..."""
    rows = csv.reader(lines)
    first = next(rows, None)
    if first is None:
        return
    titles = [title.strip().lower().lstrip("\ufeff") for title in first]
    column = next((titles.index(title) for title in ("key", "name", "object", "blob name") if title in titles), None)
    if column is None:
        column = min(1, len(first) - 1)
        yield unquote_plus(first[column])
    for number, row in enumerate(rows, 2):
        if row:
            if len(row) <= column:
                raise BadInput(f"{listing}: line {number} has no column {column + 1}; is the file whole?")
            yield unquote_plus(row[column])


def _read_json(text: _Lookahead, listing: str) -> Iterator[str]:
    """Read listings in JSON, one document after another, an entry at a time."""
    reader = _JsonReader(text, listing)
    more = False
    while reader.next_character():
        more = False
        if reader.next_character() == "[":
            yield from reader.entries()
            continue
        for key in reader.members():
            if key in {"Contents", "Versions", "items"} and reader.next_character() == "[":
                yield from reader.entries()
            else:
                value = reader.value()
                more |= (key == "IsTruncated" and value is True) or (key in {"NextToken", "nextPageToken"} and bool(value))
    if more:
        raise BadInput(f"{listing}: there is more than this page; list the bucket to its end")


class _JsonReader:
    """Reads JSON from a stream: what is large (an object's entries, an array's) one by one, what is small whole."""

    def __init__(self, text: _Lookahead, listing: str) -> None:
        self._text = text
        self._listing = listing
        self._buffer = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def next_character(self) -> str:
        """Return the next character that is not white space, without taking it; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in " \t\r\n\ufeff":
                    return self._buffer[self._at]
                self._at += 1
            if not self._refill():
                return ""

    def value(self) -> Any:
        """Take one whole value."""
        self.next_character()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
                if end < len(self._buffer) or not self._refill():  # a number might go on
                    self._at = end
                    return value
            except ValueError:
                if len(self._buffer) - self._at > 64 * CHUNK or not self._refill():
                    self._fail()

    def members(self) -> Iterator[str]:
        """Yield each key of an object; whoever is told one takes its value."""
        for _ in self._items("{", "}"):
            key = self.value()
            self._take(":")
            yield key

    def entries(self) -> Iterator[str]:
        """Yield the name in each entry of an array."""
        for _ in self._items("[", "]"):
            entry = self.value()
            if isinstance(entry, dict):
                entry = next((entry[key] for key in ("Key", "name", "Name") if key in entry), None)
            if not isinstance(entry, str):
                raise BadInput(f"{self._listing}: an entry has no name")
            yield entry

    def _items(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        if self.next_character() != closing:
            yield
            while self.next_character() == ",":
                self._take(",")
                yield
        self._take(closing)

    def _take(self, character: str) -> None:
        if self.next_character() != character:
            self._fail()
        self._at += 1

    def _refill(self) -> bool:
        piece = self._text.read()
        self._buffer, self._at = self._buffer[self._at :] + piece, 0
        return bool(piece)

    def _fail(self) -> None:
        raise BadInput(f"{self._listing}: not whole JSON, near {self._buffer[self._at : self._at + 40]!r}")


def _list_directory(root: str) -> Iterator[str]:
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                else:
                    yield name


def _s3(bucket: Bucket, listing: str) -> tuple[Any, str, str]:
    """Return a client, the bucket and the prefix that are named as s3://BUCKET/PREFIX."""
    try:
        import boto3  # only for buckets that are listed directly
    except ImportError:
        raise BadInput(f"{listing}: to list a bucket directly, boto3 is needed: pip install boto3. Or give a listing in a file") from None
    name, _, prefix = listing.removeprefix("s3://").partition("/")
    client = _client(boto3, bucket.endpoint)
    return client, name, f"{prefix.rstrip('/')}/" if prefix else ""


@lru_cache
def _client(boto3: Any, endpoint: str) -> Any:
    return boto3.client("s3", endpoint_url=endpoint or None)


def _list_s3(bucket: Bucket, listing: str) -> Iterator[str]:
    client, name, prefix = _s3(bucket, listing)
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix):
            for entry in page.get("Contents", ()):
                yield entry["Key"].removeprefix(prefix)
    except Exception as error:  # botocore's own classes are not at hand here
        raise BadInput(f"{listing}: cannot be listed: {error}") from error


# ---- names and footers


@dataclass(frozen=True)
class Shard:
    segment: bytes
    index: int
    generation: int
    kind: str


def parse_name(name: str) -> Shard | None:
    """Read a shard's name, behind whatever prefix; None if it is none."""
    parts = name.rsplit("/", 3)
    for count in (2, 3):
        tail = "/".join(parts[-count:])
        if found := (OBJECT_NAME if count == 2 else COPY_NAME).fullmatch(tail):
            kind, segment, index, generation = ("", *found.groups()[1:]) if count == 2 else found.groups()
            return Shard(bytes.fromhex(segment), int(index, 16), int(generation or "0", 16), kind)
    return None


def is_marker(name: str) -> bool:
    """Tell whether a name is that of a marker, which holds no data."""
    return any(MARKER_NAME.fullmatch("/".join(name.rsplit("/", 2)[-count:])) for count in (1, 2))


def parse_footer(tail: bytes) -> tuple[int, Shard] | None:
    """Return k and what the footer says the shard is; None if this is no footer of the format."""
    if len(tail) != TAIL_SIZE:
        return None
    magic, version, code, k, m, segment, index, reserved, *_ = FIXED.unpack_from(tail)
    generation, _ = END.unpack_from(tail, FIXED.size)
    if (magic, version, code, reserved) != (b"SHGT", 1, 1, bytes(3)) or k < 1 or k + m > 32 or index >= k + m:
        return None
    return k, Shard(segment, index, generation, "")


def read_tail(bucket: Bucket, name: str) -> bytes | None:
    """Return the end of a shard; None if the contents of this bucket cannot be read here."""
    for listing in bucket.listings:
        try:
            if listing.startswith("s3://"):
                client, bucket_name, prefix = _s3(bucket, listing)
                answer = client.get_object(Bucket=bucket_name, Key=prefix + name, Range=f"bytes=-{TAIL_SIZE}")
                return bytes(answer["Body"].read())
            if os.path.isdir(listing):
                with open(os.path.join(listing, name), "rb") as file:
                    file.seek(0, io.SEEK_END)
                    file.seek(max(0, file.tell() - TAIL_SIZE))
                    return file.read()
        except Exception:  # no right to read, or gone meanwhile: counted as unreadable, whatever the reason
            continue
    return None


def has_contents(bucket: Bucket) -> bool:
    return any(listing.startswith("s3://") or os.path.isdir(listing) for listing in bucket.listings)


# ---- counting


@dataclass
class Hand:
    """What one hand holds."""

    kind: str
    name: str
    ruled: bool
    buckets: int
    shards: int = 0
    most: int = 0  # different shards of one segment
    most_k: int = 0  # of the segment that is nearest to being read
    broken: int = 0


@dataclass
class Report:
    """What was found."""

    statement: Statement
    hands: list[Hand] = field(default_factory=list)
    shards: int = 0
    segments: Counter[str] = field(default_factory=Counter)
    markers: int = 0
    others: Counter[str] = field(default_factory=Counter)  # by bucket
    other_examples: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)  # buckets
    schemes: Counter[int] = field(default_factory=Counter)  # k → footers
    k: int = 0  # what a segment is held against whose footer was not read
    stated_k: int | None = None
    read: int = 0
    unreadable: int = 0
    no_footer: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)  # shards that are not what their names say
    disagreeing: int = 0  # segments
    broken_segments: int = 0
    broken_examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def broken(self) -> bool:
        return bool(self.broken_segments or self.renamed)


def verify(statement: Statement, scratch: Path, *, k: int | None, sample: int, ids: str) -> Report:
    """Count. Memory does not grow with the listings: they are sorted on disk. Raises `BadInput`."""
    report = Report(statement, stated_k=k)
    db = sqlite3.connect(scratch, isolation_level=None)
    try:
        db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE; PRAGMA cache_size = -65536;"
            "CREATE TABLE shard (segment BLOB, shard_index INTEGER, bucket INTEGER, name BLOB);"
        )
        sampled = _gather(db, report, sample)
        if not report.shards:
            raise BadInput("no shard is in any listing; are these the right ones, and the right prefixes?")
        _read_sample(report, sampled)
        smallest = [*report.schemes, *([k] if k is not None else [])]
        if not smallest:
            raise BadInput("how many shards give a segment back is not known: give --k, or a directory or s3:// whose contents can be read")
        report.k = min(smallest)
        with open(ids, "w", encoding="utf-8") as file:
            _Count(report, file, may_read=sample > 0).over(db)
    finally:
        db.close()
    return report


def _gather(db: sqlite3.Connection, report: Report, sample: int) -> list[tuple[Bucket, str]]:
    """Write all shards of all listings to the scratch table. Return a random sample of those whose contents can be read."""
    sampled: list[tuple[Bucket, str]] = []
    readable = 0
    dice = random.Random()
    for number, bucket in enumerate(report.statement.buckets):
        prefix = f"{bucket.prefix.strip('/')}/" if bucket.prefix.strip("/") else ""
        before, may_read = report.shards, has_contents(bucket) and sample > 0
        rows: list[tuple[bytes, int, int, bytes]] = []
        for name in (name for listing in bucket.listings for name in names_in(bucket, listing)):
            if prefix and not name.startswith(prefix):
                continue
            shard = parse_name(name)
            if shard is None:
                _note_other(report, bucket, name)
                continue
            report.shards += 1
            rows.append((shard.segment, shard.index, number, os.fsencode(name)))
            if len(rows) >= BATCH:
                _write(db, rows)
            if may_read:
                readable += 1
                if len(sampled) < sample:
                    sampled.append((bucket, name))
                elif (place := dice.randrange(readable)) < sample:
                    sampled[place] = (bucket, name)
        _write(db, rows)
        if report.shards == before:
            report.empty.append(bucket.name)
    return sampled


def _write(db: sqlite3.Connection, rows: list[tuple[bytes, int, int, bytes]]) -> None:
    db.execute("BEGIN")
    db.executemany("INSERT INTO shard VALUES (?, ?, ?, ?)", rows)
    db.execute("COMMIT")
    rows.clear()


def _note_other(report: Report, bucket: Bucket, name: str) -> None:
    if is_marker(name):
        report.markers += 1
    else:
        report.others[bucket.name] += 1
        if len(report.other_examples) < 3:
            report.other_examples.append(f"{bucket.name}: {name!r}")


def _read_sample(report: Report, sampled: Iterable[tuple[Bucket, str]]) -> None:
    for bucket, name in sampled:
        k = _k_of_shard(report, bucket, name)
        if k is not None:
            report.schemes[k] += 1


def _k_of_shard(report: Report, bucket: Bucket, name: str) -> int | None:
    """Return the k in a shard's footer, if it can be read and is that of the shard that the name says."""
    tail, named = read_tail(bucket, name), parse_name(name)
    if tail is None or named is None:
        report.unreadable += 1
        return None
    report.read += 1
    footer = parse_footer(tail)
    if footer is None:
        report.no_footer.append(f"{bucket.name}: {name!r}")
        return None
    k, told = footer
    if (told.segment, told.index, told.generation) != (named.segment, named.index, named.generation):
        report.renamed.append(f"{bucket.name}: {name!r} is shard {told.index} of segment {told.segment.hex()}")
        return None
    return k


Pattern = tuple[tuple[int, int], ...]  # (index, number of the bucket) of each shard of a segment, each once


class _Count:
    """Counts, segment by segment, what each hand holds."""

    def __init__(self, report: Report, ids: TextIO, *, may_read: bool) -> None:
        self._report = report
        self._buckets = report.statement.buckets
        self._ids = ids
        self._may_read = may_read
        owners = Counter(hand for bucket in self._buckets for hand in bucket.hands)
        order = {kind: place for place, kind in enumerate((*UNITS, "coalition"))}
        self._hands = sorted(owners, key=lambda hand: (order[hand[0]], hand[1]))
        report.hands = [Hand(*hand, report.statement.is_ruled(hand), owners[hand]) for hand in self._hands]
        self._held = lru_cache(maxsize=10_000)(self._held_of_pattern)  # the same few patterns come again and again

    def over(self, db: sqlite3.Connection) -> None:
        rows = db.execute("SELECT segment, shard_index, bucket, name FROM shard ORDER BY segment, shard_index, bucket")
        for segment, shards in groupby(rows, key=lambda row: row[0]):
            # By segment alone: its shards count together under whatever names. A second generation adds nothing.
            names: dict[tuple[int, int], str] = {}
            for _, index, bucket, name in shards:
                names.setdefault((index, bucket), os.fsdecode(name))
            self._segment(segment, names)

    def _segment(self, segment: bytes, names: dict[tuple[int, int], str]) -> None:
        named = parse_name(next(iter(names.values())))
        self._report.segments[KINDS[named.kind if named else ""]] += 1
        held = self._held(tuple(names))
        k, is_own = self._report.k, False
        if any(len(indexes) >= k and hand.ruled for hand, indexes in zip(self._report.hands, held, strict=True)):
            k, is_own = self._own_k(names)
        broken = [self._note(hand, indexes, segment, k, is_own=is_own) for hand, indexes in zip(self._report.hands, held, strict=True)]
        if any(broken):
            self._report.broken_segments += 1
            self._ids.write(f"{segment.hex()}\n")

    def _note(self, hand: Hand, indexes: tuple[int, ...], segment: bytes, k: int, *, is_own: bool) -> bool:
        """Note what a hand has of a segment; tell whether that breaks the rule."""
        hand.shards += len(indexes)
        if (len(indexes) - k, len(indexes)) > (hand.most - hand.most_k, hand.most) or not hand.most_k:
            hand.most, hand.most_k = len(indexes), k
        broken = len(indexes) >= k and hand.ruled
        if broken:
            hand.broken += 1
            if len(self._report.broken_examples) < SHOWN:
                facts = {
                    "segment": segment.hex(),
                    "unit": hand.kind,
                    "name": hand.name,
                    "indexes": list(indexes),
                    "k": k,
                    "k_is_read": is_own,
                }
                self._report.broken_examples.append(facts)
        return broken

    def _own_k(self, names: dict[tuple[int, int], str]) -> tuple[int, bool]:
        """Return the smallest k that any footer of a segment tells: one store alone cannot make it look larger."""
        if not self._may_read:
            return self._report.k, False
        readable = [(self._buckets[bucket], name) for (_, bucket), name in names.items() if has_contents(self._buckets[bucket])]
        told = {k for bucket, name in readable if (k := _k_of_shard(self._report, bucket, name)) is not None}
        self._report.disagreeing += len(told) > 1
        return (min(told), True) if told else (self._report.k, False)

    def _held_of_pattern(self, pattern: Pattern) -> tuple[tuple[int, ...], ...]:
        """Return the different indexes in each hand."""
        held: dict[tuple[str, str], set[int]] = {hand: set() for hand in self._hands}
        for index, bucket in pattern:
            for hand in self._buckets[bucket].hands:
                held[hand].add(index)
        return tuple(tuple(sorted(indexes)) for indexes in held.values())


# ---- telling


def as_document(report: Report) -> dict[str, Any]:
    """Return the report for programs."""
    return {
        "holds": not report.broken,
        "k": report.k,
        "k_in_footers": {str(k): count for k, count in sorted(report.schemes.items())},
        "buckets": len(report.statement.buckets),
        "shards": report.shards,
        "segments": dict(report.segments),
        "hands": [vars(hand) for hand in report.hands],
        "broken_segments": report.broken_segments,
        "broken": report.broken_examples,
        "renamed": report.renamed,
        "limits": limits(report),
    }


def as_text(report: Report) -> str:
    """Return the report for people."""
    kinds = ", ".join(f"{count:,} of {kind}" for kind, count in report.segments.items())
    lines = [
        f"{len(report.statement.buckets)} buckets list {report.shards:,} shards of {sum(report.segments.values()):,} segments ({kinds})."
    ]
    lines += [_about_k(report), "", "Most different shards of one segment in the hands of each:", ""]
    table = [("hand", "name", "buckets", "shards", "most", "needed", "")]
    for hand in report.hands:
        verdict = f"BROKEN: {_many(hand.broken, 'segment')}" if hand.broken else "" if hand.ruled else "not in never_together"
        table.append((hand.kind, hand.name, str(hand.buckets), f"{hand.shards:,}", str(hand.most), str(hand.most_k), verdict or "holds"))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines += ["", *_verdict(report), "", "What this does not show:", *(f"- {limit}" for limit in limits(report))]
    return "\n".join(lines)


def _about_k(report: Report) -> str:
    if not report.schemes:
        return f"Any {report.k} shards of a segment give it back: --k says so; no footer was read."
    told = ", ".join(f"{k} ({_many(count, 'footer')})" for k, count in sorted(report.schemes.items()))
    stated = f" --k says {report.stated_k}." if report.stated_k is not None else ""
    return f"Shards that give a segment back: {told}.{stated} Segments whose footer was not read are held against {report.k}."


def _verdict(report: Report) -> list[str]:
    if not report.broken:
        return ["The rule holds: no hand that it is for has enough shards of any segment that is listed."]
    lines = [f"THE RULE IS BROKEN for {_many(report.broken_segments, 'segment')}."] if report.broken_segments else []
    lines += [_broken_line(facts) for facts in report.broken_examples]
    if sum(hand.broken for hand in report.hands) > len(report.broken_examples):
        lines.append("  ... and more: --ids FILE writes the ids of all")
    if report.renamed:
        lines.append(
            f"NAMES CANNOT BE TRUSTED: {len(report.renamed):,} shards are not what their names say, so counting names shows nothing:"
        )
        lines += [f"  {text}" for text in report.renamed[:SHOWN]]
    return lines


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _broken_line(facts: dict[str, Any]) -> str:
    indexes = ", ".join(map(str, facts["indexes"]))
    source = "" if facts["k_is_read"] else ", not read from its footer"
    return f"  {facts['segment']}  {facts['unit']} {facts['name']} has shards {indexes} (k = {facts['k']}{source})"


def limits(report: Report) -> list[str]:
    """Return what was not looked at, and what listings cannot show."""
    told = []
    if report.empty:
        told.append(f"No shard is in the listing of {', '.join(report.empty)}. If that is a mistake, the result means nothing.")
    if report.others:
        places = ", ".join(f"{count:,} in {name}" for name, count in report.others.items())
        told.append(
            f"Objects that are not named like shards, so nobody knows what they are: {places}. Such as {'; '.join(report.other_examples)}."
        )
    for unit in ("region", "jurisdiction"):
        unstated = ", ".join(bucket.name for bucket in report.statement.buckets if not bucket.unit(unit))
        told += [f"No {unit} is stated for {unstated}: they are not counted there."] if unstated else []
    if report.disagreeing:
        told.append(f"Footers of one segment disagree about k for {_many(report.disagreeing, 'segment')}; the smallest was taken.")
    if report.no_footer:
        told.append(f"{len(report.no_footer):,} shards do not end with a footer of the format, such as {report.no_footer[0]}.")
    if report.unreadable:
        told.append(f"{report.unreadable:,} footers could not be read.")
    return [
        *told,
        "Buckets that are not in the statement, older versions and copies that a provider keeps beside what it lists, and shards that were "
        "deleted or moved: whoever held a shard once may have kept it.",
        "Who owns which bucket, and who acts together, is what the statement says.",
        "Footers and listings come from the providers. Without a key nobody can tell whether they are true, and a footer that was not read "
        "may tell another k. A segment with a smaller k than any that was read or stated would not be noticed.",
        "The same data stored several times is several segments. A hand may have different shards of each, and so more of the data, "
        "but never enough shards of one of them.",
    ]


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it is a text file here
    sys.exit(main(sys.argv[1:]))
