from __future__ import annotations

import asyncio
import errno
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from bench.ports import free_port
from proxy.cli.context import print_table
from proxy.cli.init import first_start
from proxy.cli.main import main
from proxy.cli.serve import banner
from proxy.cli.supervisor import Supervisor
from proxy.config import Config, TlsConfig, credentials_path, load_config
from proxy.errors import ProxyError
from proxy.services import Services, open_services
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate, start_shardgate, stop, wait_for

LOCAL = ROOT / "config" / "local.toml"


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def data(self):
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("SHARDGATE_DATA", str(tmp_path))
    monkeypatch.setenv("SHARDGATE_CONFIG", str(LOCAL))

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["shardgate", *arguments])
        capsys.readouterr()
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        else:
            code = 0
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(LOCAL, {"SHARDGATE_DATA": str(tmp_path)})


def test_version(run: Run) -> None:
    outcome = run("--version")
    assert (outcome.code, outcome.out) == (0, "shardgate 0.1.0\n")


def test_a_failure_of_the_system_is_told_in_words_without_its_number(run: Run, tmp_path: Path) -> None:
    run("init")
    path = tmp_path / ("x" * 300)
    assert run("manifest", "backup", str(path)) == Outcome(1, "", f"shardgate: {path}: File name too long\n")


def test_a_manifest_that_cannot_be_opened_is_told_without_a_number(run: Run, tmp_path: Path) -> None:
    (tmp_path / "manifest.sqlite").symlink_to("manifest.sqlite")
    outcome = run("init")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert f"cannot open {tmp_path}/manifest.sqlite: Too many levels of symbolic links; it must be a file" in outcome.err


def test_a_manifest_that_is_missed_comes_with_both_remedies(run: Run) -> None:
    outcome = run("jobs")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "for a new installation, run: shardgate init; if it is lost, run: shardgate recover" in outcome.err


