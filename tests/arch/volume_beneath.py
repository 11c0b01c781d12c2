"""R1 as a scan: in src/volume/ only beneath.c opens anything, and nobody uses a call that follows a
path or a link. Usage: volume_beneath.py <source dir>"""
import pathlib
import re
import sys

# Calls that take a path from the root or the working directory, or that follow the last link by default.
FORBIDDEN = """open open64 creat fopen freopen opendir stat lstat stat64 access euidaccess chmod chown lchown
    mkdir rmdir unlink rename remove symlink link readlink truncate utime utimes lutimes realpath mknod
    mkfifo mount statfs statvfs chdir chroot nftw ftw fts_open scandir glob execve system popen
    setxattr getxattr fchmodat faccessat inotify_add_watch fanotify_mark""".split()
OPENERS = "openat openat2 open_by_handle_at SYS_openat SYS_openat2 SYS_open".split()
# file: calls allowed there, with the reason
ALLOWED = {
    "beneath.c": {
        "open": "the operator's own data directory",
        "readlink": "/proc/self/fd of that descriptor",
        "inotify_add_watch": "/proc/self/fd of a directory that was opened there",
        "SYS_openat2": "the one way in",
    },
}


def code_of(text):
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"//[^\n]*", " ", text)
    return re.sub(r'"(\\.|[^"\\])*"', '""', text)


def main():
    room = pathlib.Path(sys.argv[1]) / "src" / "volume"
    files = sorted(room.glob("*.[ch]"))
    if not files:
        sys.exit(f"nothing to scan in {room}")
    bad = 0
    for file in files:
        code = code_of(file.read_text())
        allowed = ALLOWED.get(file.name, {})
        for name in FORBIDDEN + OPENERS:
            # a member (backend->open) or another word's end (beneath_open) is not the call of libc
            call = r"\b" if name.startswith("SYS_") else r"\s*\("
            for m in re.finditer(rf"(?<![\w.>*]){name}{call}", code):
                if name in allowed:
                    continue
                line = code.count("\n", 0, m.start()) + 1
                print(f"not ok - {file.name}: about line {line}: {name}() reaches files by path")
                bad += 1
        # names relative to a descriptor must not follow links
        for call in ("fstatat", "fchownat", "utimensat"):
            for m in re.finditer(rf"\b{call}\s*\(([^;]*);", code):
                if "AT_SYMLINK_NOFOLLOW" not in m.group(1):
                    print(f"not ok - {file.name}: {call}() without AT_SYMLINK_NOFOLLOW")
                    bad += 1
    print(f"ok - {len(files)} files scanned" if not bad else f"# {bad} found")
    sys.exit(1 if bad else 0)


main()
