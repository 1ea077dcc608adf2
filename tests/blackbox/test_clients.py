"""Clients that others wrote: those that take seconds, from `make test-clients`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.clients.scripts import SCRIPTS
from tests.patience import PATIENCE_SECONDS
from tests.servers import Shardgate

QUICK = ("arrow", "boto3", "minio", "obstore", "s3cmd", "s5cmd")  # with what they need among the tools of the tests


@pytest.mark.parametrize("name", QUICK)
def test_a_client_that_nobody_here_wrote_is_content(server: Shardgate, name: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key, "AWS_DEFAULT_REGION": "us-east-1"}
    environ = {word: value for word, value in os.environ.items() if word not in {"PYTHONPATH", "AWS_CA_BUNDLE"}} | keys
    command = [sys.executable, SCRIPTS / f"{name}_client.py", server.endpoint]
    done = subprocess.run(command, cwd=SCRIPTS, env=environ, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("ok   ") >= 3, "a script that checks next to nothing"
