"""The drill of `make drill`, with fewer objects."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT


@pytest.mark.parametrize("options", [(), ("--labels",), ("--labels", "--alone")], ids=["journal", "labels", "labels, no packs"])
def test_three_hundred_objects_survive_the_loss_of_the_manifest_and_of_a_store(tmp_path: Path, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tests.drill", "--objects", "300", "--directory", str(tmp_path), *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=5 * PATIENCE_SECONDS)
    assert ran.returncode == 0, ran.stderr
    assert "300 objects byte for byte" in ran.stdout
    assert "lost = 0" in ran.stdout
    labelled = re.search(r"recovered 300 versions .* ([0-9]+) from labels", ran.stdout)
    assert labelled is not None, ran.stdout
    assert ("packed    300 objects" in ran.stdout) == ("--alone" not in options)
    if options:
        assert labelled[1] == "300"
