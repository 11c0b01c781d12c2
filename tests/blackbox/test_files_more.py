"""A workspace as handy as a local disk, over the API and while it sleeps."""
import io
import os
import re
import secrets
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
import time
import urllib.parse
import zipfile

import pytest

import archives
from sandboxd import PATIENCE, Sandbox, together, until
from test_files import canary, daemon_holds, q, tree  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def asleep(_shared):
    """A stopped sandbox; whatever is done to its files must not wake it."""
    box = Sandbox.create(_shared)
    box.stop()
    yield box
    assert box.status == "stopped", "files wake nobody"
    box.purge(expect=(204, 404))


@pytest.fixture
def app(asleep):
    """Its app directory on the host, emptied."""
    home = asleep.workspace / "workspace/app"
    for path in home.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    yield home
    until(lambda: not [n for n in os.listdir(asleep.workspace) if n.startswith(".put-")], 30, "no stage is left")


def call(box, method, what, body=None, headers=None, **query):
    text = urllib.parse.urlencode(query)
    return box.client.request(method, f"{box.v1}/{what}{'?' if text else ''}{text}", json=body,
                              headers=headers)


def post(box, what, body, status=200, **kw):
    return call(box, "POST", f"files/{what}", body, **kw).expect(status).json()


def etag(box, path):
    return call(box, "GET", "files/stat", path=path).expect(200).json()["etag"]


def give(app, path, content=b"x"):
    file = app / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


# --- names ---


@pytest.mark.quick
def test_move_copy_mkdir_chmod_stat(asleep, app):
    box = asleep
    assert post(box, "mkdir", {"path": "a/b/c"}, 201)["type"] == "dir"
    assert post(box, "mkdir", {"path": "a/b/c"}, 200)["mode"] == "0775"
    post(box, "mkdir", {"path": "a/b/c", "parents": False}, 409)
    post(box, "mkdir", {"path": "no/parent", "parents": False}, 404)
    assert post(box, "mkdir", {"path": "m", "mode": "700"}, 201)["mode"] == "0700"
    give(app, "f", b"one")
    assert post(box, "copy", {"from": "f", "to": "new/dir/g"})["size"] == 3
    assert (app / "new/dir/g").read_bytes() == b"one"
    st = (app / "new/dir/g").stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (1000, 1000, 0o644)
    assert "overwrite" in post(box, "copy", {"from": "f", "to": "new/dir/g"}, 409)["error"]["remedy"]
    post(box, "copy", {"from": "f", "to": "new/dir/g", "overwrite": True})
    post(box, "move", {"from": "f", "to": "moved/f"})
    assert not (app / "f").exists() and (app / "moved/f").read_bytes() == b"one"
    post(box, "move", {"from": "moved/f", "to": "new/dir/g"}, 409)
    post(box, "move", {"from": "moved/f", "to": "new/dir/g", "overwrite": True})
    post(box, "move", {"from": "nothing", "to": "x"}, 404)
    # Directories: whole, with links as links and nothing special.
    os.symlink("/etc/passwd", app / "new/link")
    os.mkfifo(app / "new/fifo")
    os.chmod(app / "new/dir/g", 0o4711)
    post(box, "copy", {"from": "new", "to": "copy"})
    assert sorted(os.listdir(app / "copy")) == ["dir", "link"]
    assert os.readlink(app / "copy/link") == "/etc/passwd"
    assert (app / "copy/dir/g").stat().st_mode & 0o7777 == 0o711, "no setuid bit"
    post(box, "copy", {"from": "new", "to": "copy"}, 409)
    for verb in "copy", "move":
        reply = post(box, verb, {"from": "new", "to": "copy", "overwrite": True}, 409)
        assert "remove it first" in reply["error"]["remedy"]
    os.utime(app / "new/dir/g", (0, 0))
    assert call(box, "GET", "files/stat", path="new/dir/g").json()["mtime"] == "1970-01-01T00:00:00.000Z"
    assert call(box, "GET", "files", path="new/dir").json()["entries"][0]["mtime"] == "1970-01-01T00:00:00.000Z"
    for verb in "move", "copy":
        post(box, verb, {"from": "new", "to": "new/dir/below"}, 400)
        post(box, verb, {"from": "workspace/app", "to": "x"}, 400)
        post(box, verb, {"from": "new/fifo" if verb == "copy" else "new/none", "to": "y"},
             400 if verb == "copy" else 404)
    post(box, "move", {"from": "new", "to": "other"})
    assert (app / "other/dir/g").exists()
    assert post(box, "chmod", {"path": "copy/dir/g", "mode": "0600"})["mode"] == "0600"
    for bad in "4755", "08", "rwx", "01000", "888":
        assert call(box, "POST", "files/chmod", {"path": "copy/dir/g", "mode": bad}).status == 400
    os.link(app / "copy/dir/g", app / "twin")
    assert call(box, "POST", "files/chmod", {"path": "twin", "mode": "777"}).code == "path_escape"
    got = call(box, "GET", "files/stat", path="copy/link").expect(200).json()
    assert got["type"] == "symlink" and "size" not in got
    assert call(box, "GET", "files/stat", path="/home/sandbox").json()["type"] == "dir"
    assert call(box, "GET", "files/stat", path="none").status == 404
    call(box, "DELETE", "files", path="copy", recursive="true").expect(204)
    assert not (app / "copy").exists()


