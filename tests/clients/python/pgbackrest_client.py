"""pgBackRest: archive and back up a PostgreSQL, lose it, and restore it.

Needs: boto3 cryptography
Programs: pgbackrest pg_ctl
"""

import asyncio
import datetime
import ipaddress
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import threading
import time

from checking import ACCESS_KEY, HOST, REGION, SECRET_KEY, boto, check, finish, folder, new_bucket, program, same
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

STANZA = "main"
bucket, here = new_bucket(), folder()
data, settings = here / "data", here / "pgbackrest.conf"
# PostgreSQL does not run as root.
account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def certificate() -> ssl.SSLContext:
    """Make a certificate of localhost, which here/ca.pem vouches for."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    today = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(today - datetime.timedelta(1))
    made = made.not_valid_after(today + datetime.timedelta(1)).add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    (here / "ca.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (here / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(here / "ca.pem", here / "key.pem")
    return context


def serve_tls() -> int:
    """Pass what comes by TLS on to the server: pgBackRest speaks to S3 in no other way. Returns the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    address, port = HOST.split(":")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass  # a side that went away takes the other with it
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, onward = await asyncio.open_connection(address, int(port))
        await asyncio.gather(copy(reader, onward), copy(back, writer))

    async def serve() -> None:
        server = await asyncio.start_server(connected, sock=listening, ssl=certificate())
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    return listening.getsockname()[1]


def postgres(*command: object) -> str:
    """Run a program as who owns the database."""
    words = [str(part) for part in command]
    who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    log = here / "log"  # a file: the server that pg_ctl starts would hold a pipe open
    with log.open("wb") as out:
        done = subprocess.run(words, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=here, timeout=300, check=False, **who)
    told = log.read_text("utf-8", errors="replace")
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {told[-1500:]}")
    return told


def pgbackrest(*arguments: object) -> str:
    return postgres(program("pgbackrest"), f"--config={settings}", f"--stanza={STANZA}", *arguments)


def start() -> None:
    postgres(program("pg_ctl"), "--pgdata", data, "--log", here / "postgres.log", "--wait", "start")


def stop(mode: str) -> None:
    postgres(program("pg_ctl"), "--pgdata", data, "--wait", "--mode", mode, "stop")


def sql(text: str) -> str:
    return postgres(program("psql"), "--host", here, "--no-psqlrc", "--tuples-only", "--no-align", "--command", text, "postgres").strip()


def wait_until_replayed() -> None:
    """Return when the server has caught up with its archive; until then it answers with what it has so far."""
    deadline = time.monotonic() + 120
    while sql("select pg_is_in_recovery()") != "f":
        if time.monotonic() > deadline:
            raise TimeoutError("the archive is not replayed after two minutes")
        time.sleep(0.2)


def prepare() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings.write_text(f"""[global]
repo1-type=s3
repo1-path=/backups
repo1-s3-bucket={bucket}
repo1-s3-endpoint=localhost
repo1-storage-port={serve_tls()}
repo1-storage-ca-file={here}/ca.pem
repo1-s3-region={REGION}
repo1-s3-key={ACCESS_KEY}
repo1-s3-key-secret={SECRET_KEY}
repo1-s3-uri-style=path
repo1-bundle=y
repo1-retention-full=1
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=correct-horse
start-fast=y
process-max=2
log-path={here}
spool-path={here}
lock-path={here}/lock
log-level-file=off

[{STANZA}]
pg1-path={data}
pg1-socket-path={here}
pg1-port={port}
pg1-user={account.pw_name}
""")
    shutil.chown(here, account.pw_uid, account.pw_gid)
    postgres(program("initdb"), "--pgdata", data, "--auth", "trust", "--username", account.pw_name, "--no-sync")
    push = f"{program('pgbackrest')} --config={settings} --stanza={STANZA} archive-push %p"
    with (data / "postgresql.conf").open("a") as config:
        config.write(f"\nport = {port}\nlisten_addresses = ''\nunix_socket_directories = '{here}'\n")
        config.write(f"archive_mode = on\narchive_command = '{push}'\nfsync = off\n")
    os.environ["PGPORT"] = str(port)
    start()


with check("a database is made"):
    prepare()

try:
    with check("stanza-create and check"):
        pgbackrest("stanza-create")
        pgbackrest("check")

    with check("a full backup, and one of what changed since"):
        sql("create table numbers as select n, md5(n::text) from generate_series(1, 200000) n")
        pgbackrest("--type=full", "backup")
        sql("insert into numbers select n, md5(n::text) from generate_series(200001, 210000) n")
        pgbackrest("--type=incr", "backup")
        sql("insert into numbers select n, md5(n::text) from generate_series(210001, 220000) n")
        sql("select pg_switch_wal()")
        pgbackrest("check")
        same("error" in pgbackrest("info"), False)

    with check("restore after everything is lost"):
        before = sql("select count(*), sum(hashtext(md5)) from numbers")
        stop("fast")
        shutil.rmtree(data)
        data.mkdir(mode=0o700)
        shutil.chown(data, account.pw_uid, account.pw_gid)
        pgbackrest("restore")
        start()
        wait_until_replayed()
        same(sql("select count(*), sum(hashtext(md5)) from numbers"), before)

    with check("verify, a second full backup, and the first expires"):
        same("error" in pgbackrest("verify"), False)
        pgbackrest("--type=full", "backup")
        full = sorted(path for path in pgbackrest("info").split() if path.endswith("F"))
        same(len(set(full)), 1)

    with check("nothing is left behind"):
        same("Uploads" in boto().list_multipart_uploads(Bucket=bucket), False)
        stop("immediate")
        pgbackrest("stop")
        pgbackrest("stanza-delete")
        left = [found["Key"] for found in boto().list_objects_v2(Bucket=bucket).get("Contents", [])]
        same(left, [])
finally:
    if (data / "postmaster.pid").exists():
        stop("immediate")

finish()
