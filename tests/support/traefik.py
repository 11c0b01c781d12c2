"""The real Traefik in front of a daemon, natively and on loopback ports only.

    with Traefik(d) as t:                      # configured by `sandboxd print-traefik`
        t.wait_router(f"s-{id}-3000@docker")
        t.get(host, "/")                       # a request as a visitor sends it
        with t.raw(host) as r: ...             # the same, byte by byte

The daemon must have been made with ports(): settings that keep Traefik on loopback."""
import contextlib
import json
import os
import pathlib
import signal
import ssl
import subprocess

import sandboxd

BINARY = os.environ.get("SANDBOXED_TEST_TRAEFIK", "/var/cache/sandboxed-test/traefik")
# What Traefik itself answers; whoever sees it was left alone by the edge.
OWN_WORDS = (b"Bad Gateway", b"Gateway Timeout", b"Service Unavailable", b"Internal Server Error",
             b"404 page not found\n", b"no available server\n")


def ports(**settings):
    """Settings of a daemon whose previews are reached through loopback ports."""
    return {"PREVIEW_BIND": "127.0.0.1", "HTTP_PORT": sandboxd.free_port(),
            "HTTPS_PORT": sandboxd.free_port(), "SANDBOXD_PORT_WAIT": "15s"} | settings


def own_answer(reply):
    """Did Traefik answer by itself, in place of the edge?"""
    return reply.body in OWN_WORDS


class Traefik:
    def __init__(self, daemon, api=True):
        self.daemon = daemon
        self.dir = pathlib.Path(daemon.dir, "traefik")
        self.log_path = self.dir / "stderr.log"
        self.tls = daemon.env.get("PREVIEW_TLS") == "true"
        self.port = int(daemon.env["HTTPS_PORT" if self.tls else "HTTP_PORT"])
        self.plain_port = int(daemon.env["HTTP_PORT"])
        self.process, self.api = None, None
        self.configure()
        if api:
            self._open_api()

    def configure(self):
        """Writes both files, as an operator would."""
        subprocess.run([self.daemon.binary, "print-traefik", "--dir", str(self.dir)], check=True,
                       env=self.daemon.env, stdout=subprocess.DEVNULL)

    def _open_api(self):
        """Traefik's own API, for looking at its routers; the written file has none."""
        self.api = sandboxd.Client(sandboxd.free_port())
        static = self.dir / "traefik.yml"
        text = static.read_text()
        assert "\napi:" not in text and "dashboard" not in text
        head, mark, rest = text.partition("entryPoints:\n")
        static.write_text(f"{head}api:\n  insecure: true\n{mark}  traefik:\n"
                          f"    address: \"127.0.0.1:{self.api.port}\"\n{rest}")

    def start(self):
        with open(self.log_path, "ab") as log:
            # It must not outlive a killed test run.
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", BINARY, f"--configFile={self.dir}/traefik.yml"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        sandboxd.until(self._listens, 30, "Traefik listens")
        sandboxd.until(self._routes, 30, "Traefik has read its files")
        return self

    def _routes(self):
        """A preview of nobody is answered by the edge, not by Traefik itself."""
        domain = self.daemon.env.get("PREVIEW_DOMAIN", "localhost")
        try:
            return self.get(f"s-{'0' * 26}-1.preview.{domain}").text != "404 page not found\n"
        except OSError: # no certificate yet
            return False

    def _listens(self):
        assert self.process.poll() is None, self.log()
        with contextlib.suppress(OSError):
            sandboxd.socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20 * sandboxd.SLOW)
        finally:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log(self):
        return self.log_path.read_text()

    def errors(self):
        """Lines of its log that say that something is wrong."""
        return [line for line in self.log().splitlines()
                if json.loads(line).get("level") in ("error", "fatal", "panic")]

    def routers(self):
        """Its HTTP routers by name, its own aside."""
        r = self.api.get("/api/http/routers?per_page=1000", expect=(200, 404))
        found = r.json() if r.status == 200 else [] # it has not begun yet
        return {r["name"]: r for r in found if r["provider"] != "internal"}

    def wait_router(self, name, there=True, deadline_s=10.0):
        if self.api:
            sandboxd.until(lambda: (name in self.routers()) == there, deadline_s,
                           f"router {name} {'there' if there else 'gone'}")

    # visitors

    def client(self, timeout=60.0):
        return (TlsClient if self.tls else sandboxd.Client)(self.port, timeout=timeout)

    def get(self, host, path="/", **kw):
        return self.request("GET", host, path, **kw)

    def request(self, method, host, path="/", headers=None, timeout=60.0, **kw):
        c = self.client(timeout * sandboxd.SLOW)
        try:
            return c.request(method, path, headers={"Host": host} | (headers or {}), **kw)
        finally:
            c.close()

    def raw(self, timeout=10.0):
        return TlsRaw(self.port, timeout) if self.tls else sandboxd.Raw(self.port, timeout)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class TlsClient(sandboxd.Client):
    """Sends the name that it asks for as SNI, too, and checks the certificate against ca."""
    ca = None

    def request(self, method, path, headers=None, **kw):
        self._name = headers["Host"]
        return super().request(method, path, headers=headers, **kw)

    def _connection(self):
        conn = super()._connection()
        if conn.sock is None:
            conn.sock = tls_connect(self.port, self._name, self.timeout)
        return conn


class TlsRaw(sandboxd.Raw):
    def __init__(self, port, timeout=10.0, name="x.preview.localhost"):
        self.sock = tls_connect(port, name, timeout * sandboxd.SLOW)
        self._reader = self.sock.makefile("rb")


def tls_connect(port, name, timeout):
    context = ssl.create_default_context(cafile=TlsClient.ca)
    sock = sandboxd.socket.create_connection(("127.0.0.1", port), timeout)
    return context.wrap_socket(sock, server_hostname=name)


def make_certificate(directory, *names):
    """A self-made wildcard certificate where `print-traefik` looks for one."""
    certs = pathlib.Path(directory, "certs")
    certs.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=sandboxed test", "-keyout", certs / "preview.key",
         "-out", certs / "preview.crt", "-addext",
         "subjectAltName=" + ",".join("DNS:" + n for n in names)],
        check=True, capture_output=True)
    TlsClient.ca = str(certs / "preview.crt")