@pytest.mark.quick
def test_preconditions(asleep, app):
    box = asleep
    put = lambda body, **h: box.client.put(f"{box.v1}/files?path=f", raw=body, headers=h)  # noqa: E731
    first = put(b"1", **{"If-None-Match": "*"}).expect(200)
    tag = first.json()["etag"]
    assert first.headers["ETag"] == tag == etag(box, "f")
    assert put(b"2", **{"If-None-Match": "*"}).expect(412).code == "precondition_failed"
    assert put(b"2", **{"If-Match": '"nonsense"'}).status == 412
    assert put(b"2", **{"If-Match": f"W/{tag}"}).status == 412, "weak never matches here"
    second = put(b"2", **{"If-Match": f'"other", {tag}'}).expect(200).json()["etag"]
    assert second != tag and put(b"3", **{"If-Match": tag}).status == 412
    assert (app / "f").read_bytes() == b"2"
    stale, fresh = {"If-Match": tag}, {"If-Match": second}
    url = f"{box.v1}/files?path=f"
    assert box.client.request("PATCH", url, raw=b"+", headers=stale).status == 412
    fresh = {"If-Match": box.client.request("PATCH", url, raw=b"+", headers=fresh).expect(200).json()["etag"]}
    assert (app / "f").read_bytes() == b"2+"
    move = {"from": "f", "to": "g"}
    assert call(box, "POST", "files/move", move, headers=stale).status == 412
    fresh = {"If-Match": call(box, "POST", "files/move", move, headers=fresh).expect(200).json()["etag"]}
    url = f"{box.v1}/files?path=g"
    assert box.client.delete(url, headers=stale).status == 412
    box.client.delete(url, headers=fresh).expect(204)
    assert box.client.delete(url, headers={"If-Match": "*"}).status == 404
    assert box.client.put(url, raw=b"x", headers={"If-Match": "*"}).status == 412
    (app / "d/e").mkdir(parents=True)
    url = f"{box.v1}/files?path=d&recursive=true"
    assert box.client.delete(url, headers=stale).status == 412 and (app / "d/e").is_dir()
    box.client.delete(url, headers={"If-Match": etag(box, "d")}).expect(204)
    # Of many who saw the same state one wins.
    give(app, "race")
    tag, n = etag(box, "race"), 8
    won = together(*[lambda i=i: Sandbox(box.daemon, box.id).client.put(
        f"{box.v1}/files?path=race", raw=b"%d" % i, headers={"If-Match": tag}).status for i in range(n)])
    assert sorted(won) == [200] + [412] * (n - 1)


