"""A real browser: headless Chromium, driven by its own chromedriver (W3C WebDriver) without a library.

    with Driver() as driver, driver.browser() as b:      # a fresh profile each
        b.open("http://s-...-3000.preview.localhost/")   # returns when the page has loaded
        b.js("return document.title")                    # what a script in the page returns
        b.until("return window.done", what="the page's end")
        b.wait_text("h1", "first")
        b.complaints()                                   # what the page's console says is wrong
        b.picture("wake.png")                            # only with SANDBOXED_TEST_PICTURES=directory

Chromium finds *.localhost on loopback by itself; other names lead there by lead=("*.box.test",)."""
import base64
import contextlib
import ctypes
import errno
import http.client
import json
import os
import pathlib
import platform
import shutil
import struct
import subprocess

from sandboxd import SLOW, free_port, until

CHROMEDRIVER = shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium")
PICTURES = os.environ.get("SANDBOXED_TEST_PICTURES")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf" # the standard's key of an element's reference


_libc = ctypes.CDLL(None, use_errno=True)


def _deaf_to_networks():
    """Chromium breaks off what it does whenever an address of the machine changes, and the tests beside
    it make networks all the time. Without a netlink socket it does not hear of them: a filter of the
    kernel's refuses those to this process and its children."""
    socket_nr = {"x86_64": 41, "aarch64": 198}[platform.machine()]
    rows = [(0x20, 0, 0, 0),                                # load the number of the call
            (0x15, 0, 3, socket_nr),                        # another: allow
            (0x20, 0, 0, 16),                               # load its first argument
            (0x15, 0, 1, 16),                               # not AF_NETLINK: allow
            (0x06, 0, 0, 0x50000 | errno.EAFNOSUPPORT),     # refuse
            (0x06, 0, 0, 0x7fff0000)]                       # allow
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *r) for r in rows))
    program = struct.pack("HxxxxxxP", len(rows), ctypes.addressof(code))
    no_new_privileges, seccomp, by_filter = 38, 22, 2
    if _libc.prctl(no_new_privileges, 1, 0, 0, 0) or _libc.prctl(seccomp, by_filter, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


class Driver:
    """One chromedriver process; its browsers end with it."""

    def __init__(self):
        self.port, self.process = free_port(), None

    def call(self, method, path, body=None, timeout=120):
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOW)
        try:
            conn.request(method, path, body=None if method != "POST" else json.dumps(body or {}),
                         headers={"Content-Type": "application/json"})
            reply = conn.getresponse()
            value = json.loads(reply.read())["value"]
        finally:
            conn.close()
        if reply.status != 200:
            raise AssertionError(f"{method} {path}: {value['error']}: {value['message']}")
        return value

    def browser(self, lead=()):
        return Browser(self, lead)

    def _ready(self):
        assert self.process.poll() is None, "chromedriver ended"
        with contextlib.suppress(OSError):
            return self.call("GET", "/status")["ready"]
        return False

    def __enter__(self):
        # It must not outlive a killed test run.
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", CHROMEDRIVER, f"--port={self.port}",
             "--log-level=SEVERE"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=_deaf_to_networks)
        until(self._ready, 30, "chromedriver is ready")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Browser:
    def __init__(self, driver, lead=()):
        self.driver, self.path = driver, None
        # As root in a test machine: no sandbox of its own; small /dev/shm; nothing by a proxy. A page
        # that was left is gone at once, with its sockets, not kept for a way back.
        self.arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                          "--disable-gpu", "--no-proxy-server", "--window-size=1000,760",
                          "--disable-features=BackForwardCache",
                          "--host-resolver-rules=" + ",".join(f"MAP {n} 127.0.0.1" for n in lead)]

    def _post(self, path, **body):
        return self.driver.call("POST", self.path + path, body)

    def _get(self, path):
        return self.driver.call("GET", self.path + path)

    def open(self, url):
        """Goes there, as if typed into the address bar."""
        self._post("/url", url=url)

    def reload(self):
        self._post("/refresh")

    @property
    def url(self):
        return self._get("/url")

    @property
    def title(self):
        return self._get("/title")

    @property
    def text(self):
        """What a person reads."""
        return self.js("return document.body.innerText")

    def js(self, script, *arguments):
        return self._post("/execute/sync", script=script, args=list(arguments))

    def until(self, script, *arguments, deadline_s=30, what=None):
        return until(lambda: self.js(script, *arguments), deadline_s, what or script, every_s=0.05)

    def wait_text(self, selector, text, deadline_s=30):
        """Waits until the first such element shows this text."""
        self.until("return document.querySelector(arguments[0])?.innerText === arguments[1]",
                   selector, text, deadline_s=deadline_s, what=f"{selector} shows {text!r}")

    def click(self, selector):
        element = self._post("/element", using="css selector", value=selector)[ELEMENT]
        self._post(f"/element/{element}/click")

    def cookies(self):
        """Of the page's host, those that no script sees too."""
        return {c["name"]: c for c in self._get("/cookie")}

    def complaints(self):
        """What its console holds against the pages since the last look: errors of scripts, broken
        policies, things that did not load. That a page came with a status of 400 or more is said there,
        too, and is no complaint about the page."""
        return [e["message"] for e in self._post("/se/log", type="browser")
                if not (e["source"] == "network" and "the server responded with a status of" in
                        e["message"])]

    def picture(self, name):
        if PICTURES:
            data = base64.b64decode(self._get("/screenshot"))
            pathlib.Path(PICTURES, name).write_bytes(data)

    def __enter__(self):
        options = {"binary": CHROMIUM, "args": self.arguments}
        made = self.driver.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "acceptInsecureCerts": True,
            "goog:loggingPrefs": {"browser": "WARNING"}}}})
        self.path = f"/session/{made['sessionId']}"
        return self

    def __exit__(self, *_):
        self.driver.call("DELETE", self.path)
