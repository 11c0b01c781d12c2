"""Previews in a real browser, through the real Traefik: sleep and wake, the page that follows a start,
a Vite app with its hot updates, the way into a private preview.

SANDBOXED_TEST_PICTURES=directory keeps pictures of the pages, for the eye."""
import os
import threading
import time

import pytest

import browser
import traefik
from edge import host_of
from preview_app import service
from sandboxd import SLOW, Sandbox, until
from traefik import Traefik

pytestmark = [pytest.mark.drill,
              pytest.mark.skipif(not (browser.CHROMEDRIVER and browser.CHROMIUM),
                                 reason="no chromium with chromedriver here")]
VITE = os.environ.get("SANDBOXED_TEST_VITE", "/var/cache/sandboxed-test/vite.tar.gz")


@pytest.fixture(scope="module")
def _driver():
    with browser.Driver() as d:
        yield d


@pytest.fixture
def tab(_driver):
    with _driver.browser(lead=("*.box.test",)) as b:
        yield b
        assert b.complaints() == []


@pytest.fixture
def pair(make_daemon):
    """Makes a daemon with these settings and its Traefik."""
    fronts = []

    def make(**settings):
        d = make_daemon(**traefik.ports(**settings))
        front = Traefik(d, api=False)
        if front.tls:
            domain = settings["PREVIEW_DOMAIN"]
            traefik.make_certificate(front.dir, f"*.preview.{domain}", f"*.{domain}")
        fronts.append(front)
        return d, front.start()

    yield make
    for front in fronts:
        front.stop()


def address(sandbox, front, port=3000):
    return f"http{'s' * front.tls}://{host_of(sandbox, port)}:{front.port}/"


def test_open_sleep_open_again(pair, tab):
    d, front = pair(SANDBOXD_WAKE_PAGE_AFTER="10m", SANDBOXD_REAP_INTERVAL="100ms")
    s = Sandbox.create(d, ports=[3000], services=[service(3000)])
    seen = []

    def look():
        tab.open(address(s, front))
        assert tab.text.startswith("app 3000 boot "), tab.text
        seen.append(tab.text)

    look()
    s.stop()
    look()
    s.purge()
    idle = Sandbox.create(d, id=s.id, ports=[3000], services=[service(3000)], idle_timeout_s=2)
    look()
    # The browser keeps its connection open; that is no use of the sandbox.
    until(lambda: idle.status == "stopped", 60, "asleep")
    look()
    assert len(set(seen)) == 4


SLOW_APP = """
import http.server, os, pathlib, time
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<link rel=icon href='data:,'><h1>it is up</h1>")
while not pathlib.Path("go").exists():
    time.sleep(0.05)
http.server.HTTPServer(("127.0.0.1", 3000), App).serve_forever()
"""
NOW = "return document.querySelector('li.now')?.innerText"


def test_the_page_that_follows_a_start(engine_proxy, pair, tab):
    d, front = pair(SANDBOXD_WAKE_PAGE_AFTER="200ms", SANDBOXD_PORT_WAIT="2m",
                    DOCKER_HOST=engine_proxy.docker_host)
    s = Sandbox.create(d, ports=[3000], services=[
        {"name": "slow", "port": 3000, "cmd": ["python3", "-c", SLOW_APP]}])
    s.stop()
    go_on = threading.Event()

    def hold(x):
        assert go_on.wait(60 * SLOW)
        x.send(x.forward())

    engine_proxy.on(r"POST /containers/[^/]*/start", hold, times=1)
    tab.open(address(s, front) + "deep/page?a=1#part")
    assert tab.title == "Starting your sandbox…"
    tab.until(f"{NOW} === 'Starting its container'", what="the Engine's part is shown")
    tab.picture("starting.png")
    go_on.set()
    tab.until(f"{NOW} === 'Waiting for its app'", what="the app's part is shown")
    tab.until("return document.getElementById('note').innerText === arguments[0]",
              "Nothing listens on port 3000 yet.")
    assert tab.js("return document.querySelectorAll('li.past').length") == 4
    tab.picture("waiting.png")
    s.put_file("go", b"")
    tab.wait_text("h1", "it is up")
    assert tab.url == address(s, front) + "deep/page?a=1#part"


def test_pages_say_what_is_wrong(pair, tab):
    d, front = pair(SANDBOXD_WAKE_PAGE_AFTER="200ms", SANDBOXD_PORT_WAIT="2s")
    s = Sandbox.create(d, ports=[3000], services=[
        {"name": "web", "port": 3000, "cmd": "test -e mended && exec python3 -m http.server 3000; exit 7"}])
    s.stop()
    tab.open(address(s, front))
    tab.wait_text("h1", "Your sandbox is not ready")
    # It may end its wait before it has heard of an end.
    tab.until("return document.body.innerText.includes(arguments[0])",
              'Its service "web" keeps ending with status 7')
    tab.picture("crash-loop.png")
    # The page goes on looking: who mends the app need not touch it.
    s.put_file("mended", b"")
    s.client.post(s.v1 + "/services/web/start", expect=200)
    tab.until("return document.title.startsWith('Directory listing')")
    tab.open(address(s, front, 3001))
    assert tab.title == "Nothing listens on port 3001"
    assert "Ports that listen: 3000" in tab.text
    tab.picture("port.png")
    tab.open(address(s, front).replace("//s-", "//s-0"))
    assert tab.title == "There is no such preview"