@pytest.mark.quick
def test_ranges(asleep, app):
    box = asleep
    data = secrets.token_bytes(700_000)
    give(app, "f", data)
    get = lambda **h: box.client.get(f"{box.v1}/files/content?path=f", headers=h)  # noqa: E731
    whole = get().expect(200)
    tag = whole.headers["ETag"]
    assert whole.body == data and whole.headers["Accept-Ranges"] == "bytes"
    for text, part in [("0-0", data[:1]), ("5-9", data[5:10]), ("699999-", data[-1:]), ("-3", data[-3:]),
                       ("-9999999", data), ("100-99999999", data[100:]), ("1-600000", data[1:600001])]:
        reply = get(Range=f"bytes={text}").expect(206)
        assert reply.body == part, text
        first = data.index(part) if len(part) > 8 else int(text.split("-")[0] or len(data) - len(part))
        assert reply.headers["Content-Range"] == f"bytes {first}-{first + len(part) - 1}/{len(data)}"
    for text in "700000-", "800000-900000", "-0":
        reply = get(Range=f"bytes={text}").expect(416)
        assert reply.headers["Content-Range"] == f"bytes */{len(data)}"
    for text in ("bytes=5-2", "bytes=", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=-", "bytes=1",
                 "bytes=99999999999999999999999999-"):
        assert get(Range=text).expect(200).body == data, text
    assert get(Range="bytes=0-1", **{"If-Range": tag}).status == 206
    assert get(Range="bytes=0-1", **{"If-Range": '"old"'}).status == 200
    assert get(**{"If-None-Match": f'"a", W/{tag}'}).expect(304).body == b""
    assert get(**{"If-Match": '"old"'}).status == 412
    box.put_file("f", b"short")
    assert get(Range="bytes=0-1", **{"If-Range": tag}).expect(200).body == b"short"
    assert get(**{"If-None-Match": tag}).status == 200
    give(app, "f", b"")
    assert get().body == b"" and get(Range="bytes=0-").status == 416


def test_large_appends_are_whole_or_not_at_all(daemon, asleep, app):
    box = asleep
    body = secrets.token_bytes(3 << 20)
    for n in 1, 2:
        got = box.client.request("PATCH", f"{box.v1}/files?path=log", raw=body).expect(200).json()
        assert got["size"] == n * len(body)
    assert (app / "log").read_bytes() == body * 2
    for method, query in ("PATCH", ""), ("PUT", "&append=true"):
        for share in 0.1, 0.5, 0.99:
            with socket.create_connection(daemon.address) as s:
                s.sendall(f"{method} {box.v1}/files?path=log{query} HTTP/1.1\r\nHost: localhost\r\n"
                          f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:int(len(body) * share)])
    until(lambda: sorted(os.listdir(app)) == ["log"], 5, "no temporary file")
    assert (app / "log").stat().st_size == 2 * len(body)


def test_appends_of_many_do_not_mix(asleep, app):
    """Small and large ones at the same time: each is one piece, and a length that was told stays."""
    box = asleep
    sizes = [3 << 20, 1 << 20, 300_000, 5, 2 << 20, 65536]
    told = together(*[lambda n=n, size=size: [Sandbox(box.daemon, box.id).client.request(
        "PATCH", f"{box.v1}/files?path=log", raw=bytes([97 + n]) * size).expect(200).json()["size"] for _ in range(3)]
                      for n, size in enumerate(sizes)])
    data = (app / "log").read_bytes()
    assert len(data) == 3 * sum(sizes) == max(max(t) for t in told)
    at = 0
    while at < len(data):
        size = sizes[data[at] - 97]
        assert data[at:at + size] == data[at:at + 1] * size, at
        at += size


@pytest.mark.quick
def test_batch(asleep, app):
    box = asleep
    (app / "dir").mkdir()
    got = post(box, "batch", {"files": [{"path": "a/one", "content": "1\u20ac"}, {"path": "two", "base64": "AP8="},
                                        {"path": "dir", "content": "x"}, {"path": "bad", "base64": "A*=="}]})
    assert got["failed"] == 2 and [f.get("size") for f in got["files"]] == [4, 2, None, None]
    assert [f.get("error", {}).get("code") for f in got["files"]][2:] == ["invalid_request"] * 2
    assert (app / "a/one").read_text() == "1\u20ac" and (app / "two").read_bytes() == b"\0\xff"
    for files in [{"path": "../../../x", "content": "x"}], [{"path": "z"}], [{"path": "z", "content": "", "base64": ""}]:
        assert call(box, "POST", "files/batch", {"files": [{"path": "never", "content": ""}] + files}).status == 400
    assert not (app / "never").exists(), "all is checked before the first write"


