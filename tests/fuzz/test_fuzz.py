"""A short run of each target, for every day; `make fuzz` takes longer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.inputs import inputs
from tests.fuzz.serving import ServerFuzz
from tests.fuzz.targets import TARGETS
from tests.servers import ROOT, shardgate

EXAMPLES = 150


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_good_is_taken(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_a_client_sends_is_taken_or_refused(name: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(inputs(TARGETS[name]))
    def any_input(data: bytes) -> None:
        TARGETS[name].try_input(data)

    any_input()


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(sorted(TARGETS)), st.binary(max_size=400))
def test_bytes_without_any_sense_are_taken_or_refused(name: str, data: bytes) -> None:
    TARGETS[name].try_input(data)


def test_a_server_takes_or_refuses_whatever_it_is_sent(tmp_path: Path) -> None:
    with shardgate(tmp_path, config=ROOT / "config/bench.toml") as server:
        ServerFuzz(server).round(EXAMPLES)
        log = (tmp_path / "server.log").read_text(errors="replace")
    assert "Traceback" not in log, log[-5000:]
