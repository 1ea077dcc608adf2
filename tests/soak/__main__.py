"""`python -m tests.soak`: see the package."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fault.machine.audit import Audit
from tests.soak.clients import Client
from tests.soak.site import Site, soaked
from tests.soak.trouble import Trouble

CLIENTS = 12
WHEN = ("before the last recovery", "after it")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Clients amid trouble: nothing may be lost, stale or left.")
    parser.add_argument("--minutes", type=float, default=10.0)
    seconds = parser.parse_args().minutes * 60
    with tempfile.TemporaryDirectory(prefix="shardgate-soak-") as folder, soaked(Path(folder)) as site:
        clients, trouble = soak(site, seconds)
        site.rest()
        site.stop()
        books = [site.count_at_the_stores()]
        recover_once_more(site, clients)
        books.append(site.count_at_the_stores())
        return report(site, clients, trouble, books)


def soak(site: Site, seconds: float) -> tuple[list[Client], Trouble]:
    """Run the clients amid trouble, then check all they wrote."""
    until = time.monotonic() + seconds
    clients = [Client(site, number, until) for number in range(CLIENTS)]
    trouble = Trouble(site, until)
    with ThreadPoolExecutor(CLIENTS) as threads:
        runs = [threads.submit(client.run) for client in clients]
        trouble.run()
        for run in runs:
            run.result()
    site.wait_until_it_serves()
    for client in clients:
        client.check_all()
    return clients, trouble


def recover_once_more(site: Site, clients: Sequence[Client]) -> None:
    """Delete the manifest of servers that have ended, recover it, and check everything again."""
    site.recover()
    site.start()
    for client in clients:
        client.check_all()
    site.stop()


def report(site: Site, clients: Sequence[Client], trouble: Trouble, books: Sequence[Audit]) -> int:
    outcomes = sum((client.outcomes for client in clients), Counter[str]())
    lost = [line for client in clients for line in client.lost]
    stale = [line for client in clients for line in client.stale]
    orphans = [f"{name} in {store}, {when}" for when, audit in zip(WHEN, books, strict=True) for store, name in sorted(audit.orphans)]
    missing = [f"{name} in {store}, {when}" for when, audit in zip(WHEN, books, strict=True) for store, name in sorted(audit.missing)]
    miscounted = [line for audit in books for line in audit.miscounted]
    print(f"operations: {outcomes.total()}, of which {outcomes['ok']} went well; others: {dict(outcomes - Counter(ok=outcomes['ok']))}")
    print(f"faults: {trouble.counts.total()}: {dict(+trouble.counts)}; kills: {trouble.counts['kill']}")
    print(f"work of the servers: {dict(site.work)}")
    print(
        f"bytes written: {sum(client.sent_bytes for client in clients):,}; recoveries of the manifest: {site.recoveries_amid_trouble + 1}"
    )
    print(f"orphans that fsck has found at the end, and had deleted: {len(site.left_to_fsck)}")
    for (store, name), cause in site.left_to_fsck.items():
        print(f"  {name} in {store}: {cause or 'nobody knows why'}")
    print(f"lost = {len(lost)}, stale = {len(stale)}, orphans = {len(orphans)}, missing = {len(missing)}")
    for line in (*lost, *stale, *orphans, *missing, *miscounted):
        print(" ", line)
    unexplained = not all(site.left_to_fsck.values())
    return 1 if lost or stale or orphans or missing or miscounted or unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