@pytest.mark.quick
def test_pages_and_depth(asleep, app):
    box = asleep
    paths = [f"{a}/{b}/{c}" for a in ("a", "a-", "b") for b in ("x", "y") for c in range(7)]
    for path in paths:
        give(app, path)
    give(app, "node_modules/m")
    want = sorted({p for path in paths for p in (path, path.rsplit("/", 1)[0], path.split("/")[0])},
                  key=lambda p: p.split("/"))

    def pages(limit, **query):
        cursor, out = {}, []
        while True:
            got = call(box, "GET", "files", path="/home/sandbox/workspace/app", limit=limit, **query,
                       **cursor).expect(200).json()
            assert len(got["entries"]) <= limit
            out += [e["path"] for e in got["entries"]]
            if got["next_cursor"] is None:
                return out
            assert len(got["entries"]) == limit and got["truncated"]
            cursor = {"cursor": got["next_cursor"]}

    for limit in 1, 2, 7, 49, 50, 1000:
        assert pages(limit, recursive="true") == want, limit
        assert pages(limit, depth=2) == [p for p in want if p.count("/") < 2], limit
        assert pages(limit) == ["a", "a-", "b"]
    assert "node_modules/m" in pages(5, depth=9, all="true")
    # A cursor outlives what it names.
    first = call(box, "GET", "files", recursive="true", limit=3).json()
    shutil.rmtree(app / "a")
    rest = call(box, "GET", "files", recursive="true", cursor=first["next_cursor"]).json()
    assert [e["path"] for e in rest["entries"]] == [p for p in want if p.split("/")[0] != "a"]
    for query in {"limit": 0}, {"limit": 1001}, {"depth": 0}, {"depth": 129}, {"cursor": "*"}, {"cursor": ""}:
        assert call(box, "GET", "files", **query).status == 400, query


# --- archives ---


@pytest.mark.parametrize("route, fmt", [("files/export", None), ("files/export", "tar"), ("files/export", "zip"),
                                        ("export", None), ("export", "tar.zst")])
def test_export_and_import_again(asleep, app, route, fmt):
    box = asleep
    content = {"a": b"", "b/c": b"text" * 999, "b/d/e": secrets.token_bytes(300_000), "\u20ac": b"u"}
    for path, data in content.items():
        give(app, "src/" + path, data)
    give(app, "src/node_modules/m")
    (app / "src/void").mkdir()
    os.chmod(app / "src/a", 0o4755)
    reply = call(box, "GET", route, path="src", **({"format": fmt} if fmt else {})).expect(200)
    kind = fmt or ("zip" if route == "export" else "tar.zst")
    assert reply.headers["Content-Disposition"] == f'attachment; filename="{box.id}.{kind}"'
    got = box.client.post(f"{box.v1}/files/import?path=dst/new", raw=reply.body).expect(200).json()
    assert (got["files"], got["skipped"], got["bytes"]) == (4, 0, sum(map(len, content.values())))
    for path, data in content.items():
        assert (app / "dst/new" / path).read_bytes() == data
        assert (app / "dst/new" / path).stat().st_uid == 1000
    if kind != "zip": # which tells modes at its end only, long after the files
        assert (app / "dst/new/a").stat().st_mode & 0o7777 == 0o755
    assert (app / "dst/new/void").exists() == (kind != "zip") and not (app / "dst/new/node_modules").exists()
    head = box.client.request("HEAD", f"{box.v1}/{route}?path=src")
    assert (head.status, head.body) == (200, b"")
    for query, status in ({"path": "none"}, 404), ({"path": "src/a"}, 400), ({"format": "rar"}, 400):
        assert call(box, "GET", route, **query).status == status
    assert "a directory is needed" in call(box, "GET", route, path="src/a").text


