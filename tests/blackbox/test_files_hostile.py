"""Workspaces that mean ill: links, devices, very many entries, names that are no text. Every route answers soon (R1)."""
import base64
import io
import json
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import time
import urllib.parse

import archives
from sandboxd import PATIENCE, until
from test_files import canary  # noqa: F401 (a fixture)
from test_files_more import Watch, app, asleep, call, give, post  # noqa: F401 (fixtures among them)

LINKS = {"abs": "{}/secret", "absdir": "{}", "rel": "../../../../../../../../../..{}/secret",
         "reldir": "../../../../../../../../../..{}", "chain": "chained", "dangling": "{}/none", "self": "self",
         "magic": "/proc/self/root"}


def test_every_route_on_every_link(asleep, app, canary):  # noqa: F811
    box = asleep
    root, secret = canary
    give(app, "mine", b"mine")
    os.symlink(str(root), app / "chained")
    for name, target in LINKS.items():
        os.symlink(target.format(root), app / name)
    data = archives.tar([archives.entry("secret", b"evil"), archives.entry("new/x", b"evil")])
    for name in LINKS:
        for path in name, f"{name}/secret", f"{name}/new/file":
            below = path != name
            calls = [
                call(box, "GET", "files/content", path=path),
                call(box, "GET", "files", path=path, depth=3), call(box, "GET", "files/search", path=path, q="a"),
                call(box, "GET", "files/watch", path=path), call(box, "GET", "files/export", path=path),
                call(box, "GET", "export", path=path),
                box.client.post(f"{box.v1}/files/import?path={path}", raw=data),
                box.client.request("PATCH", f"{box.v1}/files?path={path}", raw=b"evil"),
                box.client.put(f"{box.v1}/files?path={path}", raw=b"evil"),
                call(box, "POST", "files/copy", {"from": path, "to": "copied"}),
                call(box, "POST", "files/copy", {"from": "mine", "to": path, "overwrite": True}),
                call(box, "POST", "files/move", {"from": "mine", "to": path, "overwrite": True}),
                call(box, "POST", "files/chmod", {"path": path, "mode": "777"}),
                call(box, "POST", "files/mkdir", {"path": path}) if below else None,
                call(box, "POST", "files/move", {"from": path, "to": "got"}) if below else None,
                call(box, "GET", "files/stat", path=path) if below else None,
                call(box, "DELETE", "files", path=path, recursive="true") if below else None,
            ]
            for n, reply in enumerate(calls):
                assert reply is None or 400 <= reply.status < 500, (path, n, reply)
                assert reply is None or secret not in reply.text
        got = post(box, "batch", {"files": [{"path": f"{name}/x", "content": "evil"}]})
        assert got["failed"] == 1
    assert (app / "mine").read_bytes() == b"mine"
    for query in {"q": secret[:20]}, {"q": "[0-9a-f]{40}", "regex": "true"}:
        assert call(box, "GET", "files/search", **query).json()["matches"] == []
    assert secret.encode() not in call(box, "GET", "files/export", format="tar").body
    post(box, "move", {"from": "abs", "to": "renamed-link"})
    assert os.readlink(app / "renamed-link") == f"{root}/secret"


