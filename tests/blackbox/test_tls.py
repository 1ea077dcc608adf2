"""TLS: real clients trust the certificate, it is exchanged while the server runs, and nobody who does not speak TLS does harm."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import SSLError
from s3transfer.crt import BotocoreCRTCredentialsWrapper, BotocoreCRTRequestSerializer, CRTTransferManager, create_s3_crt_client

from tests.blackbox.command_line import run_aws
from tests.blackbox.expect import until
from tests.blackbox.raw import read_to_end
from tests.blackbox.signer import UNSIGNED, Signer
from tests.certificates import Authority, Pair
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, serve_command, shardgate

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def first(authority: Authority) -> Pair:
    return authority.sign()


@pytest.fixture(scope="module")
def server(folder: Path, authority: Authority, first: Pair) -> Iterator[Shardgate]:
    first.write(folder / "certificate.pem", folder / "key.pem")
    with shardgate(folder, config=_config(folder), workers=2, ca=authority.path) as running:
        running.client().create_bucket(Bucket="bucket")
        yield running


@pytest.fixture(autouse=True)
def _first_certificate(folder: Path, server: Shardgate, first: Pair) -> Iterator[None]:
    yield
    first.write(folder / "certificate.pem", folder / "key.pem")
    until(lambda: _shown_by_all(server) == {first.der})


def _config(folder: Path, *more: str) -> Path:
    path = folder / "shardgate.toml"
    tls = f'[tls]\ncertificate = "{folder}/certificate.pem"\nkey = "{folder}/key.pem"\n'
    path.write_text("\n".join([(ROOT / "config/bench.toml").read_text(), tls, *more]))
    return path


def test_boto3_writes_and_reads_over_tls(server: Shardgate) -> None:
    data = os.urandom(9 * MIB)
    s3 = server.client()
    s3.put_object(Bucket="bucket", Key="k", Body=data)
    assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == data
    assert s3.get_object(Bucket="bucket", Key="k", Range="bytes=70000-70009")["Body"].read() == data[70000:70010]


def test_presigned_urls_are_https(server: Shardgate, authority: Authority) -> None:
    server.client().put_object(Bucket="bucket", Key="presigned", Body=b"data")
    url = server.client().generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "presigned"})
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS, context=ssl.create_default_context(cafile=authority.path)) as answer:
        assert answer.read() == b"data"


def test_the_common_runtime_client_transfers_in_parts(server: Shardgate, tmp_path: Path) -> None:
    data = os.urandom(20 * MIB)
    (tmp_path / "up").write_bytes(data)
    with _common_runtime(server) as transfers:
        transfers.upload(str(tmp_path / "up"), "bucket", "crt").result()
        transfers.download("bucket", "crt", str(tmp_path / "down")).result()
    assert (tmp_path / "down").read_bytes() == data
    assert server.client().head_object(Bucket="bucket", Key="crt")["ETag"].endswith('-4"')


def _common_runtime(server: Shardgate) -> CRTTransferManager:
    """boto3's own way to it passes on neither endpoint nor certificates; this is the one of aws-cli."""
    session = botocore.session.Session()
    session.set_credentials(server.access_key, server.secret_key)
    provider = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
    client = create_s3_crt_client("us-east-1", crt_credentials_provider=provider, verify=str(server.ca), part_size=5 * MIB)
    serializer = BotocoreCRTRequestSerializer(
        session,
        {"region_name": "us-east-1", "endpoint_url": server.endpoint, "config": Config(s3={"addressing_style": "path"})},
    )
    return CRTTransferManager(client, serializer)


