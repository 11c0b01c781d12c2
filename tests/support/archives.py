"""Archives that a stranger could send, with what must come of each (T-7, T-8).

corpus() yields Case(name, data, files, skipped): `files` is what lies in the target afterwards as
{path: content}, `skipped` how many entries are refused; files None: the archive as a whole is
refused and leaves nothing."""
import gzip
import io
import struct
import tarfile
import warnings
import zipfile
from dataclasses import dataclass

LONG = "n" * 255
DEEP = "/".join(["d"] * 127)


@dataclass
class Case:
    name: str
    data: bytes
    files: dict
    skipped: int


def zstd(data):
    """A zstd frame of raw blocks: no compressor is needed."""
    out = b"\x28\xb5\x2f\xfd\x00\x58"
    pieces = [data[i:i + 65536] for i in range(0, len(data), 65536)] or [b""]
    for n, piece in enumerate(pieces):
        head = (n == len(pieces) - 1) | len(piece) << 3
        out += struct.pack("<I", head)[:3] + piece
    return out


def entry(name, content=b"x", kind=tarfile.REGTYPE, link="", mode=0o644, **more):
    return dict(name=name, content=content, kind=kind, link=link, mode=mode, **more)


def tar(entries, fmt=tarfile.GNU_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt, encoding="utf-8",
                      errors="surrogateescape") as t:
        for e in entries:
            info = tarfile.TarInfo(e["name"])
            info.type, info.linkname, info.mode = e["kind"], e["link"], e["mode"]
            info.uid = info.gid = e.get("uid", 0)
            if e["kind"] in (tarfile.CHRTYPE, tarfile.BLKTYPE):
                info.devmajor, info.devminor = 1, 3
            info.size = len(e["content"]) if e["kind"] == tarfile.REGTYPE else 0
            info.pax_headers = e.get("pax", {})
            t.addfile(info, io.BytesIO(e["content"]) if info.size else None)
    return out.getvalue()


def zipped(entries):
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        warnings.simplefilter("ignore") # about names that are there twice
        for e in entries:
            info = zipfile.ZipInfo("x")
            info.filename = e["name"]
            info.external_attr = e["mode"] << 16
            z.writestr(info, e["content"])
    return out.getvalue()


# name, entries, files that must be there (a text: a link to it), entries skipped; plain ones are made as zip, too
PLAIN = [
    ("one", [entry("a")], {"a": b"x"}, 0),
    ("nested", [entry("a/b/c", b"deep")], {"a/b/c": b"deep"}, 0),
    ("dot", [entry("./a"), entry("././b//c")], {"a": b"x", "b/c": b"x"}, 0),
    ("parent", [entry("../out"), entry("in")], {"in": b"x"}, 1),
    ("parent inside", [entry("a/../../out"), entry("in")], {"in": b"x"}, 1),
    ("parent that stays", [entry("a/../b")], {}, 1),
    ("parents", [entry("../" * 40 + "etc/cron.d/x"), entry("in")], {"in": b"x"}, 1),
    ("absolute", [entry("/etc/x"), entry("//tmp/x"), entry("in")], {"in": b"x"}, 2),
    ("control bytes", [entry("a\x01b"), entry("a\x1b[2Jb"), entry("a\nb"), entry("a\x7f"), entry("in")],
     {"in": b"x"}, 4),
    ("255 bytes", [entry(LONG)], {LONG: b"x"}, 0),
    ("256 bytes", [entry(LONG + "n"), entry("in")], {"in": b"x"}, 1),
    ("4 KiB name", [entry("/".join(["m" * 200] * 21)), entry("in")], {"in": b"x"}, 1),
    ("deep", [entry(DEEP + "/f")], {DEEP + "/f": b"x"}, 0),
    ("too deep", [entry(DEEP + "/d/d/f"), entry("in")], {"in": b"x"}, 1),
    ("twice", [entry("a", b"1"), entry("a", b"2")], {"a": b"2"}, 0),
    ("case clash", [entry("A", b"1"), entry("a", b"2")], {"A": b"1", "a": b"2"}, 0),
    ("file, then below it", [entry("a", b"1"), entry("a/b", b"2"), entry("in")], {"a": b"1", "in": b"x"}, 1),
    ("special bits", [entry("s", mode=0o4755), entry("g", mode=0o2755), entry("t", mode=0o1777)],
     {"s": b"x", "g": b"x", "t": b"x"}, 0),
    ("mode 0", [entry("z", mode=0)], {"z": b"x"}, 0),
    ("ours", [entry(".put-" + "0" * 32 + ".tmp"), entry("in")], {"in": b"x"}, 1),
    ("unicode", [entry("\u20ac/\U0001f600", b"u")], {"\u20ac/\U0001f600": b"u"}, 0),
    ("drive", [entry("C:x", b"c")], {"C:x": b"c"}, 0),
    ("spaces", [entry(" a "), entry("b. ")], {" a ": b"x", "b. ": b"x"}, 0),
    ("dashes", [entry("-rf"), entry("--help")], {"-rf": b"x", "--help": b"x"}, 0),
    ("empty file", [entry("e", b"")], {"e": b""}, 0),
    ("all bytes", [entry("b", bytes(range(256)) * 300)], {"b": bytes(range(256)) * 300}, 0),
    ("dots", [entry("..."), entry("..a"), entry("a..")], {"...": b"x", "..a": b"x", "a..": b"x"}, 0),
]

