"""A real server, and requests at random: raw bytes, and whole requests with odd documents, forms and headers.

Each gets an answer that is no failure of ours, or its connection is closed; afterwards the server still serves, and has not grown.
"""

from __future__ import annotations

import re
import socket
import tempfile
from contextlib import closing
from pathlib import Path
from time import monotonic

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.blackbox.signer import Signer, encode_query
from tests.fuzz.inputs import inputs
from tests.fuzz.targets import TARGETS
from tests.servers import ROOT, Shardgate, shardgate

ROUND = 200
GROWTH_MIB = 96  # what a server may take more after its first round: caches fill, memory is fragmented
ANSWER_SECONDS = 60  # longer than any deadline of the server's
BUCKET = "fuzzed"
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_SETTINGS = ("cors", "website", "lifecycle", "policy", "tagging", "acl", "notification", "replication", "encryption", "ownershipControls")
_DOCUMENTS = st.one_of(*(inputs(TARGETS[name]) for name in ("xml", "cors", "website", "lifecycle", "policy")))


def fuzz_server(seconds: float) -> bool:
    """Send requests for a while."""
    with (
        tempfile.TemporaryDirectory(prefix="shardgate-fuzz-") as folder,
        shardgate(Path(folder), config=ROOT / "config/bench.toml") as server,
    ):
        fuzz = ServerFuzz(server)
        fuzz.round()
        began, resident = monotonic(), fuzz.resident_mib()
        while monotonic() - began < seconds:
            fuzz.round()
        grown = fuzz.resident_mib() - resident
        print(f"  {fuzz.sent} requests; the server has {grown:+d} MiB", flush=True)
        return grown < GROWTH_MIB


class ServerFuzz:
    """Sends what nobody should send."""

    def __init__(self, server: Shardgate) -> None:
        self._server = server
        self._signer = Signer(server.access_key, server.secret_key, host=f"127.0.0.1:{server.port}")
        self.sent = 0
        server.client().create_bucket(Bucket=BUCKET)

    def round(self, examples: int = ROUND) -> None:
        """Send some at random. AssertionError for an answer that is a failure of ours, and for a server that serves no more."""

        @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(st.data())
        def any_request(data: st.DataObject) -> None:
            make = data.draw(st.sampled_from((self._raw, self._setting, self._form, self._headers)))
            self._exchange(make(data))

        any_request()
        self._server.client().list_objects_v2(Bucket=BUCKET)

    def resident_mib(self) -> int:
        """Return the memory of the server's process."""
        status = Path(f"/proc/{self._server.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+([0-9]+) kB", status)
        assert found is not None
        return int(found[1]) // 1024

    def _raw(self, data: st.DataObject) -> bytes:
        return data.draw(inputs(TARGETS["head"]))

    def _setting(self, data: st.DataObject) -> bytes:
        query = [(data.draw(st.sampled_from(_SETTINGS)), "")]
        body = data.draw(_DOCUMENTS)[1:]
        signed = self._signer.sign("PUT", f"/{BUCKET}", query, {"x-amz-checksum-algorithm": "CRC32"})
        return self._request("PUT", f"/{BUCKET}?{encode_query(query)}", signed.headers, body)

    def _form(self, data: st.DataObject) -> bytes:
        body = data.draw(inputs(TARGETS["form"]))[1:]
        headers = {"host": self._signer.host, "content-type": data.draw(inputs(TARGETS["boundary"])).decode("latin-1")}
        if data.draw(st.booleans()):
            headers["content-type"] = "multipart/form-data; boundary=b"
        return self._request("POST", f"/{BUCKET}", headers, body)

    def _headers(self, data: st.DataObject) -> bytes:
        lines = data.draw(inputs(TARGETS["request"])).split(b"\n")
        head = [b"GET /" + BUCKET.encode() + b"/k?" + (lines[2] if len(lines) > 2 else b"") + b" HTTP/1.1", b"Host: 127.0.0.1", *lines[3:]]
        return b"\r\n".join(head) + b"\r\n\r\n"

    @staticmethod
    def _request(method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), f"content-length: {len(body)}"]
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body

    def _exchange(self, sent: bytes) -> None:
        """Send, say that there is no more, and read to the end. A hang is a timeout here, or in the server, which closes the connection."""
        self.sent += 1
        received = bytearray()
        with closing(socket.create_connection(("127.0.0.1", self._server.port), timeout=ANSWER_SECONDS)) as connection:
            try:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    received += piece
            except (ConnectionError, OSError) as error:
                assert not isinstance(error, TimeoutError), f"no answer within {ANSWER_SECONDS} s to {sent!r}"
        found = _STATUS.match(received)
        assert found is None or found[1] not in {b"500", b"502"}, (sent, bytes(received[:2000]))
