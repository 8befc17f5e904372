"""Linux system calls that Python lacks, and the file system an instance sees.

Used by the launcher process only, which must stay small: nothing but ctypes,
no typing, no dataclasses. Importable everywhere; usable on Linux.

One *base* tree per runtime is mounted once, in the launcher's own mount
namespace. An instance gets a copy of that namespace, puts its own ``/proc``,
``/tmp`` and ``/var/task`` on top and pivots into it: five mounts per start
instead of thirty.
"""

from __future__ import annotations

import ctypes
import os
import sys

CLONE_FILES = 0x00000400
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
INSTANCE = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_SYS_CLONE3, _SYS_MOUNT_SETATTR = 435, 442
_CLONE_INTO_CGROUP, _SIGCHLD = 1 << 33, 17
_SIOCGSKNS, _SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x894C, 0x8913, 0x8914, 1
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME, _PR_CAPBSET_DROP = 1, 4, 15, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_NUMBERS = {
    # machine: (clone, pivot_root)
    "x86_64": (56, 155),
    "aarch64": (220, 41),
    "riscv64": (220, 41),
}

# The GIL is kept during these calls: after a raw clone there is nobody to give it back.
_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def supported() -> bool:
    """Whether this kernel and machine are ones whose call numbers we know."""
    return os.uname().sysname == "Linux" and os.uname().machine in _NUMBERS


def clone(flags: int) -> int:
    """``fork`` into new namespaces; 0 in the child. Single-threaded callers only."""
    number = _NUMBERS[os.uname().machine][0]
    zero = ctypes.c_long(0)
    result = _syscall(ctypes.c_long(number), ctypes.c_ulong(flags), zero, zero, zero, zero)
    return _checked(result, "clone")


