"""The terminal over WebSocket: real shells and full-screen programs behind a real terminal emulator, detaching and
attaching, several viewers, peers that break the rules."""
import json
import sqlite3
import time

import pytest

from sandboxd import PATIENCE, Client, Sandbox, until
from websocket import BINARY, CLOSE, PING, PONG, TEXT, Refused, WebSocket


@pytest.fixture(scope="module")
def box(request):
    import sandboxd
    d = sandboxd.Daemon()
    try:
        d.start()
        b = sandboxd.Sandbox.create(d)
        b.daemon = d
        yield b
    finally:
        d.close()


def open_terminal(box, **query):
    extra = "&".join(f"{k}={v}" for k, v in query.items())
    return WebSocket(box.daemon.port, f"/v1/sandboxes/{box.id}/terminal?{extra}")


def first_note(ws):
    op, data = ws.recv()
    assert op == TEXT
    return json.loads(data)


def test_a_shell_with_its_size_and_exit_status(box):
    with open_terminal(box, cols=101, rows=31) as ws:
        attached = first_note(ws)["attached"]
        assert set(attached) == {"process"}
        ws.type("PS1='re''ady> '; stty size; tty; echo $TERM; id -un\n")
        out = ws.until("ready> ") # on its way to a prompt readline may set the old size again
        assert b"31 101" in out and b"/dev/pts/" in out and b"xterm-256color" in out and b"\nsandbox\r\n" in out
        ws.resize(77, 22)
        ws.type("stty size\n")
        ws.until("22 77")
        ws.type("exit 7\n")
        with pytest.raises(EOFError):
            ws.until("never")
        end = ws.notes[-1]["exit"]
        assert end == {**attached, "exit_code": 7, "status": "exited"}
    with open_terminal(box) as ws:
        ws.type("kill -9 $$\n")
        with pytest.raises(EOFError):
            ws.until("never")
        assert ws.notes[-1]["exit"]["signal"] == "SIGKILL" # named as everywhere else


def test_interrupt_and_job_control(box):
    with open_terminal(box) as ws:
        ws.type("sh -c 'echo go\"\"ing; exec sleep 1000'\n") # one process: nothing in between
        ws.until("going\r\n")
        ws.type("\x03")
        ws.until("^C")
        ws.type("echo status-$?\n")
        ws.until("status-130")
        ws.type("sh -c 'echo aga\"\"in; exec sleep 1000'\n")
        ws.until("again\r\n")
        ws.type("\x1a")
        ws.until("Stopped")
        ws.type("kill %1; wait; echo do''ne\n")
        ws.until("done\r\n")


def test_utf8_and_large_pastes(box):
    with open_terminal(box) as ws:
        ws.type("printf '%s|' 'grüße 木 🎉'; echo\n")
        ws.until("grüße 木 🎉|")
        ws.type("stty -echo -icanon; head -c 300000 | sha256sum; stty sane\n")
        time_free = bytes(range(1, 256)) # all bytes but NUL, some of them special to a cooked terminal
        payload = (time_free.replace(b"\x03", b"").replace(b"\x1c", b"").replace(b"\x1a", b"").replace(b"\r", b"")
                   .replace(b"\x11", b"").replace(b"\x13", b"").replace(b"\x16", b"").replace(b"\x0f", b"")) * 2000
        payload = payload[:300000]
        import hashlib
        until(lambda: b"head" in box.exec("ps", "-eo", "args")["stdout"].encode(), what="head runs")
        for i in range(0, len(payload), 30000):
            ws.type(payload[i:i + 30000])
        ws.until(hashlib.sha256(payload).hexdigest())


class Screen:
    """A terminal emulator behind a WebSocket: what a person would see."""

    def __init__(self, ws, cols, rows):
        pyte = pytest.importorskip("pyte")
        self.ws, self.screen = ws, pyte.Screen(cols, rows)
        self.stream = pyte.ByteStream(self.screen)

    def shows(self, text, row=None, seconds=20):
        """The rows, once one of them, or that one, holds the text."""
        end = time.monotonic() + seconds * PATIENCE
        while not any(text in line for line in self.rows(row)):
            try:
                op, data = self.ws.recv(max(0.01, end - time.monotonic()))
            except TimeoutError:
                raise AssertionError("\n".join(self.screen.display)) from None
            if op == BINARY:
                self.stream.feed(data)
        return self.screen.display

    def rows(self, row):
        return self.screen.display if row is None else [self.screen.display[row]]

    def resize(self, cols, rows):
        self.screen.resize(rows, cols)
        self.ws.resize(cols, rows)


