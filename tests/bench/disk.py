"""Section of run.py about workspaces: large files, many files, searching and packing them, beside
what the host's own tools need for the same files on the same disk."""
import os
import random
import statistics
import subprocess
import time

from sandboxd import Client, Sandbox

GIB = 1 << 30
MIB = 1 << 20
TREE_FILES = 20000
TREE_BYTES = 243 * MIB
ROUNDS = 3 # in turn with the floor; the best of each, for others share the cores


def files(bench, row):
    stream(bench, row)
    box = Sandbox(bench.daemon, bench.create())
    grow(box)
    listing(bench, box, row)
    search(bench, box, row)
    export(bench, box, row)
    box.purge()


def shell(line, **more):
    began = time.perf_counter()
    subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True, **more)
    return time.perf_counter() - began


def stream(bench, row):
    path = f"/v1/sandboxes/{bench.box}/files"
    size = GIB // 8 if bench.quick else GIB
    chunk = os.urandom(MIB)
    big = bench.daemon.workspace(bench.box) / "workspace/app/big.bin"
    floor = big.parent.parent / "floor.bin" # of the same file system

    def up():
        c = Client(bench.daemon.port, timeout=600)
        c.put(path + "?path=big.bin", raw=(chunk for _ in range(size // MIB)),
              headers={"Content-Type": "application/octet-stream",
                       "Content-Length": str(size)}, expect=(200, 201))

    def down():
        got = 0
        with bench.daemon.client(timeout=600).stream("GET", path + "/content?path=big.bin") as s:
            while data := s.read(MIB):
                got += len(data)
        assert got == size, got

    own = {"up": lambda: shell(f"dd if=/dev/zero of={floor} bs=1M count={size // MIB} conv=fsync "
                               "status=none"),
           "down": lambda: shell(f"dd if={big} of=/dev/null bs=1M status=none")}
    for what, call in (("up", up), ("down", down)):
        ours, theirs, growth = [], [], 0
        for _ in range(ROUNDS):
            theirs.append(own[what]())
            seconds, grown = bench.peak_growth(call)
            ours.append(seconds)
            growth = max(growth, grown)
        mine, dd = size / MIB / min(ours), size / MIB / min(theirs)
        row(f"{size // MIB:,} MiB streamed {what}", f"{mine:,.0f} MiB/s",
            "≥ 477 MiB/s or the disk's own", mine >= 477 or mine >= dd, f"dd: {dd:,.0f} MiB/s")
        row(f"memory of that, {what}", f"RSS +{growth:.1f} MiB", "≤ 8 MiB", growth <= 8)
    floor.unlink()
    bench.client.delete(path + "?path=big.bin", expect=204)


def grow(box):
    """20,000 files of source-like text in 200 directories; the same bytes each time."""
    dice = random.Random(5)
    words = ["".join(dice.choices("etaoinshrdlucmfwypvbgkqjxz", k=dice.randint(2, 11)))
             for _ in range(4000)]
    text = " ".join(dice.choices(words, k=400000))
    size = TREE_BYTES // TREE_FILES
    app = box.workspace / "workspace/app"
    for d in range(200):
        (app / f"d{d}").mkdir()
        for f in range(TREE_FILES // 200):
            at = dice.randrange(len(text) - size)
            body = text[at:at + size]
            lines = "\n".join(body[i:i + 79] for i in range(0, size, 80))
            (app / f"d{d}/f{f}.txt").write_text(lines)
    (app / "d77/f7.txt").write_text("here is the needleinahaystack\n")


def listing(bench, box, row):
    took = []
    for _ in range(bench.n(8)):
        began = time.perf_counter()
        body = box.client.get(box.v1 + "/files?path=.&recursive=true", expect=200).body
        took.append((time.perf_counter() - began) * 1000)
    assert body.count(b'"path"') >= TREE_FILES
    p50 = statistics.median(took)
    row(f"list of {TREE_FILES:,} files", f"{p50:.0f} ms", "≤ 150 ms", p50 <= 150)


def search(bench, box, row):
    ours, theirs = [], []
    app = box.workspace / "workspace/app"
    for _ in range(bench.n(8)):
        theirs.append(shell(f"rg --no-config -n needleinahaystack {app} >/dev/null"))
        began = time.perf_counter()
        found = box.client.get(box.v1 + "/files/search?q=needleinahaystack", expect=200).json()
        ours.append(time.perf_counter() - began)
        assert len(found["matches"]) == 1 and found["bytes"] > TREE_BYTES * 0.9, found
    ours, theirs = min(ours), min(theirs)
    row("search of 243 MiB for a word", f"{ours * 1000:.0f} ms", "≤ 2 × ripgrep",
        ours <= 2 * theirs, f"{theirs * 1000:.0f} ms (× {ours / theirs:.2f})")


def export(bench, box, row):
    ours, theirs = [], []
    app, port = box.workspace / "workspace/app", bench.daemon.port
    url = f"http://127.0.0.1:{port}{box.v1}/files/export?path=."
    for _ in range(ROUNDS):
        theirs.append(shell(f"tar -C {app} -cf - . | zstd -3 -q >/dev/null"))
        ours.append(shell(f"curl -sSf '{url}' >/dev/null"))
    ours, theirs = min(ours), min(theirs)
    row(f"export of {TREE_FILES:,} files, 243 MiB", f"{ours:.2f} s", "≤ 1.2 × tar, zstd -3",
        ours <= 1.2 * theirs, f"{theirs:.2f} s (× {ours / theirs:.2f})")
