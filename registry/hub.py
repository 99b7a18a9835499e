"""Upload an artifact to the Hugging Face Hub: what ``export`` writes, in one commit.

huggingface_hub finds the token in the environment or where ``hf auth login`` put it; here it is neither kept nor shown. What
the repository held before, and the artifact has no file for, stays there.
"""

import glob
from pathlib import Path
from typing import Any, Protocol

from registry.artifact import Artifact
from registry.errors import CannotPush, InvalidName, NotLoggedIn, WrongKind
from registry.store import Registry
from registry.upkeep import exported

REPO_TYPES = {
    "policy": "model",
    "reward_model": "model",
    **dict.fromkeys(("preferences", "prompts", "dialogues", "samples", "annotations"), "dataset"),
}


class Hub(Protocol):
    """The calls of ``huggingface_hub.HfApi`` that a push makes."""

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool | None, exist_ok: bool) -> Any:
        """Make a repository, or find it; str() of the result is its address."""

    def repo_info(self, repo_id: str, *, repo_type: str) -> Any:
        """What the Hub knows of a repository, ``private`` among it."""

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, commit_message: str, repo_type: str, allow_patterns: list[str]
    ) -> Any:
        """Commit the files of a folder whose paths match one of the patterns."""


def push(registry: Registry, text: str, repo_id: str, private: bool = False, hub: Hub | None = None) -> tuple[Artifact, str]:
    """Upload the artifact that ``text`` leads to, after its sums were checked; returns it and the repository's address.

    The repository is made where there is none, ``private`` or as the owner's account has it. ``hub`` replaces the Hub in tests.
    Raises WrongKind for artifacts that are neither a model nor data, InvalidName for a ``repo_id`` that the Hub refuses,
    NotLoggedIn, CorruptArtifact, and CannotPush when the Hub cannot be reached or refuses.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError  # slow: only for those who push
    from huggingface_hub.utils import validate_repo_id

    kind = registry.follow(text).kind
    if kind not in REPO_TYPES:
        raise WrongKind(
            f"{text} is of kind {kind}, neither a model nor data, and the Hub has no place for it; rlhf registry export writes "
            f"it to a folder. Kinds that can be pushed: {', '.join(REPO_TYPES)}"
        )
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InvalidName(f"{repo_id!r} cannot be a repository of the Hub: {error}. Write your-name/repository") from error
    hub = hub or _logged_in()
    artifact = registry.open(text)
    try:
        return artifact, _upload(hub, artifact, repo_id, private)
    except (HfHubHTTPError, HTTPError, ValueError, ConnectionError) as error:
        raise CannotPush(f"{artifact.reference} was not pushed to {repo_id}: {error}") from error


def _logged_in() -> Hub:
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise NotLoggedIn("nobody is logged in to the Hugging Face Hub; run `hf auth login`, or set HF_TOKEN, and push again")
    return HfApi()


def _upload(hub: Hub, artifact: Artifact, repo_id: str, private: bool) -> str:
    repo_type = REPO_TYPES[artifact.reference.kind]
    url = hub.create_repo(repo_id, repo_type=repo_type, private=private or None, exist_ok=True)
    if private and not hub.repo_info(repo_id, repo_type=repo_type).private:
        raise CannotPush(f"{repo_id} exists and is public, and --private was asked for; push to another, or make it private")
    hub.upload_folder(
        repo_id=repo_id,
        folder_path=artifact.path,
        commit_message=f"{artifact.reference}, digest {artifact.digest}",
        repo_type=repo_type,
        allow_patterns=[glob.escape(path) for path in exported(artifact)],
    )
    return str(url)
