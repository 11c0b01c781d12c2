"""openapi.yaml by schemathesis: what the document allows is served, what it forbids is refused, every answer looks
as it says. All its checks are on; real sandboxes."""
import json
import os
import pathlib
import subprocess

import pytest

from sandboxd import IMAGE, IMAGE_MUSL, SLOW, Sandbox

SCHEMA = pathlib.Path(__file__).resolve().parents[1] / "schema"
TOOL = pathlib.Path("/var/cache/sandboxed-test/schemathesis/bin/schemathesis") # made by tests/prepare
TOKEN = "schemathesis-schemathesis-1"
EXAMPLES = os.environ.get("SANDBOXED_SCHEMA_EXAMPLES", "12")
SEED = os.environ.get("SANDBOXED_SCHEMA_SEED", "1")


@pytest.mark.drill
@pytest.mark.timeout(900 * SLOW)
def test_schemathesis_finds_nothing(make_daemon, make_sandbox, tmp_path):
    daemon = make_daemon(SANDBOXD_API_AUTH_DISABLED="false", SANDBOXD_API_TOKENS="schema:" + TOKEN,
                         SANDBOXD_SANDBOXES_MAX="12")
    box = make_sandbox(daemon, daemon.client(TOKEN), services=[{"name": "web", "cmd": ["sleep", "1000"]}])
    box.put_file("dir/file", b"content\n")
    process = box.client.post(box.v1 + "/processes", {"cmd": ["cat"], "stdin": True}, expect=201).json()["id"]
    terminal = box.client.post(box.v1 + "/processes", {"cmd": ["cat"], "pty": {"cols": 80, "rows": 24}},
                               expect=201).json()["id"]
    share = box.client.post(box.v1 + "/shares", {}, expect=201).json()["id"]
    ended = box.client.post(box.v1 + "/processes", {"cmd": "echo hello"}, expect=201).json()["id"]
    known = {"sandbox-id": box.id, "process-id": process, "ended-id": ended, "terminal-id": terminal, "service-id": "web",
             "share-id": share, "images": [IMAGE, IMAGE_MUSL]}
    base = f"http://127.0.0.1:{daemon.port}"
    env = dict(os.environ, SCHEMA_BASE=base, SCHEMA_TOKEN=TOKEN, SCHEMA_KNOWN=json.dumps(known),
               SCHEMATHESIS_HOOKS=str(SCHEMA / "hooks.py"), PYTHONDONTWRITEBYTECODE="1")
    run = subprocess.run(
        [TOOL, "--config-file", SCHEMA / "schemathesis.toml", "--no-color", "run", base + "/openapi.yaml",
         "--checks", "all", "--max-examples", EXAMPLES, "--seed", SEED, "--workers", "1"],
        env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 * int(EXAMPLES) * SLOW,
        check=False)
    print(run.stdout)
    assert run.returncode == 0, run.stdout[-20000:]
