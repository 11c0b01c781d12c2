"""Files of a workspace: one path rule, durable writes, no way out (R1, T-1 to T-5, T-10)."""

import hashlib
import http.client
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse

import pytest

from sandboxd import DATA_PREFIX, PATIENCE, Sandbox, together, until

ODD_BYTES = bytes(range(256)) * 3


@pytest.fixture(scope="module")
def box(_shared):
    box = Sandbox.create(_shared)
    yield box
    box.purge(expect=(204, 404))


@pytest.fixture
def canary():
    """A tree on the host that no request may read or change."""
    root = pathlib.Path(tempfile.mkdtemp(prefix=DATA_PREFIX))
    secret = secrets.token_hex(32)
    (root / "sub").mkdir()
    (root / "secret").write_text(secret)
    (root / "sub" / "deeper").write_text(secret)
    before = tree(root)
    yield root, secret
    after = tree(root)
    shutil.rmtree(root)
    assert after == before


def tree(root):
    """Everything about a tree that a write could change."""
    out = {}
    for path in [root, *root.rglob("*")]:
        st = path.lstat()
        data = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        out[str(path)] = (st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_mtime_ns,
                          st.st_ctime_ns, data)
    return out


def q(path):
    return urllib.parse.quote(path, safe="")


def listing(box, path="", **query):
    query = {"path": path, **query} if path else query
    return box.client.get(f"{box.v1}/files?{urllib.parse.urlencode(query)}")


def names(box, path="", **query):
    return [e["path"] for e in listing(box, path, **query).expect(200).json()["entries"]]


# --- the path rule ---

GOOD_PATHS = [
    ("plain.txt", "workspace/app/plain.txt"), ("./dot.txt", "workspace/app/dot.txt"),
    ("a//b.txt", "workspace/app/a/b.txt"), ("a/../c.txt", "workspace/app/c.txt"),
    ("new/dirs/down/d.txt", "workspace/app/new/dirs/down/d.txt"),
    ("workspace/app/e.txt", "workspace/app/e.txt"),
    ("workspace/other/f.txt", "workspace/other/f.txt"),
    ("/home/sandbox/g.txt", "g.txt"), ("/home/sandbox/.config/h", ".config/h"),
    ("/home//sandbox/./x/../i.txt", "i.txt"),
    ("/home/sandbox/workspace/app/j.txt", "workspace/app/j.txt"),
    ("sp ace & +%2F?#.txt", "workspace/app/sp ace & +%2F?#.txt"),
    ("\u20ac\U0001f600.txt", "workspace/app/\u20ac\U0001f600.txt"),
    ("-rf", "workspace/app/-rf"), ("new\nline\x1b", "workspace/app/new\nline\x1b"),
    ("home/sandbox/k.txt", "workspace/app/home/sandbox/k.txt"),
    ("x" * 255, "workspace/app/" + "x" * 255), ("workspaces/l", "workspace/app/workspaces/l"),
    ("...", "workspace/app/..."), ("~/m", "workspace/app/~/m"),
]


@pytest.mark.quick
@pytest.mark.parametrize("path, place", GOOD_PATHS, ids=[ascii(p)[:40] for p, _ in GOOD_PATHS])
def test_where_a_path_leads(box, path, place):
    """The host's view, the box's view and the API's view of a path are one."""
    content = secrets.token_bytes(20)
    reply = box.put_file(path, content, expect=200).json()
    assert reply["size"] == 20
    host = box.workspace / place
    assert host.read_bytes() == content
    st = host.stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (1000, 1000, 0o644)
    for parent in host.relative_to(box.workspace).parents:
        st = (box.workspace / parent).stat()
        assert (st.st_uid, st.st_gid) == (1000, 1000)
    assert box.get_file(path).body == content
    text = f"json {content.hex()}"
    box.client.put(f"{box.v1}/files", {"path": path, "content": text}, expect=200)
    assert box.get_file(path).text == text
    box.delete_file(path)
    assert not host.exists()
    box.get_file(path, expect=404)
    box.delete_file(path, expect=404)


