"""What the launcher's children do between their birth and their program.

Each function but ``fork`` runs in a fresh child and never returns. As small as
the launcher: the child is a copy of it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import resource
import sys
import time

from emulator.sandbox import cgroups, namespaces

FILES = 1024
BACKLOG = 16
ANCHOR_SHRINKS_AFTER = 0.5
"""Seconds after which an instance's first process gives up its copy of the launcher's memory."""


class Instance:
    """What the launcher knows of one sandbox."""

    def __init__(self, number: int, message: dict) -> None:  # type: ignore[type-arg]
        self.number = number
        self.message = message
        self.anchor = 0
        self.runtime = 0
        self.group: cgroups.Group | None = None
        self.status = -1
        self.folder = ""
        self.user_index = -1
        self.marker = b""
        self.born_in = ""
        self.ended = False


def fork(instance: Instance) -> int:
    """A child in the cgroups of ``instance``; 0 in the child."""
    folder = instance.group.birthplace() if instance.group else ""
    if folder:
        try:
            pid = namespaces.clone_into(folder)
        except OSError:
            folder = ""  # an older kernel, or a filter on system calls: the child moves itself
            pid = namespaces.clone(_signal.SIGCHLD)
    else:
        pid = namespaces.clone(_signal.SIGCHLD)
    instance.born_in = folder
    return pid


def _default_signals() -> None:
    _signal.set_wakeup_fd(-1)
    for number in _signal.valid_signals():
        if number not in (_signal.SIGKILL, _signal.SIGSTOP):
            try:
                _signal.signal(number, _signal.SIG_DFL)
            except (OSError, ValueError):
                continue
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def listen(port: int, slot: int) -> None:
    """In a new network namespace, with the launcher's descriptors: put a listener into ``slot``."""
    number = 1
    try:
        listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            namespaces.raise_loopback(listener.fileno())
            listener.bind(("127.0.0.1", port))
            listener.listen(BACKLOG)
            os.dup2(listener.fileno(), slot, inheritable=False)
        finally:
            listener.close()
        number = 0
    except OSError as error:
        number = error.errno or 1
    finally:
        os._exit(number)


def anchor(base: str, message: dict, user: int, ready: int, network: int) -> None:  # type: ignore[type-arg]
    """Process 1 of the instance: its file system, then its reaper."""
    try:
        namespaces.die_with_parent()
        if network >= 0:
            namespaces.setns(network, namespaces.CLONE_NEWNET)
        os.closerange(0, ready)
        os.closerange(ready + 1, 1 << 16)
        _signal.set_wakeup_fd(-1)
        try:
            namespaces.set_hostname(message["hostname"])
            namespaces.enter_instance(base, message["code"], message["opt"], message["tmp"], user)
            os.write(ready, b"%d" % time.monotonic_ns())
        except OSError as error:
            os.write(ready, b"E" + str(error).encode())
            os._exit(1)
        os.close(ready)
        # Ignored deaths are reaped by the kernel: orphans of the function need no loop here.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
        namespaces.set_name("faas-anchor")
        namespaces.drop_bounding_set()
        namespaces.drop_capabilities()
        # Later, off the start's path, a program a tenth of our size waits in our place.
        time.sleep(ANCHOR_SHRINKS_AFTER)
        try:
            os.execve("/bin/sleep", ["faas-anchor", "infinity"], {})
        except OSError:
            while True:
                _signal.pause()
    finally:
        os._exit(1)


def runtime(instance: Instance, user: int, pidfd: int, ready: int, output: int, status: int) -> None:
    """Join the anchor's namespaces, give up every privilege, become the runtime."""
    try:
        if instance.group:
            instance.group.join(instance.born_in)
        _descriptors((pidfd, ready, output, status), output)
        os.setsid()
        _default_signals()
        said = os.read(ready, 4096)
        if not said or said[:1] == b"E":
            raise OSError(0, said[1:].decode() or "the instance's first process died")
        own_network = namespaces.CLONE_NEWNET if instance.message["own_network"] else 0
        namespaces.setns(pidfd, namespaces.INSTANCE | own_network)
        os.chdir("/var/task")
        _limits(None)
        namespaces.drop_bounding_set()
        if instance.group:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        namespaces.drop_capabilities()
        namespaces.no_new_privileges()
        os.umask(0o022)
        os.write(status, b"%s %d" % (said, time.monotonic_ns()))
        os.execve(instance.message["argv"][0], instance.message["argv"], instance.message["environ"])
    except OSError as error:
        os.write(status, b"\n" + str(error).encode())
    finally:
        os._exit(127)


def plain(instance: Instance, output: int, status: int) -> None:
    """The same without namespaces: a session, limits, and the real paths."""
    try:
        created = time.monotonic_ns()
        _descriptors((output, status), output)
        os.setsid()
        _default_signals()
        if sys.platform == "linux":
            namespaces.die_with_parent()
            namespaces.no_new_privileges()
        os.chdir(instance.message["code"])
        _limits(instance.message["tmp"])
        os.umask(0o022)
        os.write(status, b"%d %d" % (created, time.monotonic_ns()))
        os.execve(instance.message["argv"][0], instance.message["argv"], instance.message["environ"])
    except OSError as error:
        os.write(status, b"\n" + str(error).encode())
    finally:
        os._exit(127)


def _descriptors(kept: tuple[int, ...], output: int) -> None:
    """Standard streams to their places; everything but ``kept`` closed."""
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    last = 2
    for descriptor in sorted(kept):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, 1 << 16)


def _limits(file_size: int | None) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