def test_exported_names_harm_nobody(asleep, app, tmp_path):
    """T-9: what unpacks it writes below its target and nowhere else."""
    box = asleep
    odd = ["C:evil", "a\\..\\..\\b", "c\x01\x1b[2J", "nl\nname", "..\\up", "-rf", "d e l\x7f", "n:b", "~", "sub/D:x",
           "raw%FF%FE", "50%", "%zz%4", "100%%AF", "a%20b", "%aF"]
    for name in odd:
        give(app, name)
    os.close(os.open(os.fsencode(app) + b"/raw\xff\xfe", os.O_CREAT, 0o644))
    for name, target in [("out", "/etc"), ("up", "../x"), ("in", "sub"), ("sub/back", "../~"), ("sub/far", "../../y"),
                         ("via", "in/../../z"), ("loop", "loop"), ("win", "C:\\x"), ("to%20", "raw%FF%FE")]:
        os.symlink(target, app / name)
    os.mkfifo(app / "fifo")
    want = {"C%3Aevil", "a%5C..%5C..%5Cb", "c%01%1B[2J", "nl%0Aname", "..%5Cup", "-rf", "d e l%7F", "n%3Ab", "~",
            "sub/D%3Ax", "raw%FF%FE", "raw%25FF%25FE", "50%", "%zz%4", "100%%25AF",
            "a%20b", "%aF"}
    data = call(box, "GET", "files/export", format="tar").expect(200).body
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        members = {m.name: m for m in t.getmembers()}
        assert {n for n, m in members.items() if m.isreg()} == want
        assert {n: m.linkname for n, m in members.items() if m.issym()} == \
            {"in": "sub", "sub/back": "../~", "loop": "loop", "to%20": "raw%25FF%25FE"}
    data = call(box, "GET", "export").expect(200).body
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        assert set(z.namelist()) == want
    (tmp_path / "t").mkdir()
    (tmp_path / "x.tar").write_bytes(call(box, "GET", "files/export", format="tar").body)
    subprocess.run(["tar", "-C", tmp_path / "t", "-xf", tmp_path / "x.tar"], check=True)
    assert sorted(os.listdir(tmp_path)) == ["t", "x.tar"]


def test_the_archive_corpus(asleep, app, canary):  # noqa: F811
    """T-7: an outcome for each of more than 200; no special bit, no link that leads out, nothing outside."""
    box, root = asleep, canary[0]
    cases = list(archives.corpus())
    assert len(cases) >= 200
    outside = sorted(os.listdir(box.workspace)), sorted(os.listdir(box.workspace / "workspace"))

    def run(part):
        client, wrong = Sandbox(box.daemon, box.id).client, []
        for n, case in part:
            target = app / f"c{n}"
            reply = client.post(f"{box.v1}/files/import?path=c{n}", raw=case.data)
            if case.files is None:
                if reply.status not in (400, 413) or target.exists():
                    wrong.append((case.name, reply.status, reply.text))
                continue
            if reply.status != 200:
                wrong.append((case.name, reply.status, reply.text))
                continue
            got, there = reply.json(), {}
            for path in target.rglob("*"):
                st = path.lstat()
                kind = stat.S_IFMT(st.st_mode)
                if kind not in (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK) or st.st_mode & 0o7000 or st.st_uid != 1000:
                    wrong.append((case.name, "kind", str(path), oct(st.st_mode)))
                if kind != stat.S_IFDIR:
                    there[str(path.relative_to(target))] = path.read_bytes() if kind == stat.S_IFREG else os.readlink(path)
            links = [f for f in case.files.values() if isinstance(f, str)]
            if (there != case.files or got["skipped"] != case.skipped or got["links"] != len(links)
                    or got["files"] != len(case.files) - len(links)):
                wrong.append((case.name, got, sorted(there)))
        return wrong

    numbered = list(enumerate(cases))
    wrong = sum(together(*[lambda k=k: run(numbered[k::4]) for k in range(4)]), [])
    assert not wrong, "\n".join(map(repr, wrong[:10]))
    now = [n for n in os.listdir(box.workspace) if not n.startswith(".put-")]
    assert (sorted(now), sorted(os.listdir(box.workspace / "workspace"))) == outside
    assert sorted(os.listdir(root)) == ["secret", "sub"]


