"""The terminal over WebSocket: real shells and full-screen programs behind a real terminal emulator, detaching and
attaching, several viewers, peers that break the rules."""
import json
import time

import pytest

from sandboxd import Client, until
from websocket import BINARY, CLOSE, PING, PONG, TEXT, Refused, WebSocket

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def box(request):
    import sandboxd
    d = sandboxd.Daemon(SANDBOXD_TERMINAL_IDLE="4s", SANDBOXD_REAP_INTERVAL="200ms")
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
        assert set(first_note(ws)["attached"]) == {"process"}
        ws.type("stty size; tty; echo $TERM; id -un\n")
        out = ws.until("sandbox\r\n")
        assert b"31 101" in out and b"/dev/pts/" in out and b"xterm-256color" in out
        ws.resize(77, 22)
        ws.type("stty size\n")
        ws.until("22 77")
        ws.type("exit 7\n")
        with pytest.raises(EOFError):
            ws.until("never")
        assert ws.notes[-1]["exit"]["exit_code"] == 7 and ws.notes[-1]["exit"]["status"] == "exited"


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


def test_a_full_screen_program(box):
    pyte = pytest.importorskip("pyte")
    screen = pyte.Screen(80, 24)
    stream = pyte.ByteStream(screen)
    program = ("import curses\ndef main(s):\n s.addstr(5, 10, 'HELLO-BOX'); s.refresh()\n"
               " while True:\n  c = s.getch()\n  if c == ord('q'): break\n"
               "  if c == curses.KEY_RESIZE: s.clear(); s.addstr(0, 0, '%dx%d' % s.getmaxyx()[::-1]); s.refresh()\n"
               "  else: s.addstr(7, 10, 'KEY-' + chr(c)); s.refresh()\ncurses.wrapper(main)\n")
    box.daemon.put(f"/v1/sandboxes/{box.id}/files?path=full.py", raw=program.encode(), expect=200)

    def shows(ws, text):
        end = time.monotonic() + 20
        while not any(text in row for row in screen.display):
            op, data = ws.recv(max(0.01, end - time.monotonic()))
            if op == BINARY:
                stream.feed(data)
        return True

    with open_terminal(box, cols=80, rows=24) as ws:
        ws.type("python3 app/full.py\n")
        assert shows(ws, "HELLO-BOX") and "HELLO-BOX" in screen.display[5]
        ws.type("k")
        assert shows(ws, "KEY-k")
        screen.resize(30, 90)
        ws.resize(90, 30)
        assert shows(ws, "90x30")
        ws.type("q")
        ws.type("echo back-$((40+2))\n")
        assert shows(ws, "back-42")


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


def test_a_terminal_nobody_looks_at_is_ended(box):
    with open_terminal(box) as ws:
        process = first_note(ws)["attached"]["process"]
    until(lambda: box.daemon.get(f"/v1/sandboxes/{box.id}/processes/{process}").json()["status"] != "running",
          deadline_s=30, what="the idle cap")
    with open_terminal(box) as ws: # a watched one stays
        process = first_note(ws)["attached"]["process"]
        until(lambda: time.monotonic(), what="now")
        begun = time.monotonic()
        until(lambda: time.monotonic() - begun > 6, deadline_s=20, what="longer than the cap")
        ws.type("echo still-$((3+3))\n")
        ws.until("still-6")


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
