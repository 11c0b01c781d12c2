"""What the tests of tests/arch share: each is called with <source directory> <sandboxd binary>, says
every fault it finds on a line of its own, and tells by its exit status whether there were any."""
import pathlib
import re
import subprocess
import sys

SOURCE = pathlib.Path(sys.argv[1]).resolve()
BINARY = sys.argv[2]
_faults = []


def fault(where, text):
    if isinstance(where, pathlib.Path):
        where = where.relative_to(SOURCE)
    _faults.append(f"{where}: {text}")


def finish():
    print("\n".join(_faults) or "ok")
    sys.exit(1 if _faults else 0)


def files(*patterns):
    """Existing files below the source directory by glob patterns, sorted."""
    return sorted({p for pattern in patterns for p in SOURCE.glob(pattern) if p.is_file()})


def tracked():
    """Files that belong to the project: what git knows or would add."""
    out = subprocess.run(["git", "-C", str(SOURCE), "ls-files", "-z", "--cached", "--others",
                          "--exclude-standard"], stdout=subprocess.PIPE, check=True).stdout
    return [p for name in sorted(set(out.decode().split("\0")) - {""})
            if (p := SOURCE / name).is_file()]


def code(path, strings=True):
    """The text of a C file without comments (and without strings), line numbers kept."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def blank(m):
        text = m.group(0)
        if text[0] == "/":
            return re.sub(r"[^\n]", " ", text)
        return text if strings else text[0] + " " * (len(text) - 2) + text[-1]

    return re.sub(pattern, blank, path.read_text(), flags=re.S)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def function_of(text, position):
    """Name of the function whose body holds a position: the last one that began in column 0."""
    name = None
    for m in re.finditer(r"^[A-Za-z_][\w \t*]*?(\w+)\(", text[:position], re.M):
        name = m.group(1)
    return name


def output(*args):
    return subprocess.run([BINARY, *args], stdout=subprocess.PIPE, check=True, text=True,
                          timeout=30).stdout
