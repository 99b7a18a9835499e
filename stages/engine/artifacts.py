"""What lies in the payload of an artifact, read back as the records that were written."""

from eval.answers import Answer
from preference_data.parquet import read_records
from registry.artifact import Artifact


def answers_of(evaluation: Artifact) -> list[Answer]:
    """What the policy answered, by an evaluation of a policy."""
    return read_records(evaluation.file("answers.parquet"), Answer)


def parent_digests(artifact: Artifact) -> dict[str, list[str]]:
    """The digests of what an artifact was made from, by role: equal where two were made from the same."""
    return {role: [parent.digest for parent in parents] for role, parents in artifact.manifest.parents.items()}
