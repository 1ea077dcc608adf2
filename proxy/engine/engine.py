"""The engine: what the server asks for, in S3's verbs."""

from __future__ import annotations

from proxy.engine.buckets import BucketVerbs
from proxy.engine.deleting import DeletingVerbs
from proxy.engine.kms import KmsVerbs
from proxy.engine.listing import ListingVerbs
from proxy.engine.multipart import UploadVerbs
from proxy.engine.replicas import ReplicaVerbs


class Engine(BucketVerbs, ReplicaVerbs, UploadVerbs, DeletingVerbs, ListingVerbs, KmsVerbs):
    """All verbs in one place. Who may use them on which bucket was settled before."""
