"""Who holds a claim, as ``host:pid:start:number``: a claim whose process has died here is free at once."""

from __future__ import annotations

import os
import socket
from itertools import count
from pathlib import Path

_owners = count()


def new_owner() -> str:
    """Make a name for one open journal of this process."""
    return f"{_host()}:{os.getpid()}:{_read_start(os.getpid())}:{next(_owners)}"


def is_dead(owner: str) -> bool:
    """Say whether the owner of a claim is a process of this machine that is gone."""
    host, pid, started, _ = owner.rsplit(":", 3)
    if host != _host():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    now = _read_start(int(pid))
    return bool(started and now and now != started)


def _host() -> str:
    return socket.gethostname().replace(":", "-")


def _read_start(pid: int) -> str:
    """Say when a process started, to tell apart a number that is used again; empty where the system does not say, "Z"
    for a process that has died and was not waited for.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "Z" if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        return ""