def clone_into(folder: str) -> int:
    """``fork`` with the child born in a cgroup of version 2 (Linux 5.7).

    Moving a process there afterwards waits for an RCU grace period, 10 ms and more."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # struct clone_args: flags, six unused, exit signal at 4, cgroup last.
        words = [_CLONE_INTO_CGROUP, 0, 0, 0, _SIGCHLD, 0, 0, 0, 0, 0, descriptor]
        arguments = b"".join(word.to_bytes(8, "little") for word in words)
        result = _syscall(ctypes.c_long(_SYS_CLONE3), arguments, ctypes.c_size_t(len(arguments)))
        return _checked(result, "clone3")
    finally:
        os.close(descriptor)


def setns(descriptor: int, kinds: int) -> None:
    _checked(_libc.setns(descriptor, kinds), "setns")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def network_of(descriptor: int) -> int:
    """A descriptor of the network namespace that a socket was made in."""
    return _checked(_libc.ioctl(descriptor, ctypes.c_ulong(_SIOCGSKNS)), "network namespace of a socket")


def raise_loopback(descriptor: int) -> None:
    """Switch ``lo`` on in the network namespace of a socket; 127.0.0.1 comes with it."""
    request = ctypes.create_string_buffer(b"lo", 40)  # struct ifreq: name, then flags
    _checked(_libc.ioctl(descriptor, ctypes.c_ulong(_SIOCGIFFLAGS), request), "flags of lo")
    flags = int.from_bytes(request.raw[16:18], sys.byteorder) | _IFF_UP
    request = ctypes.create_string_buffer(b"lo".ljust(16, b"\0") + flags.to_bytes(2, sys.byteorder), 40)
    _checked(_libc.ioctl(descriptor, ctypes.c_ulong(_SIOCSIFFLAGS), request), "switching lo on")


def mount(source: str, target: str, kind: str = "none", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(data)
    )
    _checked(result, f"mount {source} at {target}")


def bind(source: str, target: str, *, read_only: bool = True) -> None:
    """Show ``source`` at ``target`` without its devices and set-uid bits."""
    mount(source, target, flags=MS_BIND | MS_REC)
    wanted = _ATTR_NOSUID | _ATTR_NODEV | (_ATTR_RDONLY if read_only else 0)
    attributes = wanted.to_bytes(8, "little") + bytes(24)
    result = _syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD), os.fsencode(target),
        ctypes.c_uint(_AT_RECURSIVE), attributes, ctypes.c_size_t(32),
    )  # fmt: skip
    if result < 0:
        # Kernels before 5.12: one remount, which must repeat the flags that are there.
        flags = os.statvfs(target).f_flag & 0xF | MS_NOSUID | MS_NODEV | (MS_RDONLY if read_only else 0)
        mount("none", target, flags=MS_BIND | MS_REMOUNT | flags)


def pivot(root: str) -> None:
    """Make ``root`` (a mount point) the root of this mount namespace and forget the old one."""
    os.chdir(root)
    _checked(_syscall(ctypes.c_long(_NUMBERS[os.uname().machine][1]), b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", MNT_DETACH), "umount")
    os.chdir("/")


def unmount(path: str) -> None:
    """Detach what is mounted at ``path``; silent when nothing is."""
    _libc.umount2(os.fsencode(path), MNT_DETACH)


def set_hostname(name: str) -> None:
    raw = name.encode()[:64]
    _checked(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), "sethostname")


def _prctl(option: int, argument: int) -> int:
    zero = ctypes.c_ulong(0)
    return int(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero))


def die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, 9)


def become_subreaper() -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_bounding_set() -> None:
    """No exec of this process or its children can gain a capability again."""
    for capability in range(64):
        if _prctl(_PR_CAPBSET_DROP, capability) < 0:
            break


def drop_capabilities() -> None:
    """Empty the permitted, effective and inheritable sets."""
    header = (0x20080522).to_bytes(4, "little") + bytes(4)
    _libc.capset(header, bytes(24))


def set_name(name: str) -> None:
    _libc.prctl(ctypes.c_int(_PR_SET_NAME), name.encode()[:15], 0, 0, 0)


def hide() -> None:
    """Make this process opaque to ptrace and /proc readers of other users."""
    _prctl(_PR_SET_DUMPABLE, 0)


_ETC = (
    "resolv.conf", "hosts", "nsswitch.conf", "ld.so.cache", "ld.so.conf", "localtime", "host.conf",
    "protocols", "services", "mime.types", "os-release", "timezone", "gai.conf",
)  # fmt: skip
_ETC_FOLDERS = ("ssl", "pki", "ca-certificates", "alternatives", "crypto-policies")
_DEVICES = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0),
}  # fmt: skip
_DEVICE_MODE = 0o020666


def _folder(path: str) -> str:
    os.makedirs(path, exist_ok=True)
    return path


def _make_etc(root: str, users: dict[int, int]) -> None:
    etc = _folder(root + "/etc")
    for name in _ETC:
        try:
            with open("/etc/" + name, "rb") as there, open(etc + "/" + name, "wb") as here:
                here.write(there.read())
            os.chmod(etc + "/" + name, 0o644)
        except OSError:
            continue
    for name in _ETC_FOLDERS:
        if os.path.isdir("/etc/" + name):
            bind("/etc/" + name, _folder(etc + "/" + name))
    with open(etc + "/passwd", "w") as passwd, open(etc + "/group", "w") as group:
        passwd.write("root:x:0:0:root:/:/sbin/nologin\n")
        group.write("root:x:0:\n")
        for user, number in users.items():
            passwd.write(f"sbx_user{number}:x:{user}:{user}::/tmp:/sbin/nologin\n")
            group.write(f"sbx_user{number}:x:{user}:\n")


def _make_dev(root: str) -> None:
    dev = _folder(root + "/dev")
    for name, (major, minor) in _DEVICES.items():
        path = f"{dev}/{name}"
        try:
            os.mknod(path, _DEVICE_MODE, os.makedev(major, minor))
            os.chmod(path, 0o666)
        except OSError:  # in a user namespace nodes can't be made, only borrowed
            with open(path, "wb"):
                pass
            mount("/dev/" + name, path, flags=MS_BIND)
    # POSIX semaphores and shared memory live in the instance's own /tmp, and so within its limit.
    for link, target in (
        ("shm", "/tmp"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
    ):  # fmt: skip
        os.symlink(target, f"{dev}/{link}")


def make_base(root: str, runtime: str, prefixes: list[tuple[str, str]], users: dict[int, int]) -> None:
    """Build the tree that all instances of one runtime share, at ``root``, read-only.

    ``prefixes``: (host folder, path inside) of what the interpreter needs.
    """
    _folder(root)
    mount("tmpfs", root, "tmpfs", MS_NOSUID, "mode=0755,size=4m")
    for name in ("usr", "bin", "sbin", "lib", "lib64", "lib32"):
        host = "/" + name
        if os.path.islink(host):
            os.symlink(os.readlink(host), f"{root}/{name}")
        elif os.path.isdir(host):
            bind(host, _folder(f"{root}/{name}"))
    _make_etc(root, users)
    _make_dev(root)
    for name in ("proc", "tmp", "opt", "var/task", "var/runtime", "var/lang", "run", "sys"):
        _folder(f"{root}/{name}")
    os.symlink("/tmp", f"{root}/var/tmp")
    if runtime:
        bind(runtime, root + "/var/runtime")
    for host, inside in prefixes:
        bind(host, _folder(root + inside))
    mount("none", root, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID)


def enter_instance(root: str, code: str, opt: str, tmp_size: int, owner: int) -> None:
    """In an instance's own namespaces: finish the view of ``root`` and make it ours.

    ``/tmp`` is a tmpfs. On cgroup v1 and v2 alike its pages are charged to the
    memory of who writes them, which AWS does not do: a function that fills
    ``/tmp`` needs that much more ``memory`` here.
    """
    mount("proc", root + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    options = f"mode=0700,size={tmp_size},uid={owner},gid={owner}"
    mount("tmpfs", root + "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options)
    bind(code, root + "/var/task")
    if opt:
        bind(opt, root + "/opt")
    pivot(root)
