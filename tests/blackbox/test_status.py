"""`shardgate status` beside a server that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.certificates import Authority
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate


def status(server: Shardgate, severity: str) -> tuple[int, dict]:
    """Ask until it is as severe: each source has three seconds, which a busy machine may need for itself."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (asked := _status(server))[1]["verdict"]["severity"] != severity and time.monotonic() < deadline:
        pass
    return asked


def _status(server: Shardgate) -> tuple[int, dict]:
    # The configuration's own address is not where this server listens: the test has chosen a free port.
    config = server.data / "here.toml"
    config.write_text(server.config.read_text().replace('listen = "127.0.0.1:9000"', f'listen = "127.0.0.1:{server.port}"'))
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli.main", "status", "--json", "--config", str(config)],
        cwd=ROOT,
        env={**os.environ, "SHARDGATE_DATA": str(server.data)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_status_beside_a_server_tells_what_the_server_sees(tmp_path: Path) -> None:
    with shardgate(tmp_path, workers=2) as server:
        s3 = server.client()
        s3.create_bucket(Bucket="bucket")
        for number in range(3):
            s3.put_object(Bucket="bucket", Key=str(number), Body=os.urandom(200_000))
        code, report = status(server, "fine")
        assert (code, report["verdict"]["headline"]) == (0, "FINE: all is well"), report["verdict"]
        assert report["facts"]["server"]["answers"]
        stores = {store["name"]: store for store in report["facts"]["stores"]}
        assert all(store["calls"] > 0 and store["errors"] == 0 for store in stores.values())
        assert set(stores["alder"]["condition"]["breakers"].values()) == {"closed"}

        (tmp_path / "stores/alder").rename(tmp_path / "gone")
        code, report = status(server, "attention")
        assert code == 0
        assert [problem["severity"] for problem in report["verdict"]["problems"]] == ["attention"]
        told = report["verdict"]["problems"][0]["what"]
        assert told.startswith("store alder does not answer: ")
        assert told.count("store alder") == 1  # its error does not name it again

        (tmp_path / "stores/birch").rename(tmp_path / "gone-too")
        code, report = status(server, "urgent")
        assert (code, report["verdict"]["severity"]) == (1, "urgent")
        assert "bear no further loss while alder, birch do not answer" in report["verdict"]["problems"][0]["what"]


def test_what_a_process_knows_of_its_stores_is_told_to_this_machine(tmp_path: Path) -> None:
    with shardgate(tmp_path) as server, urllib.request.urlopen(f"{server.endpoint}/-/status") as answer:
        assert answer.headers["Content-Type"] == "application/json"
        live = json.load(answer)
        assert live["process"] == server.process.pid
        assert sorted(live["stores"]) == ["alder", "birch", "cedar", "dogwood", "elm", "fir"]


def test_a_server_that_speaks_tls_is_asked_too(tmp_path: Path, authority: Authority) -> None:
    authority.sign().write(tmp_path / "certificate.pem", tmp_path / "key.pem")
    config = tmp_path / "shardgate.toml"
    tls = f'[tls]\ncertificate = "{tmp_path}/certificate.pem"\nkey = "{tmp_path}/key.pem"\n'
    config.write_text(f"{(ROOT / 'config/bench.toml').read_text()}\n{tls}")
    with shardgate(tmp_path, config=config, ca=authority.path) as server:
        code, report = status(server, "fine")
    assert (code, report["facts"]["server"]["answers"]) == (0, True), report["verdict"]
    assert report["facts"]["server"]["endpoint"].startswith("https://")
