"""What a turn of a background job does to its record: pure, so that every adapter decides alike.

A job has one record, however many processes there are. Whoever takes a turn holds the job until the turn is finished or its lease expires,
and whoever comes after an expiry takes over. Between turns nobody holds it, so the process that ran it last may end at any time.

A clock may be set back. Then times on record lie farther ahead than anybody sets them, and mean nothing: the job would stand still until
the clock has come there again. (Clocks of several machines may differ, if by less than a lease.)
"""

from __future__ import annotations

from msgspec.structs import replace

from proxy.manifest.records import Job, JobReport

NOBODY = ""
LEAST_SECONDS = 1.0  # of a turn: one that did two things in a millisecond does not do 2,000 a second


def take(job: Job, holder: str, *, now_ms: int, lease_ms: int) -> Job | None:
    """Return the job as held, or None if it is paused, not due yet, or held by somebody else."""
    held = job.holder not in {NOBODY, holder} and now_ms < job.expires_ms <= now_ms + 2 * lease_ms
    waits = now_ms < job.due_ms and job.last_run_ms <= now_ms + lease_ms
    if job.paused or held or waits:
        return None
    return replace(job, holder=holder, expires_ms=now_ms + lease_ms)


def extend(job: Job, holder: str, *, now_ms: int, lease_ms: int) -> Job | None:
    """Return the job held for longer, or None if it is somebody else's by now."""
    return replace(job, expires_ms=now_ms + lease_ms) if job.holder == holder else None


def finish(job: Job, holder: str, report: JobReport, *, now_ms: int) -> Job | None:
    """Return the job after a turn, given back; None if it is somebody else's by now, whose turn counts."""
    if job.holder != holder:
        return None
    return report_turn(replace(job, holder=NOBODY, expires_ms=0, due_ms=report.due_ms), report, now_ms=now_ms)


def report_turn(job: Job, report: JobReport, *, now_ms: int) -> Job:
    """Return the job with what a turn did on record."""
    rate = report.done / max(report.seconds, LEAST_SECONDS) if report.done else job.rate
    return replace(
        job,
        done=job.done + report.done,
        remaining=report.remaining,
        requests=job.requests + report.requests,
        size_bytes=job.size_bytes + report.size_bytes,
        rate=round(rate, 1),
        last_run_ms=now_ms,
        last_error=report.error,
        failures=job.failures + 1 if report.failed else 0,
    )


def give_back(job: Job, holder: str) -> Job | None:
    """Return the job as nobody's after a turn that was broken off; None if it is somebody else's by now."""
    return replace(job, holder=NOBODY, expires_ms=0) if job.holder == holder else None


def state(job: Job, *, now_ms: int) -> str:
    """Say in a word what is going on."""
    held = job.holder != NOBODY and job.expires_ms > now_ms
    if job.paused:
        return "pausing" if held else "paused"
    if held:
        return "running"
    if not job.last_run_ms:
        return "new"
    return "failing" if job.failures else "waiting"


def remaining_seconds(job: Job, *, now_ms: int) -> float | None:
    """Return how long a job that works takes for the rest, at the rate of its last turn. None if that is not known, or while it rests: one
    that spreads its work over days has a rate that says nothing of its end."""
    rests = job.due_ms > now_ms or job.paused
    return None if rests or not job.remaining or not job.rate else round(job.remaining / job.rate, 1)