def test_a_full_screen_program(box):
    program = ("import curses\ndef main(s):\n s.addstr(5, 10, 'HELLO-BOX'); s.refresh()\n"
               " while True:\n  c = s.getch()\n  if c == ord('q'): break\n"
               "  if c == curses.KEY_RESIZE: s.clear(); s.addstr(0, 0, '%dx%d' % s.getmaxyx()[::-1]); s.refresh()\n"
               "  else: s.addstr(7, 10, 'KEY-' + chr(c)); s.refresh()\ncurses.wrapper(main)\n")
    box.daemon.put(f"/v1/sandboxes/{box.id}/files?path=full.py", raw=program.encode(), expect=200)
    with open_terminal(box, cols=80, rows=24) as ws:
        screen = Screen(ws, 80, 24)
        ws.type("python3 app/full.py\n")
        assert "HELLO-BOX" in screen.shows("HELLO-BOX")[5]
        ws.type("k")
        screen.shows("KEY-k")
        screen.resize(90, 30)
        ws.type("k") # curses may have looked for the signal just before it began to read
        screen.shows("90x30")
        ws.type("q")
        ws.type("echo back-$((40+2))\n")
        screen.shows("back-42")


def test_vim_and_top(box):
    with open_terminal(box, cols=80, rows=24) as ws:
        screen = Screen(ws, 80, 24)
        ws.type("cd app; export TERM=linux\n") # which is what the emulator speaks
        ws.type("vim.tiny -u NONE -N --cmd 'set enc=utf-8 laststatus=2' note.txt\n")
        assert "note.txt" in screen.shows("[New]", row=23)[23]
        ws.type("igrüße 木 an")
        screen.shows("grüße 木")
        ws.type("\x1b") # not Ctrl-C, which drops what is typed ahead
        screen.resize(60, 40)
        screen.shows("note.txt", row=38)
        ws.type(":1s/an/alle/\n:set number\n")
        assert screen.shows("  1 grüße 木 alle", row=0)[37][0] == "~"
        ws.type(":wq\n")
        screen.shows("app$") # it drops what is typed ahead
        ws.type("cat note.txt; echo do''ne; top; echo le''ft\n")
        screen.shows("PID USER")
        ws.type("\x03")
        screen.shows("left") # top drops it, too
        ws.type("clear; echo back-$((40+2))\n")
        screen.shows("back-42")
    written = box.daemon.get(f"/v1/sandboxes/{box.id}/files/content?path=note.txt", expect=200).body
    assert written == "grüße 木 alle\n".encode()


def test_detach_attach_and_two_viewers(box):
    with open_terminal(box) as ws:
        process = first_note(ws)["attached"]["process"]
        ws.type("echo before-$((1+1))\n")
        ws.until("before-2")
    with open_terminal(box, process=process) as one, open_terminal(box, process=process) as two:
        one.until("before-2")
        two.until("before-2") # what was on the screen
        one.type("echo both-$((2+2))\n")
        one.until("both-4")
        two.until("both-4")
        two.type("exit\n")
        assert one.closed() == 1000 and two.closed() == 1000
    p = box.daemon.get(f"/v1/sandboxes/{box.id}/processes/{process}").json()
    assert p["status"] == "exited" and p["pty"] is True


def status(box, process):
    return box.daemon.get(f"/v1/sandboxes/{box.id}/processes/{process}", expect=200).json()["status"]


def audit(box, process):
    """(action, why) of the terminals of a process, in order."""
    con = sqlite3.connect(f"file:{box.daemon.data_dir}/state/sandboxd.db?mode=ro", uri=True)
    try:
        rows = con.execute("SELECT tenant, actor, action, detail FROM audit WHERE target = ? AND "
                           "action LIKE 'terminal.%' ORDER BY number", (box.id,)).fetchall()
    finally:
        con.close()
    out = []
    for tenant, actor, action, detail in rows:
        detail = json.loads(detail)
        assert (tenant, actor, detail["remote"]) == ("local", "local", "127.0.0.1")
        if detail["process"] == process:
            out.append((action, detail["why"]))
    return out


