"""The bench as it is run: a table for people, the raw results, a picture, and what distant stores are asked for each small object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree.ElementTree import parse

from tests.servers import ROOT


def test_of_distant_stores_a_small_object_costs_less_than_its_shards_and_one_request_to_read(tmp_path: Path) -> None:
    """Sixteen writers at a time. Alone, each object takes six puts, and four requests to be read."""
    results, picture = tmp_path / "results.json", tmp_path / "picture.svg"
    command = [sys.executable, "-m", "bench", "--distant", "--quick", "--workers", "1", "--only", "shardgate", "--workload", "GET 4 KiB"]
    files = ["--json", str(results), "--picture", str(picture), "--folder", str(tmp_path)]
    printed = subprocess.run([*command, *files], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    measures = {f"{one['workload']} {one['size']}": one for one in json.loads(results.read_text())}
    assert all(f"│ {name} " in printed for name in measures)
    assert [one["errors"] for one in measures.values()] == [[], []]
    assert 1 / 16 < measures["PUT 4 KiB"]["requests"] < 4  # 0.5 as a rule, with the journal's: fewer share a pack on a busy machine
    assert 0.9 < measures["GET 4 KiB"]["requests"] < 3  # 1.05 as a rule: what is late is asked for again
    assert parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
