"""Any image works: the agent brings what it needs, and the workspace begins as the image says."""

import os
import stat

import pytest

from sandboxd import IMAGE, IMAGE_BARE, IMAGE_MUSL, PATIENCE, Engine

pytestmark = pytest.mark.quick


def test_musl_root(make_sandbox):
    box = make_sandbox(image=IMAGE_MUSL, env={"MINE": "1"})
    assert box.exec("echo $0; id -u; pwd")["stdout"] == "/bin/sh\n1000\n/home/sandbox/workspace\n"
    got = box.exec("/bin/args", "a b", "", "c")
    lines = got["stdout"].splitlines()
    assert lines[:4] == ["arg /bin/args", "arg a b", "arg ", "arg c"]
    env = {line[4:] for line in lines if line.startswith("env ")}
    assert {"SANDBOXED_TEST_IMAGE=musl", "MINE=1", "HOME=/home/sandbox", "USER=sandbox"} <= env
    assert box.exec("cat", stdin="x" * 100000)["stdout"] == "x" * 100000
    assert box.exec("kill -9 $$")["signal"] == "SIGKILL"
    got = box.exec("sleep 3000 & sleep 3000", timeout_ms=300)
    assert got["timed_out"] is True
    assert "sleep" not in box.exec("ps -o comm")["stdout"]
    assert box.get_file("/home/sandbox/.profile").body == b"seeded by the image\n"


def test_an_image_without_a_shell(make_sandbox):
    box = make_sandbox(image=IMAGE_BARE, env={"MINE": "1"})
    assert box.exec("/bin/hello", "x")["stdout"] == "hello\n"
    assert box.client.post(f"/sandbox/{box.id}/exec", {"cmd": ["hello"]}).expect(
        200).json()["stdout"] == "hello\n", "PATH of the image"
    lines = box.exec("/bin/args", "a b", "", env={"TOO": "2"})["stdout"].splitlines()
    assert lines[:3] == ["arg /bin/args", "arg a b", "arg "]
    env = {line[4:] for line in lines if line.startswith("env ")}
    assert {"SANDBOXED_TEST_IMAGE=bare", "MINE=1", "TOO=2", "HOME=/home/sandbox"} <= env
    assert box.exec("/bin/args", "cat", stdin="through it")["stdout"] == "through it"
    got = box.client.post(f"/sandbox/{box.id}/exec", {"cmd": "echo needs a shell"})
    if got.status == 200:
        assert got.json()["exit_code"] in (126, 127) and "/bin/sh" in got.json()["stderr"]
    else:
        assert got.status == 400 and "/bin/sh" in got.json()["error"]
    got = box.exec("/bin/args", "cat", timeout_ms=int(1000 * PATIENCE))
    assert got["exit_code"] == 0, "no stdin is an empty stdin"
    box.put_file("written", b"data")
    assert box.get_file("written").body == b"data"
    box.stop()
    assert box.exec("/bin/hello", "x")["stdout"] == "hello\n"


def test_an_image_that_is_not_on_the_list(daemon):
    for image in ("debian:bookworm", "sandboxd-test", "sandboxd-test:latest@sha256:" + "0" * 64,
                  "sandboxd-test:Latest", " sandboxd-test:latest", "evil/sandboxd-test:latest",
                  Engine().call("GET", f"/images/{IMAGE}/json").json()["Id"]):
        for path in "/v1/sandboxes", "/sandbox":
            reply = daemon.post(path, {"image": image})
            assert reply.status == 400 and "image" in reply.text, (image, reply)


def test_the_workspace_begins_as_the_images_home(engine, make_sandbox):
    """Compared with what a plain container of the image shows: names, types, modes, owners, links,
    content."""
    box = make_sandbox()
    box.stop()
    look = ("cd /home/sandbox && find . -mindepth 1 -printf '%p %y %m %U %G %l\\n' | sort; "
            "find . -type f -exec sha256sum {} + | sort")
    plain = engine.create(f"sandboxed-test-golden-{box.id.lower()}", {
        "Image": IMAGE, "Cmd": ["sleep", "60"], "HostConfig": {"NetworkMode": "none"}})
    try:
        engine.start(plain)
        code, want = engine.exec(plain, ["sh", "-c", look])
        assert code == 0
    finally:
        engine.remove(plain)
    box.start()
    got = box.exec(look)["stdout"]
    assert got == want.decode()
    assert ".profile f 600 1000 1000" in got and "app l" in got
    root = os.stat(box.workspace)
    assert (root.st_uid, root.st_gid, stat.S_ISDIR(root.st_mode)) == (1000, 1000, True)