BAD_PATHS = [
    ("/etc/passwd", "path_escape"), ("../x", "path_escape"), ("../../../x", "path_escape"),
    ("a/../../x", "path_escape"), ("/home/sandbox/../x", "path_escape"),
    ("/home/sandboxx/a", "path_escape"), ("/home/sandbox/../../etc/passwd", "path_escape"),
    ("a/../../../../x", "path_escape"), ("/", "path_escape"), ("/home", "path_escape"),
    ("/home/sandbox/..", "path_escape"), ("workspace/../../x", "path_escape"),
    ("x" * 256, "invalid_request"),
    ("a/" * 200 + "a", "invalid_request"),
]


@pytest.mark.quick
@pytest.mark.parametrize("path, code", BAD_PATHS, ids=[p[:30] for p, _ in BAD_PATHS])
def test_paths_that_lead_nowhere(box, path, code):
    before = sorted(os.listdir(box.workspace))
    for reply in (box.put_file(path, b"x", expect=400), box.get_file(path, expect=400),
                  box.delete_file(path, expect=400), listing(box, path).expect(400),
                  box.client.put(f"{box.v1}/files", {"path": path, "content": "x"}).expect(400)):
        assert reply.code == code, reply
    assert sorted(os.listdir(box.workspace)) == before


@pytest.mark.quick
def test_odd_queries_and_bodies(box):
    for query, body, status in [
        ("", b"", 400), ("?path=", b"x", 400), ("?path=a%00b", b"x", 400), ("?path=%ff", b"x", 400),
        ("?path=%zz", b"x", 400), ("?path=a&path=b", b"x", 400), ("?path=a&nope=1", b"x", 400),
        ("?path=.", b"x", 400), ("?path=..", b"x", 400), ("?path=/home/sandbox", b"x", 400),
        ("?path=workspace", b"x", 400),
        ("", b"{}", 400), ("", b'{"path":"a"}', 400), ("", b'{"content":"a"}', 400),
        ("", b'{"path":1,"content":"a"}', 400), ("", b'{"path":"a","content":1}', 400),
        ("", b'{"path":"a","content":"b","nope":1}', 400),
        ("", b'{"path":"a","content":"b","append":1}', 400),
        ("", b'{"path":"a\\u0000","content":"b"}', 400), ("", b"[]", 400), ("", b"nope", 400),
        ("", json.dumps({"path": "a/" * 3000 + "a", "content": "x"}).encode(), 400),
        ("", json.dumps({"path": "a", "content": "x" * 1500000}).encode(), 413),
    ]:
        reply = box.client.put(f"{box.v1}/files{query}", raw=body)
        assert reply.status == status, (query, body[:60], reply)
        assert reply.code in ("invalid_request", "path_escape", "too_large")
    for query in "", "?path=", "?path=.":
        assert box.client.get(f"{box.v1}/files/content{query}").status == 400, query
    assert box.client.get(f"{box.v1}/files?recursive=perhaps").status == 400
    box.get_file("no/such/file", expect=404)
    assert listing(box, "no/such/dir").status == 404
    assert box.client.delete(f"{box.v1}/files").status == 400
    for keep in "/home/sandbox", "/home/sandbox/workspace", "workspace/app", ".":
        reply = box.client.delete(f"{box.v1}/files?path={q(keep)}&recursive=true")
        assert reply.status == 400, (keep, reply)
        assert (box.workspace / "workspace/app").is_dir()


# --- reading and writing ---


@pytest.mark.quick
def test_content_of_any_kind(box):
    for content in b"", b"\0", ODD_BYTES, b"<script>", b'{"path":"x","content":"y"}', b"\xff\xfe":
        box.put_file("kind", content)
        reply = box.get_file("kind")
        assert reply.body == content and int(reply.headers["Content-Length"]) == len(content)
        assert "html" not in reply.headers["Content-Type"]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert box.exec("wc -c < app/kind")["stdout"].strip() == "2"
    box.exec("printf 'from inside\\n' > app/inside; chmod 600 app/inside")
    assert box.get_file("inside").body == b"from inside\n"
    head = box.client.request("HEAD", f"{box.v1}/files/content?path=inside")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "12")


@pytest.mark.quick
def test_append(box):
    def append(text):
        return box.client.put(f"{box.v1}/files", {"path": "log", "content": text, "append": True},
                              expect=200).json()["size"]

    assert [append("one\n"), append("two\n"), append("")] == [4, 8, 8]
    assert box.get_file("log").body == b"one\ntwo\n"
    together(*[lambda n=n: [append(f"{n:02d}.{i:02d}\n") for i in range(10)] for n in range(8)])
    lines = box.get_file("log").text.splitlines()[2:]
    assert sorted(lines) == sorted(f"{n:02d}.{i:02d}" for n in range(8) for i in range(10))