def test_what_is_silent_or_alone_is_ended(make_daemon):
    d = make_daemon(SANDBOXD_TERMINAL_IDLE=f"{PATIENCE:g}s", SANDBOXD_REAP_INTERVAL="200ms")
    box = Sandbox.create(d)
    with open_terminal(box) as alone:
        left = first_note(alone)["attached"]["process"]
    with open_terminal(box) as silent, open_terminal(box) as busy:
        process = first_note(silent)["attached"]["process"]
        watched = first_note(busy)["attached"]["process"]
        busy.type("while :; do echo tick; sleep 0.3; done\n")
        assert silent.closed() == 1000
        until(lambda: status(box, process) != "running", 20, "its process ends a little later")
        until(lambda: status(box, left) != "running", 20, "nobody came back")
        busy.until("tick") # shown all the time, so it stays
        assert status(box, watched) == "running"
    assert audit(box, process) == [("terminal.open", None), ("terminal.detach", "idle")]
    assert audit(box, left) == [("terminal.open", None), ("terminal.detach", "left")]


def flood(ws, wanted):
    """Reads up to `wanted`: (bytes, what it was told to have missed)."""
    got, lost, tail, end = 0, 0, b"", time.monotonic() + 60 * PATIENCE
    while wanted not in tail:
        assert time.monotonic() < end
        op, data = ws.recv()
        if op == BINARY:
            got, tail = got + len(data), tail[-100:] + data
        elif op == TEXT:
            lost += json.loads(data).get("truncated", {}).get("lost_bytes", 0)
    return got, lost


FLOOD = "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo EN''D\n"


def test_a_slow_viewer_misses_something_and_holds_up_nobody(box):
    with open_terminal(box) as ws:
        process = first_note(ws)["attached"]["process"]
        with open_terminal(box, process=process) as slow:
            first_note(slow)
            before = box.daemon.rss_kib()
            ws.type(FLOOD)
            got, lost = flood(ws, b"END\r\n")
            assert got + lost > 20_000_000
            assert box.daemon.rss_kib() - before < box.daemon.rss_slack(8 * 1024)
            behind, missed = flood(slow, b"END\r\n")
            assert missed > 5_000_000 and behind + missed > 20_000_000
            slow.type("exit\n")
            assert ws.closed() == 1000
    until(lambda: len(audit(box, process)) == 4)
    assert audit(box, process)[:2] == [("terminal.open", None), ("terminal.attach", None)]
    assert {w for _, w in audit(box, process)[2:]} == {"exit"}


def test_a_viewer_that_takes_nothing_is_cut(make_daemon):
    d = make_daemon(SANDBOXD_PEER_STALL=f"{PATIENCE:g}s") # whoever reads may be slow, too
    box = Sandbox.create(d)
    with open_terminal(box) as ws:
        process = first_note(ws)["attached"]["process"]
        with open_terminal(box, process=process) as deaf:
            ws.type(FLOOD)
            flood(ws, b"END\r\n")
            until(lambda: ("terminal.detach", "stalled") in audit(box, process), 20, "it is cut")
            assert deaf.closed() is None
        ws.type("echo go''es on\n")
        ws.until("goes on")


def test_it_survives_the_daemon(box):
    with open_terminal(box) as ws:
        process = first_note(ws)["attached"]["process"]
        ws.type("X=kept; echo rea''dy\n")
        ws.until("ready\r\n")
    box.daemon.restart(hard=True)
    with open_terminal(box, process=process) as ws:
        ws.type("echo $X-$X\n")
        ws.until("kept-kept")
        ws.type("exit\n")
        assert ws.closed() == 1000


def test_shutdown_says_going_away(box):
    with open_terminal(box) as ws:
        first_note(ws)
        box.daemon.stop()
        assert ws.closed() == 1001
    box.daemon.start()


