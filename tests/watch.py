"""Run a program that may start no process, talk to nobody, and write into named folders only.

    python tests/watch.py FOLDER[:FOLDER…] PROGRAM.py [ARGUMENTS…]

Python tells of each of these before it does it (its audit events), also for C code that calls Python's
functions. The first that is not allowed is refused with RuntimeError, printed, and makes the exit status 99.
The watch begins after torch is imported, which asks the system's linker for its libraries.
"""

import os
import runpy
import sys
from importlib import import_module

PROCESSES = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "pty.spawn",
)
NETWORK = (
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "socket.sendmsg",
)
CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
STATUS = 99


def watch(folders: list[str]) -> list[str]:
    """Refuse from now on what is not allowed; returns the list that each refusal is added to."""
    allowed = [os.path.realpath(folder) for folder in folders]
    refused: list[str] = []

    def is_outside(path: object) -> bool:
        """Tell whether a path, or what a link there leads to, lies in none of the folders."""
        if isinstance(path, int):  # a file that is open already
            return False
        real = os.path.realpath(os.fsdecode(path))
        return real != os.devnull and not any(
            os.path.commonpath([real, folder]) == folder for folder in allowed
        )

    def hook(event: str, arguments: tuple) -> None:
        bad = event in PROCESSES or event in NETWORK
        if event == "open" and isinstance(arguments[2], int):
            bad = bool(arguments[2] & WRITING) and arguments[0] is not None and is_outside(arguments[0])
        elif event in CHANGES:
            places = arguments[:2] if event in ("os.rename", "os.link") else arguments[:1]
            bad = any(is_outside(place) for place in places if place is not None)
        if bad:
            refused.append(f"{event} {arguments!r}"[:300])
            raise RuntimeError(f"refused: {refused[-1]}")

    sys.addaudithook(hook)
    return refused


def main() -> int:
    """Watch the program that the command line names; its exit status, or 99."""
    folders, program, *rest = sys.argv[1:]
    sys.argv = [program, *rest]
    sys.path[0] = os.path.dirname(os.path.abspath(program))
    sys.dont_write_bytecode = True
    import_module("torch")
    refused = watch(folders.split(os.pathsep))
    status: object = 0
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as stop:
        status = stop.code
    for event in refused:
        print(event, file=sys.stderr)
    return STATUS if refused else int(status or 0)


if __name__ == "__main__":
    sys.exit(main())
