"""Identifiers as types, so that one kind can't be passed where another is meant."""

from typing import NewType

RequestId = NewType("RequestId", str)
"""What a caller asked once; a UUID in text. Survives retries."""

InvocationId = NewType("InvocationId", int)
"""One attempt to run a request on an instance; from a counter."""

InstanceId = NewType("InstanceId", int)
"""One execution environment; from the pool's counter, never reused within a run."""

VersionId = NewType("VersionId", str)
"""The immutable thing that runs: ``name:qualifier@revision``."""
