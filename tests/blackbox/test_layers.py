"""What a request costs each layer is measured by a command: `python -m bench.layers`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.layers import LAYERS, MODULES, REST, WORKLOADS, interrupted_by_own_clock, layer_of
from tests.servers import ROOT


def test_the_cost_of_each_layer_is_told_and_adds_up_to_what_the_process_used(tmp_path: Path) -> None:
    found, again = tmp_path / "found.json", tmp_path / "again.json"
    command = [sys.executable, "-m", "bench.layers", "--seconds", "0.4", "--requests", "64"]
    subprocess.run([*command, "--json", str(found)], check=True, cwd=ROOT, capture_output=True)
    printed = subprocess.run([*command, "--json", str(again), "--before", str(found)], check=True, cwd=ROOT, capture_output=True, text=True)
    measures = json.loads(found.read_text())
    assert list(measures) == list(WORKLOADS)
    for costs in measures.values():
        assert list(costs) == [*LAYERS, "whole"]
        assert 0 < sum(costs[layer] for layer in LAYERS) <= 1.05 * costs["whole"]  # some threads are the libraries' own
    assert measures["PUT"]["manifest"] > 0 < measures["PUT"]["stores"]
    assert f"({measures['PUT']['whole']:,.0f})" in printed.stdout


def test_a_thread_is_interrupted_for_what_it_uses_and_not_for_others() -> None:
    interrupted = list[int]()
    previous = signal.signal(signal.SIGPROF, lambda number, _: interrupted.append(number))
    try:
        with interrupted_by_own_clock(0.02):
            other = threading.Thread(target=_use, args=(0.2,))
            other.start()
            other.join()
            assert interrupted == []
            _use(0.2)
            assert interrupted
    finally:
        signal.signal(signal.SIGPROF, previous)


def _use(seconds: float) -> None:
    """Use the processor for so long."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_the_layers_name_modules_that_there_are() -> None:
    assert [name for name in MODULES if find_spec(name) is None] == []
    assert set(MODULES.values()) == {*LAYERS} - {REST}


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        ("proxy.server.identity.auth", "claim and signature"),
        ("proxy.manifest.sqlite.versions", "manifest"),
        ("proxy.engine.ciphers", "keys and codec"),
        ("proxy.engine.writing.write", "engine"),
        ("asyncio.timeouts", None),
        ("proxy.clock", None),
    ],
)
def test_code_belongs_to_the_layer_of_its_module_or_to_its_caller(module: str, layer: str | None) -> None:
    assert layer_of(module) == layer