@pytest.mark.quick
def test_a_replaced_file_keeps_its_mode(box):
    box.exec("echo old > app/script; chmod 755 app/script; ln app/script app/second")
    box.put_file("script", b"#!/bin/sh\necho new\n")
    assert box.exec("app/script")["stdout"] == "new\n"
    assert box.get_file("second").body == b"old\n", "a hard link is another file now"


@pytest.mark.quick
def test_listing(box):
    box.exec("rm -rf app/l && mkdir -p app/l/sub/deep app/l/node_modules/x app/l/.git app/l/dist "
             "app/l/sub/.vite && touch app/l/node_modules/x/y app/l/.git/z app/l/sub/deep/empty "
             "app/l/B app/l/a && echo 12345 > app/l/sub/six && ln -s /etc/passwd app/l/link "
             "&& mkfifo app/l/fifo && echo -n > app/l/'odd \"\n\\'")
    got = listing(box, "l").expect(200).json()
    assert (got["path"], got["recursive"]) == ("l", False)
    flat = {e["path"]: e["type"] for e in got["entries"]}
    # Entries are named so that each name can be asked for.
    assert flat == {"l/B": "file", "l/a": "file", "l/sub": "dir", "l/link": "symlink",
                    "l/fifo": "other", 'l/odd "\n\\': "file"}
    assert [e["path"] for e in got["entries"]] == sorted(flat)
    deep = listing(box, "l", recursive="true").expect(200).json()["entries"]
    by_path = {e["path"]: e for e in deep}
    assert {"l/sub", "l/sub/deep", "l/sub/deep/empty", "l/sub/six"} <= by_path.keys()
    skipped = {"node_modules", ".git", "dist", ".vite"}
    assert not [p for p in by_path if skipped & set(p.split("/"))]
    assert by_path["l/sub/six"]["size"] == 6
    assert names(box, "l/sub/deep") == ["l/sub/deep/empty"]
    box.exec("mkdir app/l/void")
    assert listing(box, "l/void").json()["entries"] == []
    assert "README.txt" in names(box), "without a path: the app directory"
    assert "/home/sandbox/.bashrc" in names(box, "/home/sandbox")
    assert listing(box, "l/a").status in (400, 404), "not a directory"


@pytest.mark.quick
def test_delete(box):
    box.exec("mkdir -p app/d/e && touch app/d/e/f && ln -s /etc app/d/link")
    reply = box.client.delete(f"{box.v1}/files?path=d")
    assert reply.status == 409 and reply.code == "conflict"
    box.delete_file("d/link")
    assert not os.path.lexists(box.workspace / "workspace/app/d/link")
    box.delete_file("d", recursive=True)
    assert "d" not in names(box)


@pytest.mark.quick
def test_files_while_the_sandbox_sleeps(daemon, box):
    box.exec("echo awake > app/state")
    box.stop()
    try:
        assert box.get_file("state").body == b"awake\n"
        box.put_file("asleep", ODD_BYTES)
        assert "asleep" in names(box)
        box.delete_file("state")
        assert box.status == "stopped", "files wake nobody"
    finally:
        box.start()
    assert box.exec("wc -c < app/asleep; ls app/state")["stdout"].strip() == str(len(ODD_BYTES))


@pytest.mark.concurrent
def test_readers_see_the_old_or_the_new(box):
    versions = [bytes([c]) * (1 << 20) for c in b"ab"]
    box.put_file("atomic", versions[0])
    over, seen = False, set()

    def write():
        nonlocal over
        n = 0
        while n < 60 or (len(seen) < 2 and n < 6000): # readers may come late
            Sandbox(box.daemon, box.id).put_file("atomic", versions[n % 2])
            n += 1
        over = True

    def read():
        reader = Sandbox(box.daemon, box.id)
        while not over:
            body = reader.get_file("atomic").body
            assert body in versions, (len(body), set(body))
            seen.add(body[0])

    together(write, read, read, read)
    assert seen == {ord("a"), ord("b")}
    assert not [n for n in os.listdir(box.workspace / "workspace/app") if "put" in n or "tmp" in n]


