"""Conformance: whether a bucket does what Shardgate needs, found out before anything is trusted to it.

Providers that "speak S3" differ where it is not seen: one answers a range with the whole object, one lists a thousand and ends, one shows a
deleted object for a while. The probes try each promise of the `Store` protocol against the bucket itself, below all of Shardgate's own
deadlines, breakers and retries, and say what differs, what that means, and what can be done.
"""

from proxy.stores.conformance.analysis import analyze
from proxy.stores.conformance.findings import Conformance, Finding, Outcome, Timing
from proxy.stores.conformance.trial import FOLDER

__all__ = ["FOLDER", "Conformance", "Finding", "Outcome", "Timing", "analyze"]
