"""Clients that know what they must find: each has keys of its own."""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from tests.soak.site import BUCKET, Site

KEYS = 40  # of each client
SIZES = (10, 5_000, 300_000, 3_000_000)
PAUSE_SECONDS = 0.2  # after a failure: whoever is refused at once should not ask a thousand times a second
Digest = str | None  # of a body; None: there is no object


class Client:
    """One client, and what must be found under each of its keys."""

    def __init__(self, site: Site, number: int, until: float) -> None:
        self._site = site
        self._s3 = site.server.client(connect_timeout=5, read_timeout=30)
        self._random = random.Random(number)
        self._until = until
        self._possible: dict[str, set[Digest]] = {f"client-{number}/{key}": {None} for key in range(KEYS)}
        self._broken_off: defaultdict[str, set[Digest]] = defaultdict(set)  # bodies whose upload had no answer
        self._recoveries = 0  # that this client knows of
        self.lost: list[str] = []
        self.stale: list[str] = []
        self.sent_bytes = 0
        self.outcomes: Counter[str] = Counter()

    def run(self) -> None:
        while time.monotonic() < self._until:
            key = self._random.choice(list(self._possible))
            act = self._random.choices((self._put, self._upload, self._copy, self._delete, self.check), (8, 1, 1, 2, 8))[0]
            try:
                act(key)
                self.outcomes["ok"] += 1
            except (BotoCoreError, ClientError) as error:
                self.outcomes[type(error).__name__] += 1
                time.sleep(PAUSE_SECONDS)

    def check_all(self) -> None:
        for key in self._possible:
            self.check(key)

    def check(self, key: str) -> None:
        found = self._read(key)
        self._note_recovery()
        if found not in self._possible[key]:
            (self.lost if found is None else self.stale).append(f"{key}: {found} instead of {self._possible[key]}")

    def _note_recovery(self) -> None:
        """A write that was broken off may take effect when its shards are found: late, like any whose answer got lost."""
        if self._recoveries != self._site.recoveries_amid_trouble:
            self._recoveries = self._site.recoveries_amid_trouble
            for key, bodies in self._broken_off.items():
                self._possible[key] |= bodies

    def _put(self, key: str) -> None:
        body, digest = self._new_body()
        self._write(key, digest, lambda: self._s3.put_object(Bucket=BUCKET, Key=key, Body=body))

    def _upload(self, key: str) -> None:
        body, digest = self._new_body()
        upload = self._s3.create_multipart_upload(Bucket=BUCKET, Key=key)
        named = {"Bucket": BUCKET, "Key": key, "UploadId": upload["UploadId"]}
        part = self._s3.upload_part(**named, PartNumber=1, Body=body)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        self._write(key, digest, lambda: self._s3.complete_multipart_upload(**named, MultipartUpload=parts))

    def _copy(self, key: str) -> None:
        """Copy from a key of which it is known what is there."""
        known = {other: next(iter(bodies)) for other, bodies in self._possible.items() if len(bodies) == 1 and None not in bodies}
        if not known:
            return
        source = self._random.choice(list(known))
        copied = {"Bucket": BUCKET, "Key": key, "CopySource": f"{BUCKET}/{source}", "MetadataDirective": "REPLACE"}
        self._write(key, known[source], lambda: self._s3.copy_object(**copied))

    def _delete(self, key: str) -> None:
        self._possible[key].add(None)
        self._s3.delete_object(Bucket=BUCKET, Key=key)
        self._possible[key] = {None}

    def _write(self, key: str, digest: Digest, call: Callable[[], object]) -> None:
        self._possible[key].add(digest)
        self._broken_off[key].add(digest)
        call()
        self._broken_off[key].discard(digest)
        self._possible[key] = {digest}

    def _new_body(self) -> tuple[bytes, str]:
        body = self._random.randbytes(self._random.choice(SIZES))
        self.sent_bytes += len(body)
        return body, hashlib.sha256(body).hexdigest()

    def _read(self, key: str) -> Digest:
        try:
            return hashlib.sha256(self._s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()).hexdigest()
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            return None