def test_import_into_what_is_there(asleep, app):
    box = asleep
    give(app, "t/keep", b"keep")
    give(app, "t/file", b"old")
    (app / "t/dir").mkdir()
    os.symlink("/etc", app / "t/link")
    data = archives.tar([archives.entry(n, b"new") for n in ("file", "dir", "link/x", "link2", "more/a", "dir/in")][:1]
                        + [archives.entry("dir", b"new"), archives.entry("link/x", b"new"),
                           archives.entry("more/a", b"new")])
    got = box.client.post(f"{box.v1}/files/import?path=t", raw=data).expect(200).json()
    assert got["files"] == 2 and {s["path"] for s in got["skipped_entries"]} == {"dir", "link"}
    assert (app / "t/keep").read_bytes() == b"keep" and (app / "t/file").read_bytes() == b"new"
    assert os.path.islink(app / "t/link") and (app / "t/more/a").read_bytes() == b"new"
    for path, status in ("t/link", 400), ("t/link/x", 400), ("t/keep", 400), ("../../../x", 400):
        assert box.client.post(f"{box.v1}/files/import?path={path}", raw=data).status == status


def test_bombs(daemon, asleep, app):
    """T-8: stopped at the cap, nothing left, flat memory, an honest status."""
    box = asleep
    box.client.post(f"{box.v1}/files/import?path=warm", raw=archives.tar([archives.entry("a")])).expect(200)
    before = daemon.rss_kib()
    for name, chunks, status in archives.bombs():
        reply = box.client.post(f"{box.v1}/files/import?path=bomb", raw=iter(chunks))
        assert reply.status in (status if isinstance(status, tuple) else (status,)), (name, reply)
        assert not (app / "bomb").exists(), name
        until(lambda: not [n for n in os.listdir(box.workspace) if n.startswith(".put-")], 30, name)
    assert daemon.rss_kib() - before < daemon.rss_slack(16 << 10)
    with socket.create_connection(daemon.address) as s: # an upload that breaks
        s.sendall(f"POST {box.v1}/files/import?path=cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n"
                  .encode() + archives.tar([archives.entry("a", b"y" * 80000)])[:40000])
    until(lambda: not [n for n in os.listdir(box.workspace) if n.startswith(".put-")], 5, "no stage")
    assert not (app / "cut").exists()


# --- search and watch ---