@pytest.mark.timeout(300)
def test_a_vite_app(pair, tab):
    d, front = pair(PREVIEW_DOMAIN="box.test", SANDBOXD_API_AUTH_DISABLED="false",
                    SANDBOXD_API_TOKENS="one:first-secret-1", SANDBOXD_REAP_INTERVAL="100ms",
                    SANDBOXD_WAKE_PAGE_AFTER="10m")
    s = Sandbox.create(d, d.client("first-secret-1"), ports=[5173], idle_timeout_s=2)
    with open(VITE, "rb") as archive:
        s.client.post(f"{s.v1}/files/import?path=.", raw=archive, expect=200)
    s.client.post(f"/sandbox/{s.id}/exec", {
        "cmd": ["./node", "node_modules/vite/bin/vite.js"], "cwd": "/home/sandbox/workspace/app",
        "service": "vite"}, expect=200)
    tab.open(address(s, front, 5173))
    tab.wait_text("#word", "first")
    loaded = tab.js("return window.loaded")

    def listens(): # updates are for who is connected, and the page shows its word before that
        until(lambda: "\nsandboxd_edge_streams 1\n" in s.client.get("/metrics").text, 30,
              "its socket is open")

    listens()
    # A hot update, by the socket alone.
    s.put_file("word.js", b'export const word = "second";\n')
    tab.wait_text("#word", "second")
    s.put_file("style.css", b"h1 { color: rgb(0, 120, 0); }\n")
    tab.until("return getComputedStyle(document.querySelector('h1')).color === 'rgb(0, 120, 0)'")
    # Its open socket keeps the sandbox awake, well beyond the time; nothing else does.
    time.sleep(4) # nothing is to happen
    assert s.status == "running", s.client.get(s.v1 + "/why").text
    s.put_file("word.js", b'export const word = "third";\n')
    tab.wait_text("#word", "third")
    assert tab.js("return window.loaded") == loaded and tab.complaints() == []
    tab.open("about:blank")
    until(lambda: s.status == "stopped", 60, "asleep")
    tab.open(address(s, front, 5173))
    tab.wait_text("#word", "third")
    # Stopped under it: the socket breaks, Vite's own client asks until somebody answers, and so
    # wakes it; then it loads the page anew, and its updates go on.
    loaded = tab.js("return window.loaded")
    s.stop()
    tab.until("return window.loaded !== undefined && window.loaded !== arguments[0]", loaded,
              what="Vite's client loads its page anew", deadline_s=60)
    tab.wait_text("#word", "third")
    listens()
    s.put_file("word.js", b'export const word = "fourth";\n')
    tab.wait_text("#word", "fourth")
    tab.complaints() # that its connection was lost, as it was


def test_the_way_into_a_private_preview(pair, tab):
    d, front = pair(PREVIEW_TLS="true", PREVIEW_DOMAIN="box.localhost",
                    SANDBOXD_WAKE_PAGE_AFTER="10m")
    s = Sandbox.create(d, ports=[3000], services=[service(3000)], visibility="private")
    url = address(s, front)
    tab.open(url)
    assert tab.title == "This preview is private"
    tab.picture("private.png")

    def share(**fields):
        return s.client.post(s.v1 + "/shares", fields, expect=201).json()

    link = share()
    tab.open(link["url"])
    assert tab.text.startswith("app 3000 ") and tab.url == url # the code is out of the address
    cookie = tab.cookies()[f"__Host-sandboxed-{s.id.lower()}"]
    assert cookie["domain"] == host_of(s) and cookie["path"] == "/"
    assert cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Lax"
    tab.js("document.cookie = 'own=1'")
    tab.open(url + "seen/headers")
    assert '["Cookie", "own=1"]' in tab.text and link["url"].partition("=")[2] not in tab.text
    # Revoked, its open socket is cut and the page closed to it.
    tab.js("window.socket = new WebSocket(location.origin.replace('http', 'ws') + '/ws')")
    tab.until("return window.socket.readyState === 1", what="the socket is open")
    s.client.delete(f"{s.v1}/shares/{link['id']}", expect=204)
    tab.until("return window.socket.readyState === 3", what="the socket is cut", deadline_s=5)
    tab.reload()
    assert tab.title == "This preview is private"
    # A link for one time: not for a second browser.
    once = share(once=True)
    tab.open(once["url"])
    assert tab.text.startswith("app 3000 ")
    with tab.driver.browser() as other:
        other.open(once["url"])
        assert other.title == "This preview is private" and "not valid" in other.text
        # Open to all, and closed again, while it runs.
        s.client.request("PATCH", s.v1, json={"visibility": "public"}, expect=200)
        other.open(url)
        assert other.text.startswith("app 3000 ") and not other.cookies()
        s.client.request("PATCH", s.v1, json={"visibility": "private"}, expect=200)
        other.reload()
        assert other.title == "This preview is private"
        assert other.complaints() == []
    tab.reload()
    assert tab.text.startswith("app 3000 ")
