"""`python -m tests.fuzz.guided TARGET CORPUS OPTIONS`: one target under a coverage-guided fuzzer (atheris, on libFuzzer).

libFuzzer ends the process with an error for what a target raises, for an input that takes longer than `-timeout`, and for memory beyond
`-rss_limit_mb`. It leaves the input in a file.
"""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["proxy.s3", "proxy.server.wire.heads"]):
        targets = importlib.import_module("tests.fuzz.targets")
    target = targets.TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.try_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
