"""`python -m tests.fuzz --minutes N`: every target for its share of the time, then a server for as long as one of them.

It fails, and leaves the input, for an error of ours, for an input that takes longer than `HANG_SECONDS`, and for memory that grows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from time import monotonic

from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.inputs import inputs
from tests.fuzz.serving import fuzz_server
from tests.fuzz.targets import MAX_INPUT, TARGETS, Target
from tests.servers import ROOT

HANG_SECONDS = 5  # of an input of 64 KiB; the slowest takes some 50 ms
MEMORY_MIB = 1024
ROUND = 500  # inputs between two looks at the clock


def main() -> int:
    """Return 1 if a target failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--target", choices=[*TARGETS, "server"])
    options = parser.parse_args()
    names = [options.target] if options.target else [*TARGETS, "server"]
    seconds = options.minutes * 60 / len(names)
    results = [_run(name, seconds) for name in names]
    return 0 if all(results) else 1


def _run(name: str, seconds: float) -> bool:
    print(f"{name}: {seconds:.0f} s", flush=True)
    if name == "server":
        return fuzz_server(seconds)
    if find_spec("atheris") is not None:
        return _guided(TARGETS[name], seconds)
    _unguided(TARGETS[name], seconds)
    return True


def _guided(target: Target, seconds: float) -> bool:
    """Let coverage choose the inputs. What was found of interest is not kept: the seeds are enough to find it again."""
    artifacts = ROOT / ".fuzz"
    artifacts.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="shardgate-fuzz-") as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, seed in enumerate(target.seeds):
            (corpus / str(number)).write_bytes(seed)
        words.write_text("".join(map(_entry, target.words)))
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.fuzz.guided",
                target.name,
                str(corpus),
                f"-max_total_time={max(int(seconds), 1)}",
                f"-timeout={HANG_SECONDS}",
                f"-rss_limit_mb={MEMORY_MIB}",
                f"-max_len={MAX_INPUT}",
                f"-dict={words}",
                f"-artifact_prefix={artifacts}/{target.name}-",
                "-print_final_stats=1",
                "-verbosity=0",
            ],
            cwd=ROOT,
            check=False,
        )
    return done.returncode == 0


def _entry(word: bytes) -> str:
    """Return a word's line of libFuzzer's dictionary."""
    return '"' + "".join(rf"\x{byte:02x}" for byte in word) + '"\n'


def _unguided(target: Target, seconds: float) -> None:
    """Make the inputs at random, in rounds."""

    @settings(
        max_examples=ROUND,
        deadline=HANG_SECONDS * 1000,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(target))
    def any_input(data: bytes) -> None:
        target.try_input(data)

    began = monotonic()
    while monotonic() - began < seconds:
        any_input()


if __name__ == "__main__":
    sys.exit(main())