def test_handshakes_that_are_refused(box):
    path = f"/v1/sandboxes/{box.id}/terminal"
    for name, where, headers, status in [
        ("no upgrade", path, {"Upgrade": None}, 400),
        ("other upgrade", path, {"Upgrade": "h2c"}, 400),
        ("no connection", path, {"Connection": "keep-alive"}, 400),
        ("old version", path, {"Sec-WebSocket-Version": "8"}, 400),
        ("no key", path, {"Sec-WebSocket-Key": None}, 400),
        ("odd key", path, {"Sec-WebSocket-Key": "short"}, 400),
        ("foreign page", path, {"Origin": "https://evil.example"}, 403),
        ("cross site", path, {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ("foreign host", path, {"Host": "evil.example"}, 421),
        ("no such sandbox", "/v1/sandboxes/01" + "Z" * 24 + "/terminal", {}, 404),
        ("no such process", path + "?process=01" + "Z" * 24, {}, 404),
        ("not an id", path + "?process=../x", {}, 404),
        ("odd size", path + "?cols=0", {}, 400),
        ("huge size", path + "?rows=100000", {}, 400),
        ("unknown parameter", path + "?x=1", {}, 400),
    ]:
        with pytest.raises(Refused) as refused:
            WebSocket(box.daemon.port, where, headers)
        assert refused.value.status == status, name


def test_a_process_without_a_terminal(box):
    p = box.daemon.post(f"/v1/sandboxes/{box.id}/processes", {"cmd": ["sleep", "100"]}).json()
    with pytest.raises(Refused) as refused:
        open_terminal(box, process=p["id"])
    assert refused.value.status == 409
    box.daemon.delete(f"/v1/sandboxes/{box.id}/processes/{p['id']}")


def test_peers_that_break_the_rules(box):
    cases = {
        "unmasked": (lambda ws: ws.send(BINARY, b"x", mask=False), {1002, None}),
        "reserved bit": (lambda ws: ws.send(BINARY, b"x", rsv=4), {1002, None}),
        "unknown opcode": (lambda ws: ws.send(3, b"x"), {1002, 1003, None}),
        "unknown control": (lambda ws: ws.send(11, b"x"), {1002, 1003, None}),
        "long ping": (lambda ws: ws.send(PING, b"x" * 126), {1002, None}),
        "ping in pieces": (lambda ws: ws.send(PING, b"x", fin=False), {1002, None}),
        "giant frame": (lambda ws: ws.send(BINARY, b"xx", length=1 << 40), {1009, None}),
        "text in pieces": (lambda ws: ws.send(TEXT, b"{", fin=False), {1009, None}),
        "not json": (lambda ws: ws.send(TEXT, b"hello"), {1008}),
        "unknown order": (lambda ws: ws.send(TEXT, b'{"run":"x"}'), {1008}),
        "odd resize": (lambda ws: ws.send(TEXT, b'{"resize":{"cols":0,"rows":1}}'), {1008}),
    }
    for name, (act, codes) in cases.items():
        with open_terminal(box) as ws:
            first_note(ws)
            act(ws)
            assert ws.closed() in codes, name
    with open_terminal(box) as ws:
        first_note(ws)
        ws.send(PING, b"are you there")
        while True:
            op, data = ws.recv()
            if op == PONG:
                break
        assert data == b"are you there"
        ws.send(CLOSE, (1000).to_bytes(2, "big"))
        assert ws.closed() == 1000
    assert box.daemon.get("/healthz").status == 200


def test_other_tenants_see_nothing():
    import sandboxd
    d = sandboxd.Daemon(SANDBOXD_API_AUTH_DISABLED="false",
                        SANDBOXD_API_TOKENS="ann:secret-of-ann-0123456789,bob:secret-of-bob-0123456789")
    try:
        d.start()
        ann = Client(d.port, token="secret-of-ann-0123456789")
        box = ann.post("/v1/sandboxes", {}, expect=201).json()["id"]
        path = f"/v1/sandboxes/{box}/terminal"
        for headers, status in [({}, 401), ({"Authorization": "Bearer secret-of-bob-0123456789"}, 404)]:
            with pytest.raises(Refused) as refused:
                WebSocket(d.port, path, headers)
            assert refused.value.status == status
        with WebSocket(d.port, path, {"Authorization": "Bearer secret-of-ann-0123456789"}) as ws:
            ws.until("$")
        ann.delete(f"/v1/sandboxes/{box}", expect=204)
    finally:
        d.close()