def test_special_files(daemon, asleep, app):
    box = asleep
    os.mkfifo(app / "fifo")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(app / "sock"))
    os.mknod(app / "dev", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    with open(app / "sparse", "wb") as f:
        f.truncate(1 << 40)
    give(app, "ok", b"findme")
    before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    start = time.monotonic()
    for name in "fifo", "sock", "dev":
        for reply in (call(box, "GET", "files/content", path=name), call(box, "GET", "files/export", path=name),
                      box.client.request("PATCH", f"{box.v1}/files?path={name}", raw=b"x"),
                      call(box, "POST", "files/copy", {"from": name, "to": "c"}),
                      call(box, "POST", "files/chmod", {"path": name, "mode": "600"})):
            assert 400 <= reply.status < 500, (name, reply)
    assert time.monotonic() - start < 2 * PATIENCE
    got = call(box, "GET", "files/search", q="findme", name="[!s]*").json()
    assert [m["path"] for m in got["matches"]] == ["ok"]
    start = time.monotonic()
    assert call(box, "GET", "files/search", q="findme").json()["binary"] == 1, "sparse is not text"
    assert time.monotonic() - start < 2 * PATIENCE
    start = time.monotonic()
    assert call(box, "POST", "files/copy", {"from": "sparse", "to": "s2"}).json()["size"] == 1 << 40
    assert time.monotonic() - start < 2 * PATIENCE and (app / "s2").stat().st_blocks < 64
    sock.close()
    until(lambda: len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= before + 1, 5, "no descriptor is left")


def test_very_many_entries(asleep, app):
    """Empty files of one directory; hard links are the fast way to have them."""
    box = asleep
    (app / "m").mkdir()
    subprocess.run(["python3", "-c", "import os,sys\nos.chdir(sys.argv[1])\n"
                    "for n in range(200000):\n"
                    "  if n % 50000 == 0: base = str(n); open(base, 'w').close()\n"
                    "  else: os.link(base, str(n))", app / "m"], check=True)
    for what, query in [("files", {"limit": 1000}), ("files", {"limit": 10, "depth": 128, "recursive": "true"}),
                        ("files/stat", {}), ("files", {})]:
        start = time.monotonic()
        reply = call(box, "GET", what, path="m", **query).expect(200)
        took = time.monotonic() - start
        print(f"{what} {query}: {took * 1000:.0f} ms, {len(reply.body)} bytes")
        assert took < 5 * PATIENCE, (what, query)
    start = time.monotonic()
    call(box, "GET", "files/search", path="m", name="77777").expect(200)
    assert time.monotonic() - start < 5 * PATIENCE
    # What takes long begins to answer; what would take too long is refused at once.
    for accept in "application/json", "text/event-stream":
        start = time.monotonic()
        with box.client.stream("GET", f"{box.v1}/files/search?path=m&q=x", headers={"Accept": accept}) as s:
            assert s.status == 200 and time.monotonic() - start < 5 * PATIENCE
            body = s.read()
        assert json.loads(body)["files"] == 200000 if "json" in accept else b'"files":200000' in body
    subprocess.run(["python3", "-c", "import os,sys\nos.chdir(sys.argv[1])\nopen('e', 'w').close()\n"
                    "for n in range(60000): os.link('e', f'more{n}')",
                    app / "m"], check=True)
    start = time.monotonic()
    assert call(box, "POST", "files/copy", {"from": "m", "to": "n"}).status == 413
    assert time.monotonic() - start < 5 * PATIENCE
    shutil.rmtree(app / "m")


def test_a_large_tree_is_gone_at_once_and_removed_later(daemon, make_sandbox):
    """The answer does not wait for a million unlinks; what is left is in nobody's way and goes, also over kill -9."""
    box = make_sandbox()
    fill = ("import os,sys\nos.chdir(sys.argv[1])\nfor d in range(int(sys.argv[2])):\n  os.mkdir(str(d)); base = f'{d}/0'\n"
            "  open(base, 'w').close()\n  for n in range(1, 10000): os.link(base, f'{d}/{n}')\n")
    trees = int(os.environ.get("SANDBOXED_TREE_ENTRIES", "200000")) // 10000
    home = box.workspace / "workspace/app"

    def leftovers():
        try:
            return [p for p in box.workspace.parent.glob("*/.put-*")] + list(box.workspace.parent.glob(".gone-*"))
        except FileNotFoundError: # it went just now
            return ["one of them"]

    for n, kill in enumerate((False, True)):
        (home / f"m{n}").mkdir()
        subprocess.run(["python3", "-c", fill, str(home / f"m{n}"), str(trees)], check=True)
        start = time.monotonic()
        box.delete_file(f"m{n}", recursive=True)
        took = time.monotonic() - start
        print(f"DELETE: {took * 1000:.0f} ms")
        assert took < 2 * PATIENCE
        assert not (home / f"m{n}").exists() and box.get_file(f"m{n}/0/0", expect=404)
        names = [e["path"] for e in call(box, "GET", "files", path="/home/sandbox", all="true").json()["entries"]]
        assert not [p for p in names if ".put-" in p]
        if kill:
            daemon.restart(hard=True)
        until(lambda: not leftovers(), 120, "all is removed")
    (home / "m").mkdir()
    subprocess.run(["python3", "-c", fill, str(home / "m"), str(trees)], check=True)
    box.stop()
    start = time.monotonic()
    box.purge()
    took = time.monotonic() - start
    print(f"purge: {took * 1000:.0f} ms")
    assert took < 2 * PATIENCE and not box.workspace.exists()
    daemon.restart(hard=True)
    until(lambda: not leftovers(), 120, "all is removed")


def test_names_that_are_no_text(asleep, app):
    """A name is bytes. It is told as text with its bytes beside it, found by its bytes, and can be given a better one."""
    box = asleep
    raw, inner = b"raw\xff\xfe", b"dir\x80/in\xc3\xa9\x81"
    os.mkdir(os.fsencode(app) + b"/dir\x80")
    for name in raw, inner:
        with open(os.fsencode(app) + b"/" + name, "wb") as f:
            f.write(b"findme")
    escaped = lambda name: urllib.parse.quote(name, safe="")  # noqa: E731
    bytes_of = lambda e, key="path": base64.urlsafe_b64decode(e[key + "_base64"] + "==")  # noqa: E731
    got = call(box, "GET", "files", recursive="true").expect(200).json()["entries"]
    assert sorted(bytes_of(e) for e in got) == sorted([raw, b"dir\x80", inner])
    assert {e["path"] for e in got} == {"raw\ufffd\ufffd", "dir\ufffd", "dir\ufffd/in\u00e9\ufffd"}
    pages, cursor = [], {}
    while True: # a cursor is bytes, too
        page = call(box, "GET", "files", recursive="true", limit=1, **cursor).expect(200).json()
        pages += [bytes_of(e) for e in page["entries"]]
        if not page["next_cursor"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert sorted(pages) == sorted([raw, b"dir\x80", inner])
    found = call(box, "GET", "files/search", q="findme").expect(200).json()["matches"]
    assert sorted(bytes_of(m) for m in found) == sorted([raw, inner])
    get = lambda what, name: box.client.get(f"{box.v1}/{what}?path={escaped(name)}")  # noqa: E731
    for name in raw, inner:
        assert get("files/content", name).expect(200).body == b"findme"
        assert bytes_of(get("files/stat", name).expect(200).json()) == name
    assert bytes_of(get("files", b"dir\x80").expect(200).json()["entries"][0]) == inner
    assert bytes_of(box.client.get(f"{box.v1}/files/search?name=in*&path={escaped(b'dir' + bytes([128]))}").json()["matches"][0]) == inner
    with tarfile.open(fileobj=io.BytesIO(call(box, "GET", "files/export", format="tar").body)) as t:
        assert {m.name for m in t.getmembers() if m.isreg()} == {"raw%FF%FE", "dir%80/in\u00e9%81"}
    with Watch(box) as w:
        with open(os.fsencode(app) + b"/new\xff", "wb"):
            pass
        w.wait("created", "new\ufffd")
        with w.lock:
            assert [base64.urlsafe_b64decode(b + "==") for b in w.raw] == [b"new\xff"] * len(w.raw) and w.raw
    # New ones are made of text only.
    for reply in (box.client.put(f"{box.v1}/files?path={escaped(raw)}", raw=b"x"),
                  box.client.request("PATCH", f"{box.v1}/files?path=x%ff", raw=b"x"),
                  box.client.post(f"{box.v1}/files/import?path=x%ff", raw=archives.tar([]))):
        assert reply.status == 400 and "UTF-8" in reply.text
    b64 = base64.b64encode(raw).decode()
    for body in {"from_base64": b64}, {"from_base64": b64, "from": "x", "to": "y"}, {"to": "y"}, {"from_base64": "*", "to": "y"}:
        assert call(box, "POST", "files/move", body).status == 400, body
    post(box, "copy", {"from_base64": b64, "to": "copied"})
    post(box, "move", {"from_base64": b64, "to": "moved"})
    assert (app / "copied").read_bytes() == (app / "moved").read_bytes() == b"findme"
    box.client.delete(f"{box.v1}/files?path={escaped(inner)}", expect=204)
    box.client.delete(f"{box.v1}/files?path={escaped(b'dir' + bytes([128]))}&recursive=true", expect=204)
    box.client.delete(f"{box.v1}/files?path=new%ff", expect=204)
    assert sorted(os.listdir(app)) == ["copied", "moved"]