SYM, LNK, DIR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
TAR_ONLY = [
    ("backslash", [entry("..\\..\\x"), entry("a\\b"), entry("in")], {"in": b"x"}, 2),
    ("link out", [entry("l", kind=SYM, link="/etc"), entry("in")], {"in": b"x"}, 1),
    ("link in", [entry("t"), entry("l", kind=SYM, link="t")], {"t": b"x", "l": "t"}, 0),
    ("links of a package", [entry("bin/x", kind=SYM, link="../lib/x.js"), entry("lib/x.js", mode=0o755)],
     {"bin/x": "../lib/x.js", "lib/x.js": b"x"}, 0),
    ("link up too far", [entry("d/l", kind=SYM, link="../../x"), entry("d/m", kind=SYM, link="x/../../y")], {}, 2),
    ("link to nothing", [entry("l", kind=SYM, link="gone"), entry("e", kind=SYM, link="")], {"l": "gone"}, 1),
    ("write through a link", [entry("d/f", b"1"), entry("l", kind=SYM, link="d"), entry("l/f", b"2"),
                              entry("l", kind=DIR, mode=0)], {"d/f": b"1", "l": "d"}, 2),
    ("link, then link", [entry("l", kind=SYM, link="a"), entry("l", kind=SYM, link="b")], {"l": "b"}, 0),
    ("link over directory", [entry("d/f"), entry("d", kind=SYM, link="f")], {"d/f": b"x"}, 1),
    ("control bytes in a link", [entry("l", kind=SYM, link="a\x1b[2J"), entry("m", kind=SYM, link="a\\b")], {}, 2),
    ("link, then write", [entry("l", kind=SYM, link="/tmp"), entry("l/x")], {"l/x": b"x"}, 1),
    ("link chain", [entry("a", kind=SYM, link=".."), entry("b", kind=SYM, link="a/.."), entry("b/x")],
     {"b/x": b"x"}, 2),
    ("link to itself", [entry("l", kind=SYM, link="l"), entry("l", b"f")], {"l": b"f"}, 0),
    ("file, then link", [entry("l", b"f"), entry("l", kind=SYM, link="/etc/passwd")], {"l": b"f"}, 1),
    ("hard link out", [entry("h", kind=LNK, link="/etc/passwd"), entry("in")], {"in": b"x"}, 1),
    ("hard link up", [entry("h", kind=LNK, link="../../x"), entry("h", b"w")], {"h": b"w"}, 1),
    ("hard link in", [entry("t"), entry("h", kind=LNK, link="t")], {"t": b"x"}, 1),
    ("devices", [entry("c", kind=tarfile.CHRTYPE), entry("b", kind=tarfile.BLKTYPE), entry("in")],
     {"in": b"x"}, 2),
    ("fifo", [entry("p", kind=tarfile.FIFOTYPE), entry("p", b"f")], {"p": b"f"}, 1),
    ("directories", [entry("d", kind=DIR), entry("d/e/", kind=DIR, mode=0), entry("d/e/f")], {"d/e/f": b"x"}, 0),
    ("directory up", [entry("..", kind=DIR), entry("../d", kind=DIR), entry("in")], {"in": b"x"}, 2),
    ("root", [entry("./", kind=DIR, mode=0o777), entry("in")], {"in": b"x"}, 0),
    ("sticky directory", [entry("d", kind=DIR, mode=0o7777)], {}, 0),
    ("file over directory", [entry("d/f", b"1"), entry("d", b"2")], {"d/f": b"1"}, 1),
    ("directory over file", [entry("d", b"1"), entry("d", kind=DIR), entry("d/f")], {"d": b"1"}, 2),
    ("owner root", [entry("o", uid=0), entry("p", uid=4242)], {"o": b"x", "p": b"x"}, 0),
    ("not UTF-8", [entry("a\udcff\udcfe"), entry("in")], {"in": b"x"}, 1),
    ("nothing", [], {}, 0),
]
# The reader takes a backslash for a slash, and the result is checked.
ZIP_ONLY = [
    ("backslash", [entry("..\\..\\x"), entry("a\\b"), entry("in")], {"a/b": b"x", "in": b"x"}, 1),
]
PAX_ONLY = [
    ("pax path", [entry("a", pax={"path": "../../evil"}), entry("in")], {"in": b"x"}, 1),
    ("pax link", [entry("l", kind=SYM, link="a", pax={"linkpath": "/etc"}), entry("in")], {"in": b"x"}, 1),
    ("pax attributes", [entry("a", pax={"SCHILY.xattr.security.capability": "x", "SCHILY.xattr.user.a": "b"})],
     {"a": b"x"}, 0),
    ("pax time", [entry("a", pax={"mtime": "99999999999999"})], {"a": b"x"}, 0),
]


