"""The engine: what the server asks for, in S3's verbs."""

from __future__ import annotations

from proxy.engine.verbs.buckets import BucketVerbs
from proxy.engine.verbs.deleting import DeletingVerbs
from proxy.engine.verbs.kms import KmsVerbs
from proxy.engine.verbs.listing import ListingVerbs
from proxy.engine.verbs.multipart import UploadVerbs
from proxy.engine.verbs.replicas import ReplicaVerbs


class Engine(BucketVerbs, ReplicaVerbs, UploadVerbs, DeletingVerbs, ListingVerbs, KmsVerbs):
    """All verbs in one place. Who may use them on which bucket was settled before."""