def test_the_manifest_is_backed_up_to_a_new_file(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    assert run("manifest", "backup", str(copy)).code == 1
    assert run("init").code == 0
    assert run("manifest", "backup", str(copy)).out == f"{copy}: {copy.stat().st_size:,} bytes, verified\n"
    assert "--force" in run("manifest", "backup", str(copy)).err
    assert run("manifest", "backup", str(copy), "--force").code == 0


def test_init_makes_private_credentials_and_the_second_one_changes_nothing(run: Run, tmp_path: Path) -> None:
    assert run("init").code == 0
    text = (tmp_path / "credentials").read_text()
    assert run("init").code == 0
    assert text.startswith("[default]\naws_access_key_id = SG")
    assert (tmp_path / "credentials").read_text() == text
    assert stat.S_IMODE((tmp_path / "credentials").stat().st_mode) == 0o600
    assert [tenant["name"] for tenant in run("tenant", "list", "--json").data] == ["local"]
    assert text.split()[3] == run("key", "list", "local", "--json").data[0]["access_key"]


@pytest.mark.parametrize("step", ["the tenant", "its key", "the rename"])
def test_a_first_start_that_broke_off_before_a_step_is_finished_by_the_next(config: Config, tmp_path: Path, step: str) -> None:
    async def break_off_and_start_again() -> None:
        async with open_services(config) as services:
            await first_start(services)
            (tmp_path / "credentials").rename(tmp_path / "credentials.pending")
            (tenant,) = await services.manifest.list_tenants()
            if step == "its key":
                for key in await services.manifest.list_access_keys(tenant.id):
                    await services.manifest.remove_access_key(key.id)
            if step == "the tenant":
                await services.manifest.remove_tenant(tenant.id)
            await first_start(services)
            await _credentials_work(services, *credentials())

    def credentials() -> list[str]:
        return (tmp_path / "credentials").read_text().split()[3::3]

    asyncio.run(break_off_and_start_again())
    assert not (tmp_path / "credentials.pending").exists()


def test_a_first_start_that_broke_off_amid_the_rename_is_finished_by_the_next(run: Run, tmp_path: Path) -> None:
    run("init")
    text = (tmp_path / "credentials").read_text()
    os.link(tmp_path / "credentials", tmp_path / "credentials.pending")
    assert run("init").code == 0
    assert (tmp_path / "credentials").read_text() == text
    assert not (tmp_path / "credentials.pending").exists()


@pytest.mark.parametrize("pending", [False, True])
def test_credentials_from_before_are_never_replaced(run: Run, tmp_path: Path, pending: bool) -> None:
    if pending:
        run("init")
        (tmp_path / "credentials").rename(tmp_path / "credentials.pending")
    (tmp_path / "credentials").write_text("of another manifest")
    outcome = run("init")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "put back the manifest that belongs to it, or make it anew with: shardgate recover" in outcome.err
    assert (tmp_path / "credentials").read_text() == "of another manifest"


async def _credentials_work(services: Services, access_key: str, secret_key: str) -> None:
    found = await services.manifest.find_caller(access_key, None)
    assert found.access_key is not None
    assert found.tenant is not None
    assert services.keyring.tenant_cipher(found.tenant).open_secret(found.access_key.sealed_secret) == secret_key
    assert len(await services.manifest.list_access_keys(found.tenant.id)) == 1


def test_a_revoked_first_key_stays_revoked(run: Run) -> None:
    run("init")
    access_key = run("key", "list", "local", "--json").data[0]["access_key"]
    assert run("key", "revoke", access_key).code == 0
    run("init")
    assert run("key", "list", "local", "--json").data == []


def test_a_tenant_lives_its_life(run: Run) -> None:
    run("init")
    given = ["--access-key", "ACCESSKEY", "--secret-key", "secret/secret+", "--display-name", "Al Ice", "--email", "a@example.org"]
    added = run("tenant", "add", "alice", *given, "--canonical-id", "AB" * 32, "--account-id", "012345678901", "--json")
    assert added.data == {"tenant": "alice", "access_key": "ACCESSKEY", "secret_key": "secret/secret+"}
    tenant = run("tenant", "list", "--json").data[0]
    assert (tenant["display_name"], tenant["email"], tenant["canonical_id"]) == ("Al Ice", "a@example.org", "ab" * 32)
    assert tenant["account_id"] == "012345678901"
    assert "012345678901" in run("tenant", "list").out

    assert run("tenant", "disable", "alice").code == 0
    assert run("tenant", "list", "--json").data[0]["enabled"] is False
    assert run("tenant", "enable", "alice").code == 0
    assert run("tenant", "list", "--json").data[0]["enabled"] is True

    another = run("key", "add", "alice", "--json").data["access_key"]
    assert {key["access_key"] for key in run("key", "list", "alice", "--json").data} == {"ACCESSKEY", another}
    assert run("key", "revoke", another).code == 0
    assert [key["access_key"] for key in run("key", "list", "alice", "--json").data] == ["ACCESSKEY"]

    assert run("tenant", "remove", "alice").code == 0
    assert [tenant["name"] for tenant in run("tenant", "list", "--json").data] == ["local"]


def test_secrets_are_shown_once_and_never_listed(run: Run) -> None:
    run("init")
    secret = run("tenant", "add", "alice", "--json").data["secret_key"]
    for listing in (("tenant", "list", "--json"), ("key", "list", "alice", "--json"), ("tenant", "list"), ("key", "list", "alice")):
        assert secret not in run(*listing).out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("tenant", "list", "--config", "/none.toml"), "cannot read the configuration /none.toml"),
        (("tenant", "remove", "nobody"), 'there is no tenant "nobody"'),
        (("tenant", "add", "x", "--canonical-id", "short"), "64 hexadecimal digits"),
        (("tenant", "add", "x", "--account-id", "12345678901"), "12 digits"),
        (("key", "list", "nobody"), 'there is no tenant "nobody"'),
        (("key", "revoke", "NONE"), "no access key NONE"),
        (("object", "explain", "bucket/key"), "s3://BUCKET/KEY"),
        (("object", "explain", "s3://bucket/key"), "no bucket bucket"),
        (("object", "explain", "s3://bucket/\udcff"), "'s3://bucket/\\udcff' is not UTF-8"),
        (("tenant", "add", ""), "a tenant's name must have at least one character"),
        (("tenant", "add", "a b"), "no space"),
        (("tenant", "add", "a", "--display-name", "\x1b"), "a display name must have printable characters only"),
        (("tenant", "add", "a", "--access-key", "ÄÖÜ"), "3 to 128 letters and digits"),
        (("placement", "explain", "--policy", "none"), 'no policy "none"'),
        (("serve", "--listen", "here"), '"here" is not HOST:PORT'),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(run: Run, arguments: tuple[str, ...], complaint: str) -> None:
    run("init")
    outcome = run(*arguments)
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.startswith("shardgate: ")
    assert outcome.err.count("\n") == 1
    assert complaint in outcome.err


