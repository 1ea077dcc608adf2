"""Background jobs: a record each, changed as `proxy.manifest.jobs` says."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from proxy.manifest import jobs
from proxy.manifest.records import Job, JobReport
from proxy.manifest.sqlite.rows import Connection, encode, one

_jobs = msgspec.msgpack.Decoder(Job)


def list_jobs(connection: Connection) -> tuple[Job, ...]:
    return tuple(_jobs.decode(row[0]) for row in connection.execute("SELECT record FROM job ORDER BY name"))


def find_job(connection: Connection, name: str) -> Job:
    return one(connection, "SELECT record FROM job WHERE name = ?", (name,), _jobs) or Job(name=name)


def take_job(connection: Connection, name: str, holder: str, now_ms: int, lease_ms: int) -> Job | None:
    return _kept(connection, jobs.take(find_job(connection, name), holder, now_ms=now_ms, lease_ms=lease_ms))


def extend_job(connection: Connection, name: str, holder: str, now_ms: int, lease_ms: int) -> Job | None:
    return _kept(connection, jobs.extend(find_job(connection, name), holder, now_ms=now_ms, lease_ms=lease_ms))


def finish_job(connection: Connection, name: str, holder: str, report: JobReport, now_ms: int) -> Job | None:
    return _kept(connection, jobs.finish(find_job(connection, name), holder, report, now_ms=now_ms))


def report_job(connection: Connection, name: str, report: JobReport, now_ms: int) -> None:
    _kept(connection, jobs.report_turn(find_job(connection, name), report, now_ms=now_ms))


def give_job_back(connection: Connection, name: str, holder: str) -> None:
    _kept(connection, jobs.give_back(find_job(connection, name), holder))


def make_due(connection: Connection, name: str) -> None:
    """There is work that the job did not know of when it last looked."""
    _kept(connection, replace(find_job(connection, name), due_ms=0))


def pause_job(connection: Connection, name: str, *, paused: bool) -> None:
    _kept(connection, replace(find_job(connection, name), paused=paused))


def _kept(connection: Connection, job: Job | None) -> Job | None:
    if job is not None:
        connection.execute("INSERT OR REPLACE INTO job VALUES (?, ?)", (job.name, encode(job)))
    return job


def load_state(connection: Connection, name: str) -> bytes | None:
    row = connection.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    return None if row is None else bytes(row[0])


def save_state(connection: Connection, name: str, value: bytes | None) -> None:
    if value is None:
        connection.execute("DELETE FROM state WHERE name = ?", (name,))
    else:
        connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))