@pytest.mark.quick
def test_search(asleep, app):
    box = asleep
    give(app, "a.txt", b"first\nThe Needle here\n" + b"x" * 2000 + b" needle " + b"y" * 2000 + b"\nneedle\nneedle")
    give(app, "sub/b.py", "z\u00e9 = 'NEEDLE \u20ac'\r\nend".encode())
    give(app, "sub/bin", b"needle\0needle")
    give(app, "node_modules/m", b"needle")
    give(app, "bad\xff".encode("latin-1").decode("utf-8", "surrogateescape"), b"\xff needle \xfe\n")
    os.symlink("/etc/passwd", app / "needle")

    def find(**query):
        return call(box, "GET", "files/search", **query).expect(200).json()

    def places(**query):
        return sorted((m["path"], m.get("line")) for m in find(**query)["matches"])

    lines = [("a.txt", 3), ("a.txt", 4), ("a.txt", 5), ("bad\ufffd", 1)]
    assert places(q="needle") == lines
    assert places(q="needle", case="false") == sorted(lines + [("a.txt", 2), ("sub/b.py", 1)])
    assert places(q="needle", all="true") == sorted(lines + [("node_modules/m", 1)])
    assert places(q="^needle$", regex="true") == [("a.txt", 4), ("a.txt", 5)]
    assert places(q="N[a-z]+\\s", regex="true") == [("a.txt", 2)], "a match stays within its line"
    assert places(q="\u20ac") == [("sub/b.py", 1)] and places(q="first\\nThe", regex="true") == []
    assert places(q="needle", path="sub") == [] and places(name="*.py") == [("sub/b.py", None)]
    assert places(name="sub/*") == [("sub/b.py", None), ("sub/bin", None)]
    assert places(name="**/b*") == places(name="b*") + [] and places(name="need[kl]e") == [("needle", None)]
    assert places(q="needle", name="*.txt") == lines[:3]
    got = find(q="needle")
    assert got["binary"] == 1 and not got["truncated"] and got["files"] == 4
    long = next(m for m in got["matches"] if m["line"] == 3)
    assert long["column"] == 2002 and len(long["text"]) <= 512 and " needle " in long["text"]
    # Lines longer than what is read at once: nothing of them is missed, told twice or counted anew.
    mib = 1 << 20
    give(app, "wide", b"x" * (mib - 3) + b"needle" + b"x" * mib + b"needle" + b"x" * (2 * mib) + b"end\n"
         + "\u20ac".encode() * mib + b"needle\nlast needle" + b"y" * (3 * mib) + b"end")
    wide = [(m["line"], m["column"]) for m in find(q="needle", name="wide")["matches"]]
    assert wide == [(1, mib - 2), (2, 3 * mib + 1), (3, 6)]
    for q, hits in ("end$", [(1, 4 * mib + 10), (3, 3 * mib + 12)]), ("^x", [(1, 1)]), ("^y", []), ("x$", []), \
            ("\u20ac+n", [(2, 1)]), ("\\bneedle", [(2, 3 * mib + 1), (3, 6)]):
        found = find(q=q, name="wide", regex="true")["matches"]
        assert [m["line"] for m in found] == [line for line, _ in hits], q
        if q[0] not in "\u20acn":
            assert [m["column"] for m in found] == [column for _, column in hits], q
    os.remove(app / "wide")
    # A path may name one file.
    assert places(q="needle", path="a.txt") == lines[:3] and places(q="needle", path="a.txt", name="*.py") == []
    assert places(q="needle", path="/home/sandbox/workspace/app/node_modules/m") == [("node_modules/m", 1)]
    assert places(name="*.py", path="sub/b.py") == places(name="**/b*", path="sub/b.py") == [("sub/b.py", None)]
    give(box.workspace, "beside", b"needle")
    assert places(q="needle", path="/home/sandbox/beside") == [("/home/sandbox/beside", 1)]
    got = find(q="needle", path="a.txt", limit=2)
    assert (len(got["matches"]), got["truncated"], got["files"]) == (2, True, 1)
    assert find(q="needle", path="sub/bin")["binary"] == 1
    for path, word in ("a.txt/x", "part"), ("sub/b.py/", "directory"), ("needle", "link"):
        reply = call(box, "GET", "files/search", q="needle", path=path)
        assert 400 <= reply.status < 500 and word in reply.text, reply.text
    got = find(q="needle", limit=2)
    assert len(got["matches"]) == 2 and got["truncated"] and got["reason"] == "limit"
    for query in {}, {"q": ""}, {"q": "a" * 1025}, {"q": "(", "regex": "true"}, {"q": "a", "limit": 0}, \
            {"q": "\\C", "regex": "true"}, {"q": "x", "case": "maybe"}, {"q": "a\nb"}:
        assert call(box, "GET", "files/search", **query).status == 400, query
    for accept in "text/event-stream", "application/x-ndjson":
        with box.client.stream("GET", f"{box.v1}/files/search?q=needle", headers={"Accept": accept}) as s:
            events = list(s.sse()) if "event" in accept else [(e["type"], e) for e in s.ndjson()]
        assert [e for e, _ in events] == ["match"] * 4 + ["end"] and events[-1][1]["files"] == 4
    # Patterns that explode are left, and said so.
    give(app, "as", b"a" * 30000 + b"b\n")
    start = time.monotonic()
    assert find(q="(a+a+)+c", regex="true", name="as")["costly"] <= 1
    assert places(name="*a" * 200 + "b") == []
    assert time.monotonic() - start < 2 * PATIENCE


def test_too_deep_is_said(daemon, asleep, app):
    box = asleep
    give(app, "d/" * 128 + "near", b"needle")
    give(app, "d/" * 129 + "far", b"needle")
    for query in {"q": "needle"}, {"name": "[fn]*ar"}:
        got = call(box, "GET", "files/search", **query).expect(200).json()
        assert [m["path"] for m in got["matches"]] == ["d/" * 128 + "near"]
        assert (got["truncated"], got["reason"]) == (True, "depth")
        got = call(box, "GET", "files/search", path="d", **query).expect(200).json()
        assert (len(got["matches"]), got["truncated"], got["reason"]) == (2, False, None)
    with tarfile.open(fileobj=io.BytesIO(call(box, "GET", "files/export", format="tar").body)) as t:
        assert [m.name for m in t.getmembers() if m.isreg()] == ["d/" * 128 + "near"]
    until(lambda: re.search(rf'"export.left_out".*{box.id}.*"entries":1,"too_deep":1', daemon.log()), 5, "the log tells of it")


