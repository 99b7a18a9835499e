"""How two artifacts differ: what was asked for (stage, config, inputs, seed), where it was computed, what was measured."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from registry.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Difference:
    """One key, such as ``config.learning_rate``; a side is None where it does not have the key."""

    what: str
    left: Any
    right: Any


def asked_of(manifest: Manifest) -> dict[str, Any]:
    """All that decided an artifact's payload; its fingerprint is the hash of this."""
    return {
        "stage": manifest.stage,
        "revision": manifest.stage_revision,
        "config": manifest.config,
        "inputs": {role: [parent.digest for parent in parents] for role, parents in manifest.parents.items()},
        "seed": manifest.seed,
        "dtype": manifest.dtype,
        "device_type": manifest.device.partition(":")[0],
    }


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """Where two nested mappings differ, in the order of their keys, those of ``left`` first; lists are compared whole."""
    lefts, rights = dict(leaves(left)), dict(leaves(right))
    return [
        Difference(key, lefts.get(key), rights.get(key)) for key in {**lefts, **rights} if lefts.get(key) != rights.get(key)
    ]


def artifact_differences(left: Manifest, right: Manifest) -> list[Difference]:
    """What differs between two artifacts: what was asked, code and libraries, and the metrics."""

    def described(manifest: Manifest) -> dict[str, Any]:
        return {
            **asked_of(manifest),
            "inputs": {role: [parent.reference for parent in parents] for role, parents in manifest.parents.items()},
            "data": {role: [parent.digest[:12] for parent in parents] for role, parents in manifest.parents.items()},
            "git_revision": manifest.git_revision,
            "versions": manifest.versions,
            "digest": manifest.digest,
            "metrics": manifest.metrics,
        }

    return differences(described(left), described(right))


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in nested mappings; ``{"a": {"b": 1}}`` has the leaf ``a.b``."""
    if isinstance(value, Mapping) and (value or not key):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value
