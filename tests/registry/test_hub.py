"""Pushing to a Hub that answers from this machine: the one of ``huggingface_hub``, asked over HTTP."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import rlhf
from registry_folders import put

from registry.errors import CannotPush, CorruptArtifact, InvalidName, WrongKind
from registry.hub import push
from registry.store import Registry
from registry.upkeep import export

TOKEN = "hf_not_a_real_token_0123456789"
FILES = {"model.safetensors": "weights", "sub/tok[1].json": "{}", "logs/train.jsonl": "{}", "empty": ""}


class Answers(BaseHTTPRequestHandler):
    """The five calls of an upload. ``server.committed``: path -> content; ``server.asked``: (path, body, token)."""

    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, body, self.headers.get("Authorization")))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            self._answer({"url": f"{self.server.url}/me/it"})
        elif self.path == "/api/validate-yaml":
            self._answer({})
        elif "/preupload/" in self.path:
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.committed[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer({"commitUrl": f"{self.server.url}/me/it/commit/1", "commitOid": "1", "pullRequestUrl": None})

    def do_GET(self) -> None:
        self.server.asked.append((self.path, b"", self.headers.get("Authorization")))
        self._answer({"id": "me/it", "private": self.server.private, "siblings": [], "tags": []})

    def _answer(self, value: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    found: Any = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    found.committed, found.asked, found.private = {}, [], True
    found.url = f"http://127.0.0.1:{found.server_port}"
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def command(registry: Registry, *arguments: str, url: str = "http://127.0.0.1:9", token: str = TOKEN) -> Any:
    home = {"HF_HOME": str(registry.root.parent / "home"), "HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    return rlhf("registry", "push", *arguments, "--registry", registry.root, env={**home, "no_proxy": "*"})


def test_what_export_writes_is_what_the_hub_gets(registry: Registry, server: Any, tmp_path: Path) -> None:
    put(registry, "policy/sft", FILES)
    export(registry, "policy/sft", tmp_path / "plain")
    done = command(registry, "policy/sft", "me/it", "--private", "--json", url=server.url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"artifact": "policy/sft@1", "url": f"{server.url}/me/it"}
    plain = {
        path.relative_to(tmp_path / "plain").as_posix(): path for path in (tmp_path / "plain").rglob("*") if path.is_file()
    }
    assert server.committed == {name: path.read_bytes() for name, path in plain.items()}
    assert set(server.committed) == {"model.safetensors", "sub/tok[1].json", "empty", "README.md"}
    asked = {path: body for path, body, _ in server.asked}
    assert json.loads(asked["/api/repos/create"])["visibility"] == "private"
    assert json.loads(asked["/api/repos/create"])["type"] == "model" and "/api/models/me/it/commit/main" in asked
    assert TOKEN not in done.stdout + done.stderr
    assert not any(TOKEN.encode() in path.read_bytes() for path in registry.root.rglob("*") if path.is_file())


def test_a_repository_that_is_public_gets_nothing_that_is_private(registry: Registry, server: Any) -> None:
    put(registry, "policy/sft", FILES)
    server.private = False
    done = command(registry, "policy/sft", "me/it", "--private", url=server.url)
    assert done.returncode == 1 and "me/it exists and is public, and --private was asked for" in done.stderr
    assert server.committed == {}
    assert command(registry, "policy/sft", "me/it", url=server.url).returncode == 0 and server.committed


def test_who_is_not_logged_in_is_told_how(registry: Registry, server: Any) -> None:
    put(registry, "policy/sft", FILES)
    done = command(registry, "policy/sft", "me/it", url=server.url, token="")
    assert done.returncode == 2 and done.stdout == "" and server.asked == []
    assert "error: nobody is logged in to the Hugging Face Hub; run `hf auth login`, or set HF_TOKEN" in done.stderr


def test_a_token_that_the_hub_refuses_is_told_without_it(registry: Registry, server: Any) -> None:
    put(registry, "policy/sft", FILES)
    done = command(registry, "policy/sft", "me/it", url=server.url, token="hf_expired_0123456789")
    assert done.returncode == 1 and "error: policy/sft@1 was not pushed to me/it:" in done.stderr and "401" in done.stderr
    assert "hf_expired" not in done.stdout + done.stderr and server.committed == {}


def test_a_hub_that_cannot_be_reached_is_told(registry: Registry) -> None:
    put(registry, "policy/sft", FILES)
    done = command(registry, "policy/sft", "me/it")
    assert done.returncode == 1 and "error: policy/sft@1 was not pushed to me/it: " in done.stderr


class Listening:
    """A Hub that notes what it is asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.told: list[dict[str, Any]] = []
        self.error = error

    def create_repo(self, repo_id: str, **options: Any) -> str:
        self.told.append({"repo_id": repo_id, **options})
        return f"https://example.org/{repo_id}"

    def repo_info(self, repo_id: str, **options: Any) -> Any:
        return SimpleNamespace(private=True)

    def upload_folder(self, **options: Any) -> None:
        if self.error:
            raise self.error
        self.told.append(options)


@pytest.mark.parametrize("kind", ["preferences", "prompts", "dialogues", "samples", "annotations", "reward_model"])
def test_data_becomes_a_dataset(registry: Registry, kind: str) -> None:
    made, hub = put(registry, f"{kind}/it", {"train.parquet": "x", "logs/rejects.jsonl": "{}"}), Listening()
    assert push(registry, f"{kind}/it", "me/data", hub=hub) == (made, "https://example.org/me/data")
    repo_type = "model" if kind == "reward_model" else "dataset"
    created, uploaded = hub.told
    assert created == {"repo_id": "me/data", "repo_type": repo_type, "private": None, "exist_ok": True}
    assert uploaded["repo_type"] == repo_type and uploaded["allow_patterns"] == ["train.parquet", "README.md"]
    assert uploaded["folder_path"] == made.path and made.digest in uploaded["commit_message"]


@pytest.mark.parametrize("kind", ["evaluation", "study", "report"])
def test_measurements_have_no_place_there(registry: Registry, kind: str) -> None:
    put(registry, f"{kind}/it", {"measurements.json": "{}"})
    with pytest.raises(WrongKind, match=f"is of kind {kind}, neither a model nor data.*Kinds that can be pushed: policy"):
        push(registry, f"{kind}/it", "me/it", hub=Listening())


def test_nothing_is_asked_of_the_hub_for_a_damaged_artifact_or_a_bad_name(registry: Registry) -> None:
    made, hub = put(registry, "policy/sft", {"model": "w"}), Listening()
    with pytest.raises(InvalidName, match=r"'me/a/b' cannot be a repository of the Hub: .*Write your-name/repository"):
        push(registry, "policy/sft", "me/a/b", hub=hub)
    (made.path / "model").write_text("x")
    with pytest.raises(CorruptArtifact, match="model: sha256 was"):
        push(registry, "policy/sft", "me/it", hub=hub)
    assert hub.told == []


@pytest.mark.parametrize("error", [ConnectionError("offline"), ValueError("Invalid metadata in README.md.")])
def test_what_goes_wrong_on_the_way_is_told(registry: Registry, error: Exception) -> None:
    put(registry, "policy/sft", {"model": "w"})
    with pytest.raises(CannotPush, match=f"policy/sft@1 was not pushed to me/it: {error}"):
        push(registry, "policy/sft", "me/it", hub=Listening(error))