def test_aws_cli_works_with_a_ca_bundle(server: Shardgate, tmp_path: Path) -> None:
    data = os.urandom(9 * MIB)
    (tmp_path / "up").write_bytes(data)
    run_aws(server, "s3", "cp", str(tmp_path / "up"), "s3://bucket/cli")
    run_aws(server, "s3", "cp", "s3://bucket/cli", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == data


def test_a_client_that_does_not_trust_the_certificate_ends_in_one_line_of_the_log(server: Shardgate) -> None:
    untrusting = boto3.client(
        "s3", endpoint_url=server.endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    with pytest.raises(SSLError):
        untrusting.list_buckets()
    until(lambda: "unknown ca" in _log(server))
    assert "Traceback" not in _log(server)


def test_an_exchanged_certificate_is_shown_without_a_restart(server: Shardgate, folder: Path, authority: Authority) -> None:
    with _connected(server) as kept:
        second = authority.sign()
        second.write(folder / "certificate.pem", folder / "key.pem")
        until(lambda: _shown_by_all(server) == {second.der})  # each worker's
        kept.sendall(f"GET /-/health HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        assert kept.recv(12) == b"HTTP/1.1 200"
    server.client().head_bucket(Bucket="bucket")


def test_half_a_renewed_pair_leaves_the_former_in_use(server: Shardgate, folder: Path, authority: Authority, first: Pair) -> None:
    second, looked = authority.sign(), _log(server).count("is not the key of")  # a renewal before may have been seen half done
    (folder / "certificate.pem").write_bytes(second.certificate)
    until(lambda: _log(server).count("is not the key of") >= looked + 2)  # both workers have looked
    assert _shown_by_all(server) == {first.der}
    (folder / "key.pem").write_bytes(second.key)
    until(lambda: _shown_by_all(server) == {second.der})


@pytest.mark.parametrize(("highest", "agreed"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")])
def test_tls_is_spoken_from_version_1_2_on(server: Shardgate, highest: ssl.TLSVersion, agreed: str) -> None:
    with _connected(server, highest=highest) as connection:
        assert connection.version() == agreed
        assert connection.selected_alpn_protocol() == "http/1.1"


def test_older_versions_of_tls_are_refused(server: Shardgate) -> None:
    with pytest.deprecated_call(), pytest.raises(ssl.SSLError), _connected(server, highest=ssl.TLSVersion.TLSv1_1):
        pass


def test_plain_http_to_the_tls_port_is_closed_at_once(server: Shardgate) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_to_end(connection)[:5] != b"HTTP/"
    until(lambda: "the TLS handshake with 127.0.0.1 failed: http request" in _log(server))
    assert "Traceback" not in _log(server)


def test_connections_that_never_shake_hands_take_no_file_from_the_stores(authority: Authority, first: Pair, tmp_path: Path) -> None:
    first.write(tmp_path / "certificate.pem", tmp_path / "key.pem")
    with shardgate(tmp_path, config=_config(tmp_path), ca=authority.path, open_files=(200, 700)) as server, ExitStack() as idle:
        server.client().create_bucket(Bucket="bucket")
        for number in range(1000):
            idle.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS))
            if number % 200 == 199:
                server.client().put_object(Bucket="bucket", Key="k", Body=b"%d" % number)
                assert server.client().get_object(Bucket="bucket", Key="k")["Body"].read() == b"%d" % number
        files = Path(f"/proc/{server.process.pid}/fd")
        assert len(list(files.iterdir())) < 700 - 100
        failed = re.findall(r'shardgate_store_calls_total{outcome="(?!ok)', _metrics(server).decode())
        assert failed == []


def test_connections_that_are_closed_to_make_room_free_their_files_at_once(authority: Authority, first: Pair, tmp_path: Path) -> None:
    first.write(tmp_path / "certificate.pem", tmp_path / "key.pem")
    config = _config(tmp_path, "[limits]\nconnections = 20\n")
    with shardgate(tmp_path, config=config, ca=authority.path) as server, ExitStack() as idle:
        files = Path(f"/proc/{server.process.pid}/fd")
        before = len(list(files.iterdir()))
        for _ in range(100):
            idle.enter_context(_connected(server))  # which never reads a farewell
        until(lambda: len(list(files.iterdir())) <= before + 21)


def test_connections_are_counted_no_more_when_they_have_ended_also_in_their_handshake(
    authority: Authority, first: Pair, tmp_path: Path
) -> None:
    first.write(tmp_path / "certificate.pem", tmp_path / "key.pem")
    with shardgate(tmp_path, config=_config(tmp_path), ca=authority.path) as server:
        with ExitStack() as opened:
            for _ in range(3):
                opened.enter_context(_connected(server))
                opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS))
            until(lambda: b'shardgate_connections{worker="0"} 7.0' in _metrics(server))  # one asks
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            read_to_end(connection)
        until(lambda: b'shardgate_connections{worker="0"} 1.0' in _metrics(server))


def test_a_stop_waits_for_an_upload_over_tls(authority: Authority, first: Pair, tmp_path: Path) -> None:
    first.write(tmp_path / "certificate.pem", tmp_path / "key.pem")
    with shardgate(tmp_path, config=_config(tmp_path), ca=authority.path) as server:
        server.client().create_bucket(Bucket="bucket")
        signed = Signer(server.access_key, server.secret_key, host=f"127.0.0.1:{server.port}").sign(
            "PUT", "/bucket/k", (), {"content-length": str(2 * MIB)}, payload_hash=UNSIGNED
        )
        lines = ["PUT /bucket/k HTTP/1.1", *(f"{name}: {value}" for name, value in signed.headers.items())]
        with _connected(server) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + b"a" * MIB)
            until(lambda: b"shardgate_requests_in_flight 1.0" in _metrics(server))
            server.process.terminate()
            until(lambda: not _listens(server))
            connection.sendall(b"b" * MIB)
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert server.process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda certificate, key: key.chmod(0o644), r"tls\.key: .*key\.pem can be read by others; run: chmod 600"),
        (lambda certificate, key: key.unlink(), r"tls\.key: cannot read .*key\.pem"),
        (lambda certificate, key: certificate.unlink(), r"tls\.certificate: cannot read .*certificate\.pem: No such file"),
        (lambda certificate, key: certificate.write_text("x"), r"tls: .*certificate\.pem and .*key\.pem cannot be used .*must be PEM"),
        (lambda certificate, key: key.write_text("x"), r"tls: .*certificate\.pem and .*key\.pem cannot be used .*must be PEM"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_pair_that_cannot_be_used_is_refused_at_start(
    authority: Authority, tmp_path: Path, spoil: Callable[[Path, Path], object], complaint: str, workers: int
) -> None:
    authority.sign().write(tmp_path / "certificate.pem", tmp_path / "key.pem")
    spoil(tmp_path / "certificate.pem", tmp_path / "key.pem")
    assert re.search(complaint, _refused(tmp_path, workers))


def test_a_key_of_another_certificate_is_refused_at_start(authority: Authority, tmp_path: Path) -> None:
    authority.sign().write(tmp_path / "certificate.pem", tmp_path / "key.pem")
    (tmp_path / "key.pem").write_bytes(authority.sign().key)
    assert re.search(r"tls\.key: .*key\.pem is not the key of .*certificate\.pem; give the pair", _refused(tmp_path))


def test_a_key_with_a_passphrase_is_refused_at_start(authority: Authority, tmp_path: Path) -> None:
    authority.sign(passphrase=b"secret").write(tmp_path / "certificate.pem", tmp_path / "key.pem")
    assert "tls.key: the key has a passphrase" in _refused(tmp_path)


def _refused(folder: Path, workers: int = 1) -> str:
    """Start, and return the one line with which it ends."""
    command = serve_command(_config(folder), folder, workers=workers)
    environ = {**os.environ, "SHARDGATE_DATA": str(folder)}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (folder / "manifest.sqlite").exists()
    return done.stderr


def _connected(server: Shardgate, *, highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=server.ca)
    context.maximum_version = highest
    if highest < ssl.TLSVersion.TLSv1_2:
        context.minimum_version = highest
        context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)
    try:
        return context.wrap_socket(plain, server_hostname="127.0.0.1")
    except BaseException:
        plain.close()
        raise


def _shown_by_all(server: Shardgate) -> set[bytes]:
    """Return the certificates of all workers: of connections that are open at once, each has some."""
    with ExitStack() as opened:
        return {_certificate(opened.enter_context(_connected(server))) for _ in range(8)}


def _shown(server: Shardgate) -> bytes:
    with _connected(server) as connection:
        return _certificate(connection)


def _certificate(connection: ssl.SSLSocket) -> bytes:
    shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def _metrics(server: Shardgate) -> bytes:
    context = ssl.create_default_context(cafile=server.ca)
    with urllib.request.urlopen(f"{server.endpoint}/-/metrics", timeout=PATIENCE_SECONDS, context=context) as answer:
        return answer.read()


def _log(server: Shardgate) -> str:
    return (server.data / "server.log").read_text()


def _listens(server: Shardgate) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return False
    return True