@pytest.mark.parametrize(
    "arguments", [("tenant", "list"), ("tenant", "add", "alice"), ("key", "list", "a"), ("object", "explain", "s3://b/k")]
)
def test_a_command_where_nothing_was_started_makes_nothing(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 1
    assert f"{tmp_path}/manifest.sqlite does not exist" in outcome.err
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_operating_system_is_one_line_too(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SHARDGATE_DATA", str(tmp_path / "file"))
    outcome = run("init")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)


def test_a_command_that_needs_little_imports_little() -> None:
    script = "import sys, proxy.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"aiohttp", "boto3", "botocore", "cryptography", "obstore", "prometheus_client", "proxy.services", "uvloop"} & set(loaded)


def test_placement_is_explained(run: Run) -> None:
    report = run("placement", "explain", "--size", "40000000", "--json").data
    assert (report["scheme"], report["segments"], len(report["shards"])) == ("4+2", 3, 6)
    assert 1.5 * 40_000_000 < report["stored_bytes"] < 1.51 * 40_000_000
    assert len({shard["provider"] for shard in report["shards"]}) == 6
    assert [shard["index"] for shard in report["shards"]] == [0, 1, 2, 3, 4, 5]
    assert not any(holding["readable"] for holding in report["holdings"])
    assert "any 2 of 6 providers" in report["survives"]
    assert {holding["unit"] for holding in report["holdings"] if holding["guarded"]} == {"provider", "jurisdiction"}
    text = run("placement", "explain").out
    assert "whoever never_together limits never gets 4 shards, whatever fails" in text
    assert "gives these stores no prices" in text
    assert all(store in text for store in ("alder", "birch", "cedar", "dogwood", "elm", "fir"))


def test_the_placement_of_a_small_object_is_its_part_of_a_pack(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "packs.toml"
    usual = LOCAL.read_text("utf-8").split("[packs]")[0]
    config.write_text(usual + "\n[packs]\nbelow_kib = 128\n")
    report = run("placement", "explain", "--config", str(config), "--size", "4096", "--json").data
    assert report["packed"]
    assert 1.5 * 4096 < report["stored_bytes"] < 1.7 * 4096
    assert "a slot of a pack" in run("placement", "explain", "--config", str(config), "--size", "4096").out
    large = run("placement", "explain", "--config", str(config), "--size", "131072", "--json").data
    assert (large["packed"], large["segments"]) == (False, 1)


def test_an_object_is_explained_or_why_not(run: Run, tmp_path: Path) -> None:
    with shardgate(tmp_path) as server:
        client = server.client()
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="empty", Body=b"")
        client.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
        version = client.put_object(Bucket="bucket", Key="a //[b] +%😀", Body=b"x")["VersionId"]
        marker = client.delete_object(Bucket="bucket", Key="a //[b] +%😀")["VersionId"]
        client.put_object(Bucket="bucket", Key="a //[b] +%😀/", Body=b"y")
    address = "s3://bucket/a //[b] +%😀"
    shards = run("object", "explain", address, "--version-id", version, "--json").data
    assert [(shard["shard"], shard["scheme"], shard["missing"]) for shard in shards] == [(index, "4+2", False) for index in range(6)]
    assert address in run("object", "explain", f"{address}/").out
    assert run("object", "explain", "s3://bucket/empty").out == "s3://bucket/empty is empty: it has no shards\n"
    assert run("object", "explain", "s3://bucket/empty", "--json").data == []
    assert f"{address} is deleted: version {marker} is a delete marker; show an older" in run("object", "explain", address).err
    assert "there is no version none of s3://bucket/x" in run("object", "explain", "s3://bucket/x", "--version-id", "none").err
    assert run("tenant", "remove", "local").err == 'shardgate: tenant "local" still owns buckets: delete them first\n'


def test_stores_are_listed_and_checked_and_no_probe_stays(run: Run, tmp_path: Path) -> None:
    assert len(run("stores", "list", "--json").data) == 6
    outcome = run("stores", "check", "--json")
    assert outcome.code == 0
    for check in outcome.data:
        assert set(check["latencies_ms"]) == {"put", "get", "range", "list", "delete"}
        assert check["error"] == ""
    assert not [path for path in (tmp_path / "stores").rglob("*probe*") if path.is_file()]


def test_a_table_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("s3://b/[bold]x[/bold]", ["key"], [["[red]a[/red]"]])
    out = capsys.readouterr().out
    assert "s3://b/[bold]x[/bold]" in out
    assert "[red]a[/red]" in out


@pytest.mark.parametrize(
    ("host", "endpoint"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("", "127.0.0.1"), ("host", "host")]
)
def test_the_banner_names_an_endpoint_that_can_be_reached(config: Config, host: str, endpoint: str) -> None:
    credentials_path(config).touch()
    assert f"--endpoint-url http://{endpoint}:9000 " in banner(config, host, 9000)


def test_the_banner_says_https_where_there_is_a_certificate(config: Config) -> None:
    credentials_path(config).touch()
    encrypted = msgspec.structs.replace(config, tls=TlsConfig(certificate="c", key="k"))
    assert banner(encrypted, "127.0.0.1", 9000).count("https://127.0.0.1:9000") == 4


def test_the_banner_has_clients_go_the_public_way(config: Config) -> None:
    credentials_path(config).touch()
    text = banner(msgspec.structs.replace(config, public_url="https://s3.example.org"), "127.0.0.1", 9000)
    assert "at  http://127.0.0.1:9000, for clients at https://s3.example.org\n" in text
    assert text.count("--endpoint-url https://s3.example.org ") == 3


def test_the_banner_names_no_credentials_that_are_not_there(config: Config) -> None:
    assert "there are no credentials in" in banner(config, "127.0.0.1", 80)


def test_the_lines_of_the_banner_work_when_pasted_anywhere(tmp_path: Path) -> None:
    data = tmp_path / "a folder's"
    # What another account leaves behind in a shell must not matter.
    foreign = {"AWS_PROFILE": "other", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "eu-west-1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with shardgate(data, workers=2) as server:
        lines = [line for line in _log(server).splitlines() if " s3 " in line and line.startswith("  ")]
        assert len(lines) == 3
        for line in lines:
            done = subprocess.run(
                ["/bin/sh", "-c", line], env={**os.environ, **foreign, "PATH": path}, cwd="/", capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert "world.txt" in done.stdout


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_stops_at_a_signal_with_exit_code_0(tmp_path: Path, workers: int, number: signal.Signals) -> None:
    server = start_shardgate(tmp_path, workers=workers)
    _log(server)
    server.process.send_signal(number)
    assert server.process.wait(PATIENCE_SECONDS) == 0
    assert _log(server).count("stopping, once the requests in flight have their answers") == 1
    assert "Traceback" not in (tmp_path / "server.log").read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_is_one_line_and_exit_code_1(tmp_path: Path, workers: int) -> None:
    with shardgate(tmp_path / "first", workers=2) as server:
        command = [sys.executable, "-m", "proxy.cli.main", "serve", "--config", str(LOCAL), "--listen", f"127.0.0.1:{server.port}"]
        second = subprocess.run(
            [*command, "--workers", str(workers)],
            env={**os.environ, "SHARDGATE_DATA": str(tmp_path / "second")},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
    assert second.returncode == 1
    assert "Address already in use" in second.stderr
    assert second.stderr.count("\n") == 1
    assert not (tmp_path / "second").exists()


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with shardgate(tmp_path, workers=2) as server:
        _log(server)
        before = _children(server.process.pid)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        _until(lambda: len(after := _children(server.process.pid)) == 2 and victim not in after)


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    server = start_shardgate(tmp_path, workers=2)
    try:
        _log(server)
        workers = _children(server.process.pid)
        server.process.kill()
        server.process.wait()
        _until(lambda: not any(_alive(pid) for pid in workers))
    finally:
        stop(server.process)


@pytest.fixture
def marks(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "marks"
    path.touch()
    return path


def test_the_supervisor_stops_while_it_waits_to_start_a_worker_again(marks: Path) -> None:
    # The worker serves a moment and dies. Its second life leaves behind what will signal the supervisor in the back-off before the third.
    file = shlex.quote(str(marks))
    second = f"[ $(wc -l < {file}) -ge 2 ] && (sleep 0.3; kill -TERM $PPID) &"
    ended: list[int] = []
    Supervisor(
        [["/bin/sh", "-c", f"echo x >> {file}; echo ready; sleep 0.3; {second} exit 3"]], ready=lambda: None, ended=ended.append
    ).run()
    assert marks.read_text() == "x\nx\n"
    assert ended == [0, 0]


def test_a_server_serves_although_nobody_can_be_told_of_it(tmp_path: Path) -> None:
    for workers in (1, 2):
        port = free_port()
        command = [sys.executable, "-m", "proxy.cli.main", "serve", "--config", str(LOCAL), "--listen", f"127.0.0.1:{port}"]
        with Path("/dev/full").open("wb") as full:  # as of a log on a disk that is full
            process = subprocess.Popen(
                [*command, "--workers", str(workers)], env={**os.environ, "SHARDGATE_DATA": str(tmp_path)}, stdout=full, stderr=full
            )
        try:
            wait_for(f"http://127.0.0.1:{port}/-/health", process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            stop(process)


def test_the_supervisor_goes_on_although_nobody_can_be_told_that_a_worker_died(marks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shlex.quote(str(marks))
    lives = f"echo ready; case $(wc -l < {file}) in 1) sleep 0.1;; *) kill -TERM $PPID; exec sleep 1000;; esac"
    ended: list[int] = []
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        Supervisor([["/bin/sh", "-c", f"echo x >> {file}; {lives}"]], ready=lambda: None, ended=ended.append).run()
        with suppress(OSError):
            full.close()
    assert marks.read_text() == "x\nx\n"
    assert ended == [0]


def test_the_supervisor_ends_a_worker_that_does_not_come_to_serve_again(marks: Path) -> None:
    # The first life serves, the second hangs, the third ends the test.
    file = shlex.quote(str(marks))
    lives = f"case $(wc -l < {file}) in 1) echo ready; sleep 0.1;; 2) exec sleep 1000;; *) kill -TERM $PPID; exec sleep 1000;; esac"
    ended: list[int] = []
    Supervisor([["/bin/sh", "-c", f"echo x >> {file}; {lives}"]], ready=lambda: None, ended=ended.append, start_seconds=5.0).run()
    assert marks.read_text().startswith("x\nx\nx\n")  # more lives, if a busy machine took longer than that for the third
    assert ended[:2] == [0, 0]


def test_a_worker_that_cannot_be_started_again_is_tried_later_and_the_others_go_on(
    marks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, starts = subprocess.Popen, []

    def popen(*args: object, **options: object) -> subprocess.Popen[bytes]:
        starts.append(args)
        if len(starts) == 3:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return real(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    file = shlex.quote(str(marks))
    steady = "echo ready; trap 'exit 0' TERM; while :; do sleep 0.1; done"
    dying = f"echo x >> {file}; echo ready; if [ $(wc -l < {file}) = 1 ]; then sleep 0.1; else kill -TERM $PPID; exec sleep 1000; fi"
    ended: list[int] = []
    Supervisor([["/bin/sh", "-c", steady], ["/bin/sh", "-c", dying]], ready=lambda: None, ended=ended.append).run()
    assert len(starts) == 4
    assert ended == [1]
    assert "cannot start a worker: Resource temporarily unavailable; starting another in 1 s" in capsys.readouterr().err


class Stuck:
    """Stands for a process that waits in the kernel for a disk: it is killed, and does not end."""

    pid = 4711
    stdin = None
    returncode = None

    def __init__(self, real: subprocess.Popen[bytes]) -> None:
        self.real = real
        self.stdout = real.stdout

    def poll(self) -> None:
        return None

    def send_signal(self, number: signal.Signals) -> None:
        self.real.send_signal(number)

    def wait(self, timeout: float | None = None) -> int:
        if timeout is None:
            pytest.fail("the supervisor would wait for ever")
        raise subprocess.TimeoutExpired("worker", timeout)


def test_the_supervisor_leaves_a_worker_behind_that_cannot_be_ended_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real, started = subprocess.Popen, []

    def popen(*args: object, **options: object) -> object:
        started.append(real(*args, **options))
        return started[0] if len(started) == 1 else Stuck(started[-1])

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr("proxy.cli.supervisor.STOP_SECONDS", 0.5)
    former = signal.getsignal(signal.SIGTERM)
    command = ["/bin/sh", "-c", "echo ready; exec sleep 1000"]
    supervisor = Supervisor([command] * 3, ready=lambda: os.kill(os.getpid(), signal.SIGTERM), ended=lambda _: None, reap_seconds=0.1)
    with pytest.raises(ProxyError, match="these workers were killed and do not end: 4711, 4711; they wait in the kernel"):
        supervisor.run()
    assert started[0].returncode == -signal.SIGTERM, "the others are ended as ever"
    assert signal.getsignal(signal.SIGTERM) == former
    for process in started[1:]:
        process.wait()
        process.stdin.close()


def test_the_supervisor_gives_up_on_workers_that_never_served() -> None:
    with pytest.raises(ProxyError, match="before it could serve"):
        Supervisor([["/bin/sh", "-c", "exit 1"]] * 2, ready=lambda: pytest.fail("not ready"), ended=lambda _: None).run()


def test_run_moto_serves_from_six_moto_servers_and_leaves_no_process(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(7)]
    environ = {f"SHARDGATE_MOTO_PORT_{number}": str(port) for number, port in enumerate(ports[1:], start=1)}
    command = [sys.executable, "-m", "tests.moto_providers", "--listen", f"127.0.0.1:{ports[0]}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, stdout=log, stderr=log)
        try:
            text = _banner_in(tmp_path / "log", process)
            running = _descendants(process.pid)
            credentials = next(Path(line.split("in", 1)[1].strip()) for line in text.splitlines() if line.startswith("credentials"))
            client = Shardgate(process, f"http://127.0.0.1:{ports[0]}", credentials.parent, LOCAL).client()
            client.create_bucket(Bucket="bucket")
            client.put_object(Bucket="bucket", Key="key", Body=b"x" * 300_000)
            assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == b"x" * 300_000
            assert len(running) == 8  # the proxy, and the six with the one that forked them
        finally:
            stop(process)
    assert not any(_alive(pid) for pid in running)
    assert not credentials.parent.exists()


def _log(server: Shardgate) -> str:
    """Return the server's log once its banner is in it."""
    return _banner_in(server.data / "server.log", server.process)


def _banner_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    _until(lambda: " s3 ls " in log.read_text() or process.poll() is not None)
    text = log.read_text()
    assert " s3 ls " in text, text
    return text


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def _descendants(pid: int) -> set[int]:
    children = _children(pid)
    return children.union(*map(_descendants, children))


def _children(pid: int) -> set[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in listing.split()}


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_table_does_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Keys", ["key"], [["k\x1b[2J\x9b\r\nl"]])
    shown = capsys.readouterr().out
    assert r"k\x1b[2J\x9b\r" in shown
    assert not {"\x1b", "\x9b", "\r"} & set(shown)
