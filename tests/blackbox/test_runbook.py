"""The runbook is carried out, section by section, and prints what it says."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.runbook import NEW_SERVICE, Added, Happens, Typed, blanked, installation, is_printed, sections, steps

SECTIONS = sections()
BODIES = {"small": os.urandom(5000), "medium": os.urandom(300_000), "large": os.urandom(5_000_000), "folder/a b+c%": b"x" * 70_000}


@pytest.mark.timeout(1800)  # a section is some ten commands, a start each, and up to four starts of a server
@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_does_what_it_says_and_loses_nothing(heading: str, tmp_path: Path) -> None:
    if "rclone" in SECTIONS[heading] and shutil.which("rclone", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("rclone is not installed: make bench installs it")
    with installation(tmp_path) as made:
        _fill(made.server.client())
        first = made.server.credentials
        for step in steps(SECTIONS[heading]):
            made.take(step)
        assert made.servers
        used = made.server.credentials if NEW_SERVICE in made.servers else first  # the first ones are shown once, in a file
        client = made.server.client(access_key=used["aws_access_key_id"], secret_key=used["aws_secret_access_key"])
        for key, body in BODIES.items():
            answer = client.get_object(Bucket="hello", Key=key)
            assert (answer["Body"].read(), answer["Metadata"].get("name")) == (body, "value")


def _fill(s3) -> None:
    s3.create_bucket(Bucket="hello")
    for key, body in BODIES.items():
        s3.put_object(Bucket="hello", Key=key, Body=body, Metadata={"name": "value"})


def test_what_happens_is_commanded_in_order() -> None:
    text = "<!-- test: rm x -->\n```toml\na = 1\n```\n1. b\n\n```console\n$ one\nprinted\n$ two \\\n    --more\n```\n"
    assert list(steps(text)) == [Happens("rm x"), Added("a = 1\n"), Typed("one", "printed\n"), Typed("two --more", "")]


def test_numbers_times_and_frames_are_not_compared_and_words_are() -> None:
    documented = "5 shards, 1.5 MiB, 3 hours ago\n┃ a ┃ b ┃\n...\nlast drain-fir-0a1b2c\n"
    assert is_printed(documented, "12 shards,  3 bytes, just now\n┏━━━┓\n┃ a   ┃ b ┃\nanything\nelse\nlast drain-fir-ffffff")
    assert not is_printed(documented, "12 shards, 3 bytes, just now\n┃ a ┃ c ┃\nlast drain-fir-ffffff")
    assert not is_printed(documented, "12 shards, 3 bytes, just now\n┃ a ┃ b ┃\nlast drain-fir-ffffff\nand more")
    assert not is_printed("", "a word")
    assert blanked("  ━━━ \n\n") == []
