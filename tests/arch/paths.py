"""R1: below a workspace nothing is reached by a path that the kernel resolves freely. In volume/ the
calls that follow links are not used at all; openat2 has one caller; the *at calls take a single name
below a descriptor, so they stand only in the files that walk by descriptors."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from arch import SOURCE, code, fault, files, finish, function_of, line_of  # noqa: E402

FOLLOWS = ("open|creat|fopen|freopen|stat|lstat|access|faccessat|chmod|fchmodat|chown|lchown|rename"
           "|unlink|rmdir|mkdir|mknod|link|symlink|readlink|realpath|truncate|utimes|opendir"
           "|scandir|nftw|ftw|glob|chdir|execve|system|popen|setxattr|getxattr|listxattr")
# The operator's own path, at start; from then on there is a descriptor.
OPERATOR_PATH = {"beneath_root"}
OPENAT2 = {"beneath.c"}

for path in files("src/volume/*.c"):
    text = code(path, strings=False)
    for m in re.finditer(rf"(?<![\w.>])({FOLLOWS})\s*\(", text):
        if function_of(text, m.start()) not in OPERATOR_PATH:
            fault(f"{path.relative_to(SOURCE)}:{line_of(text, m.start())}",
                  f"{m.group(1)}() resolves a path, links and all")
    for m in re.finditer(r"SYS_openat2", text):
        if path.name not in OPENAT2:
            fault(f"{path.relative_to(SOURCE)}:{line_of(text, m.start())}", "openat2 has one caller")
    # An open by name below a descriptor must not follow a link at its end.
    for m in re.finditer(r"(?<![\w.>])openat\s*\(([^;]*?)\)\s*[;)<]", text):
        if "O_NOFOLLOW" not in m.group(1):
            fault(f"{path.relative_to(SOURCE)}:{line_of(text, m.start())}",
                  "openat() without O_NOFOLLOW")
    for m in re.finditer(r"(?<![\w.>])fstatat\s*\(([^;]*?)\)\s*[;)<]", text):
        if "AT_SYMLINK_NOFOLLOW" not in m.group(1) and "AT_EMPTY_PATH" not in m.group(1):
            fault(f"{path.relative_to(SOURCE)}:{line_of(text, m.start())}",
                  "fstatat() without AT_SYMLINK_NOFOLLOW")
    for m in re.finditer(r"(?<![\w.>])fchownat\s*\(([^;]*?)\)\s*[;)<]", text):
        if "AT_SYMLINK_NOFOLLOW" not in m.group(1) and "AT_EMPTY_PATH" not in m.group(1):
            fault(f"{path.relative_to(SOURCE)}:{line_of(text, m.start())}",
                  "fchownat() without AT_SYMLINK_NOFOLLOW")
finish()