class Watch:
    def __init__(self, box, **query):
        query = urllib.parse.urlencode(query)
        self.stream = box.client.stream("GET", f"{box.v1}/files/watch?{query}")
        self.seen, self.raw, self.lock = [], [], threading.Lock()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        assert self.ready.wait(5 * PATIENCE), "ready"

    def run(self):
        try:
            for event, data in self.stream.sse():
                with self.lock:
                    self.seen.append((event, data.get("path"), data.get("from")))
                    self.raw += [data["path_base64"]] if "path_base64" in data else []
                if event == "ready":
                    self.ready.set()
        except (OSError, ValueError, AttributeError):
            pass

    def wait(self, *event):
        event = event + (None,) * (3 - len(event))
        until(lambda: event in list(self.seen), 5, f"{event} in {self.seen[-8:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.thread.join(5)


def has_nameless_files(directory):
    """The kernel tells of a creation only where a whole file can be linked into its place."""
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_RDWR))
        return True
    except OSError:
        return False


@pytest.mark.quick
def test_watch(daemon, asleep, app):
    box = asleep
    (app / "old/deep").mkdir(parents=True)
    new = "created" if has_nameless_files(app) else "modified"
    with Watch(box) as w:
        box.put_file("new", b"x")
        w.wait(new, "new")
        box.put_file("new", b"xx")
        w.wait("modified", "new")
        assert w.seen[1:] == [(new, "new", None), ("modified", "new", None)], "each is told once"
        post(box, "copy", {"from": "new", "to": "copied"})
        w.wait(new, "copied")
        give(app, "old/deep/f")
        w.wait("created", "old/deep/f")
        w.wait("modified", "old/deep/f")
        give(app, "made/of/many/dirs/f")
        w.wait("created", "made")
        w.wait("created", "made/of/many/dirs/f")
        give(app, "made/of/many/dirs/g")
        w.wait("modified", "made/of/many/dirs/g")
        post(box, "move", {"from": "made", "to": "renamed"})
        w.wait("moved", "renamed", "made")
        give(app, "renamed/of/h")
        w.wait("modified", "renamed/of/h")
        post(box, "chmod", {"path": "new", "mode": "600"})
        w.wait("attrib", "new")
        shutil.move(app / "renamed", box.workspace / "elsewhere")
        w.wait("removed", "renamed")
        shutil.rmtree(box.workspace / "elsewhere")
        call(box, "DELETE", "files", path="old", recursive="true").expect(204)
        w.wait("removed", "old")
        os.symlink("/etc", app / "link")
        w.wait("created", "link")
        (app / "node_modules").mkdir()
        give(app, "node_modules/x")
        give(app, "last")
        w.wait("modified", "last")
        paths = {p for _, p, _ in w.seen if p}
        assert not [p for p in paths if ".put-" in p or "#" in p or "node_modules" in p or p.startswith("link/")], paths
    with Watch(box, recursive="false") as w:
        give(app, "flat/f")
        give(app, "after")
        w.wait("modified", "after")
        assert ("created", "flat", None) in w.seen and not [p for _, p, _ in w.seen if p and "flat/" in p]
    with Watch(box, path="flat") as w:
        shutil.rmtree(app / "flat")
        until(lambda: [e for e, _, _ in w.seen if e == "gone"], 5, "gone")
    until(lambda: not daemon_holds(daemon, "inotify", of=""), 5, "all watches have ended")


def test_watch_of_a_running_sandbox(sandbox):
    with Watch(sandbox) as w:
        sandbox.exec("mkdir -p app/in/side")
        w.wait("created", "in/side")
        sandbox.exec("touch app/later") # told when all of the former is watched
        w.wait("created", "later")
        sandbox.exec("cd app && echo x > in/side/f && mv in/side/f in/g && rm in/g")
        w.wait("modified", "in/side/f")
        w.wait("moved", "in/g", "in/side/f")
        w.wait("removed", "in/g")