def test_a_file_that_shrinks_under_a_download(box):
    """Its length was promised: the connection ends, as nothing else tells the client."""
    box.put_file("shrinks", bytes(64 << 20))
    with box.client.stream("GET", f"{box.v1}/files/content?path=shrinks") as s:
        assert s.read(1)
        os.truncate(box.workspace / "workspace/app/shrinks", 2 << 20)
        with pytest.raises(http.client.IncompleteRead):
            s.read()
    box.delete_file("shrinks")


def test_much_data_streams_both_ways_in_flat_memory(daemon, box):
    size = 64 << 20
    block = secrets.token_bytes(1 << 20)
    want = hashlib.sha256(block * 64).hexdigest()
    box.get_file("README.txt")
    before = peak = daemon.rss_kib()

    def blocks():
        nonlocal peak
        for _ in range(64):
            peak = max(peak, daemon.rss_kib())
            yield block

    path = f"{box.v1}/files?path=large"
    for headers in {"Content-Length": str(size)}, {}: # known and chunked
        reply = box.client.put(path, raw=blocks(), headers=headers, expect=200)
        assert reply.json()["size"] == size
        digest = hashlib.sha256()
        if not headers: # half of it from memory, half from the disk
            with open(box.workspace / "workspace/app/large", "rb") as f:
                os.posix_fadvise(f.fileno(), size // 4, size // 2, os.POSIX_FADV_DONTNEED)
        with box.client.stream("GET", f"{box.v1}/files/content?path=large") as s:
            assert int(s.headers["Content-Length"]) == size
            while (data := s.read(1 << 20)):
                digest.update(data)
                peak = max(peak, daemon.rss_kib())
        assert digest.hexdigest() == want
    assert box.exec("sha256sum app/large")["stdout"].split()[0] == want
    box.delete_file("large")
    assert peak - before < daemon.rss_slack(8 << 10), f"{before} -> {peak} KiB"


def test_a_broken_upload_leaves_nothing(daemon, box):
    """F-25: at any point, by a close or a reset, with a stated length or chunks."""
    box.put_file("target", b"old")
    app = box.workspace / "workspace/app"
    before = sorted(os.listdir(app))
    data = b"x" * (1 << 20)
    for share in 0.0, 0.01, 0.5, 0.99:
        for reset in False, True:
            for framing in b"Content-Length: %d\r\n" % len(data), b"Transfer-Encoding: chunked\r\n":
                with socket.create_connection(daemon.address) as s:
                    s.sendall(f"PUT {box.v1}/files?path=target HTTP/1.1\r\nHost: localhost\r\n"
                              .encode() + framing + b"\r\n")
                    part = data[:int(len(data) * share)]
                    if framing.startswith(b"T") and part:
                        part = b"%x\r\n" % len(part) + part + b"\r\n"
                    s.sendall(part)
                    if reset:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    until(lambda: sorted(os.listdir(app)) == before, 5, "no temporary file")
    assert box.get_file("target").body == b"old"
    until(lambda: not daemon_holds(daemon, "deleted"), 5, "no descriptor of a dropped upload")


def daemon_holds(daemon, word, of="workspaces"):
    out = []
    base = f"/proc/{daemon.process.pid}/fd"
    for fd in os.listdir(base):
        try:
            target = os.readlink(f"{base}/{fd}")
        except OSError:
            continue
        if word in target and of in target:
            out.append(target)
    return out


def test_a_download_that_is_dropped_is_let_go(daemon, box):
    box.put_file("large", b"y" * (16 << 20))
    for _ in range(5):
        with box.client.stream("GET", f"{box.v1}/files/content?path=large") as s:
            s.read(1000)
    until(lambda: not daemon_holds(daemon, "large"), 10, "no descriptor of a dropped download")
    box.delete_file("large")


# --- no way out ---


def plant(box, canary_root):
    """Links of every shape, made from inside, that would lead to the canary if followed on the
    host. Returns names of those that stand for a file and for a directory."""
    up = "../" * 40
    root = str(canary_root)
    shapes = {
        "abs": root, "rel": up + root[1:], "root": "/", "proc": "/proc/self/root" + root,
        "cwd": "/proc/self/cwd/" + up + root[1:], "dotdot": "..", "dangling": root + "/new",
        "loop": "loop", "inner": "../real", "fd": "/proc/self/fd/3", "etc": "/etc",
    }
    script = ["rm -rf app/links; mkdir -p app/links app/real; echo inside > app/real/secret"]
    for name, target in shapes.items():
        script.append(f"ln -s '{target}' app/links/{name}")
        script.append(f"ln -s '{target}/secret' app/links/{name}-file")
    script.append(f"ln -s '{root}' app/links/c0")
    script += [f"ln -s c{n} app/links/c{n + 1}" for n in range(39)]
    script.append("ln -s c39/secret app/links/c-file")
    box.exec("\n".join(script))
    return sorted(os.listdir(box.workspace / "workspace/app/links"))


def test_links_lead_nowhere(daemon, box, canary):
    root, secret = canary
    links = plant(box, root)
    deep = str(root).lstrip("/")
    replies = []

    def ask(method, query, **kw):
        reply = box.client.request(method, f"{box.v1}/files{query}", **kw)
        replies.append(reply)
        return reply

    for name in links:
        link = f"links/{name}"
        below = [f"{link}/secret", f"{link}/sub/deeper", f"{link}/{deep}/secret", f"{link}/passwd"]
        for path in [link, *below]:
            for method, query, kw in [
                ("GET", f"/content?path={q(path)}", {}),
                ("GET", f"?path={q(path)}", {}), ("GET", f"?path={q(path)}&recursive=true", {}),
                ("PUT", f"?path={q(path)}", {"raw": b"evil"}),
                ("PUT", "", {"json": {"path": path, "content": "evil"}}),
                ("PUT", "", {"json": {"path": path, "content": "evil", "append": True}}),
            ]:
                reply = ask(method, query, **kw)
                assert 400 <= reply.status < 500, (method, path, reply)
                assert reply.code in ("path_escape", "not_found", "invalid_request", "conflict")
        for path in [*below, f"{link}/new/dirs/x"]:
            for method, query, kw in [("DELETE", f"?path={q(path)}", {}),
                                      ("DELETE", f"?path={q(path)}&recursive=true", {}),
                                      ("PUT", f"?path={q(path)}", {"raw": b"evil"})]:
                assert 400 <= ask(method, query, **kw).status < 500, (method, path)
    for query in ("?path=links", "?path=links&recursive=true", "?recursive=true",
                  "?path=/home/sandbox"):
        reply = ask("GET", query).expect(200)
        for entry in reply.json()["entries"]:
            if entry["path"].removeprefix("links/") in links:
                assert entry["type"] == "symlink", entry
    # A link itself may be removed; what it names stays.
    ask("DELETE", "?path=links/abs").expect(204)
    ask("DELETE", "?path=links&recursive=true").expect(204)
    assert not (box.workspace / "workspace/app/links").exists()
    assert (box.workspace / "workspace/app/real/secret").read_text() == "inside\n"
    for reply in replies:
        assert secret not in reply.text and "root:x:0" not in reply.text
    assert secret not in daemon.log()


def test_a_link_in_the_place_of_a_standard_directory(daemon, make_sandbox, canary):
    root, secret = canary
    box = make_sandbox()
    box.exec(f"cd ~ && rm -rf app workspace && ln -s {root} workspace && ls -l")
    for method, query, kw in [
        ("GET", "?path=", {}), ("GET", "", {}), ("GET", "/content?path=secret", {}),
        ("GET", "/content?path=workspace/secret", {}), ("PUT", "?path=x", {"raw": b"evil"}),
        ("PUT", "?path=workspace/x", {"raw": b"evil"}), ("DELETE", "?path=workspace/secret", {}),
    ]:
        reply = box.client.request(method, f"{box.v1}/files{query}", **kw)
        assert 400 <= reply.status < 500 and secret not in reply.text, (method, query, reply)
    reply = daemon.post(f"/sandbox/{box.id}/exec", {"cmd": ["pwd"]})
    assert reply.status in (200, 400), "the missing start directory is said or made, no 500"
    box.stop()
    box.start()
    box.purge()
    assert not box.workspace.exists()


def test_purge_walks_through_no_link_and_no_mount(make_sandbox, canary):
    """T-10. The canary fixture compares the tree afterwards."""
    root, _ = canary
    box = make_sandbox()
    plant(box, root)
    box.exec("mkdir -p app/mnt; chmod 000 app/real")
    box.stop()
    mount = box.workspace / "workspace/app/mnt"
    subprocess.run(["mount", "--bind", str(root), str(mount)], check=True)
    try:
        reply = box.purge(expect=(204, 409, 500, 503))
        assert (root / "secret").exists()
        if reply.status == 204:
            assert not box.workspace.exists()
    finally:
        subprocess.run(["umount", str(mount)], check=False)
    box.purge(expect=(204, 404))
    assert not box.workspace.exists()


def test_files_that_are_no_files(daemon, box):
    """T-5: each is refused at once; no thread or descriptor stays with it."""
    box.exec("rm -rf app/special; mkdir -p app/special; mkfifo app/special/fifo; python3 -c \""
             "import socket; socket.socket(socket.AF_UNIX).bind('app/special/sock')\"; "
             "truncate -s 4E app/special/huge || truncate -s 15T app/special/huge; "
             "mkdir app/special/dir; ln -s /dev/zero app/special/zero")
    for name, minor in ("null", 3), ("endless", 5):
        os.mknod(box.workspace / "workspace/app/special" / name, 0o20666, os.makedev(1, minor))
    fds = daemon.fds()
    for name in "fifo", "sock", "null", "endless", "dir", "zero":
        path = f"special/{name}"
        for call in (lambda p=path: box.client.get(f"{box.v1}/files/content?path={p}"),
                     lambda p=path: box.client.get(f"{box.v1}/files?path={p}/x"),
                     lambda p=path: box.client.put(
                         f"{box.v1}/files", {"path": p, "content": "x", "append": True})):
            began = time.monotonic()
            reply = call()
            assert 400 <= reply.status < 500, (name, reply)
            assert time.monotonic() - began < 1 * PATIENCE
    began = time.monotonic()
    with box.client.stream("GET", f"{box.v1}/files/content?path=special/huge") as s:
        assert s.status in (200, 413)
        s.read(4096)
    reply = box.client.put(f"{box.v1}/files?path=special/fifo", raw=b"x")
    assert reply.status in (200, 400) and time.monotonic() - began < 2 * PATIENCE
    until(lambda: daemon.fds() <= fds, 5, "descriptors back to where they were")
    box.delete_file("special", recursive=True)
    assert not (box.workspace / "workspace/app/special").exists()


SWAPPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.makedirs("race/dir", exist_ok=True)
for name in "secret", "new":
    open("race/dir/" + name, "w").write("inside")
    if not os.path.lexists("race/" + name): os.symlink(sys.argv[1] + "/secret", "race/" + name)
if not os.path.lexists("race/link"): os.symlink(sys.argv[1], "race/link")
print("up", flush=True)
while True:
    libc.renameat2(-100, b"race/dir", -100, b"race/link", 2)
    libc.renameat2(-100, b"race/dir/secret", -100, b"race/secret", 2)
"""


@pytest.mark.concurrent
def test_swapping_directories_and_links_wins_no_race(daemon, box, canary):
    """T-4: directory and link change places all the time while every route is called."""
    root, secret = canary
    calls = [
        ("GET", "/content?path=race/dir/secret", {}), ("GET", "?path=race/dir", {}),
        ("GET", "?path=race&recursive=true", {}),
        ("PUT", "?path=race/dir/new", {"raw": b"evil"}),
        ("PUT", "?path=race/dir/a/b/c", {"raw": b"evil"}),
        ("PUT", "", {"json": {"path": "race/dir/secret", "content": "evil", "append": True}}),
        ("DELETE", "?path=race/dir/new", {}), ("DELETE", "?path=race/dir/a&recursive=true", {}),
    ]
    statuses = {}

    def attack(method, query, kw):
        client = daemon.client()
        end = time.monotonic() + 5
        while time.monotonic() < end:
            reply = client.request(method, f"{box.v1}/files{query}", **kw)
            assert secret.encode() not in reply.body
            assert reply.status < 500, reply
            statuses.setdefault((method, query), set()).add(reply.status)

    with box.exec_stream("python3", "-c", SWAPPER, str(root),
                         cwd="/home/sandbox/workspace/app") as s:
        events = s.sse()
        while next(events)[0] != "stdout":
            pass
        together(*[lambda c=c: attack(*c) for c in calls])
    seen = set().union(*statuses.values())
    assert 200 in seen and seen & {400, 404}, "both sides of the race were met"
    box.exec("rm -rf app/race")