def broken():
    """Not archives, or not whole ones."""
    good = tar([entry("a", b"y" * 5000), entry("b", b"z" * 5000)])
    yield "empty", b""
    yield "text", b"just text\n" * 100
    yield "zeros of no tar", b"\x01" * 4096
    for share in (300, 700, 3000, 6200, 9000):
        yield f"tar cut at {share}", good[:share]
        yield f"zstd tar cut at {share}", zstd(good)[:share]
    packed = gzip.compress(good)
    for share in (5, 12, len(packed) // 2, len(packed) - 20):
        yield f"gzip cut at {share}", packed[:share]
    archive = zipped([entry("a", bytes(range(256)) * 20)])
    for share in (20, 40, len(archive) // 3):
        yield f"zip cut at {share}", archive[:share]
    damaged = bytearray(good)
    damaged[5632 + 148] ^= 0xff # the second header's checksum
    yield "second header damaged", bytes(damaged)
    huge = bytearray(tar([entry("a", b"q" * 512)]))
    huge[124:136] = b"\x80" + b"\0" * 3 + (1 << 60).to_bytes(8, "big")
    huge[148:156] = b" " * 8
    huge[148:156] = b"%06o\0 " % sum(huge[:512])
    yield "claims 1 EiB", bytes(huge)
    yield "7z", b"7z\xbc\xaf\x27\x1c" + b"\0" * 500
    yield "rar", b"Rar!\x1a\x07\x00" + b"\0" * 500
    yield "cpio", b"070701" + b"0" * 500


def corpus():
    for name, entries, files, skipped in PLAIN + TAR_ONLY:
        for fmt, label in (tarfile.GNU_FORMAT, "gnu"), (tarfile.PAX_FORMAT, "pax"):
            data = tar(entries, fmt)
            yield Case(f"{name}: {label} tar", data, files, skipped)
            yield Case(f"{name}: {label} tar.gz", gzip.compress(data, 1), files, skipped)
            if label == "gnu":
                yield Case(f"{name}: {label} tar.zst", zstd(data), files, skipped)
    for name, entries, files, skipped in PLAIN + ZIP_ONLY:
        yield Case(f"{name}: zip", zipped(entries), files, skipped)
    for name, entries, files, skipped in PAX_ONLY:
        yield Case(f"{name}: tar", tar(entries, tarfile.PAX_FORMAT), files, skipped)
    for name, data in broken():
        yield Case(f"broken: {name}", data, None, 0)


def bombs():
    """(name, chunks of the archive, status)"""
    zeros = b"\0" * (1 << 20)

    def tar_of_zeros(count):
        info = tarfile.TarInfo("zeros")
        info.size = count << 20
        return info.tobuf(tarfile.GNU_FORMAT), (zeros for _ in range(count))

    def gz(head, body):
        import zlib
        z = zlib.compressobj(9, zlib.DEFLATED, 31)
        out = z.compress(head)
        for piece in body:
            out += z.compress(piece)
        return out + z.flush()

    flat = gz(*tar_of_zeros(100))
    yield "gzip 1:1000", [flat], 413
    yield "gzip of gzip", [gzip.compress(flat)], (400, 413)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        z.writestr("zeros", b"\0" * (100 << 20))
    yield "zip 1:1000", [out.getvalue()], 413
    few = b"".join(tarfile.TarInfo(f"f{n}").tobuf(tarfile.GNU_FORMAT) for n in range(500))
    many = b"".join(tarfile.TarInfo(f"../f{n}").tobuf(tarfile.GNU_FORMAT) for n in range(5000))
    yield "half a million entries", [gzip.compress(few) + gzip.compress(many) * 101], 413
    sparse = tarfile.TarInfo("sparse")
    sparse.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    head[386:398], head[398:410] = b"%011o\0" % 0, b"%011o\0" % 0
    head[483:495] = b"\x80" + b"\0" * 3 + (1 << 60).to_bytes(8, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head[:512])
    yield "sparse, 1 EiB", [bytes(head) + b"\0" * 1024], 413
    pax = tarfile.TarInfo("p")
    pax.pax_headers = {"size": str(1 << 60)}
    yield "pax size, 1 EiB", [pax.tobuf(tarfile.PAX_FORMAT) + b"\0" * 1024], 413
