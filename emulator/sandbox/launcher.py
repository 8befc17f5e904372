"""The launcher: a small process beside the emulator that starts and ends instances.

Run as ``python -I -S launcher.py CONTROL_FD RUNG RUNS CPU_LIMIT``. It exists
because forking a large, threaded, asyncio process is slow and unsafe; forking
this one takes half a millisecond. It owns every instance tree: when its control
socket ends (the emulator is gone, however), it kills them all, gives back
cgroups and folders and exits.

In: ``listen``, ``launch`` (with the write end of the output pipe
and, for an instance with a network of its own, the listener), ``kill``.
Out: ``ready``, ``listening`` (with the listener), ``started``, ``failed``,
``exited``, ``gone``.

Two processes make an instance. The *anchor* is process 1 of new namespaces: it
mounts the file system, then sleeps; the kernel gives it orphans to reap, and
when it dies everything inside dies. The *runtime* is the launcher's own child,
joined into those namespaces, so that its exit status arrives here unfiltered
and a function that sends itself a signal is killed by it, which process 1 would not be.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import select
import sys
import time

if __name__ == "__main__":  # behind everything else: only this package is wanted from there
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from emulator.sandbox import cgroups, namespaces
from emulator.sandbox import launcher_children as children
from emulator.sandbox.launcher_children import Instance
from emulator.sandbox.launcher_control import Control
from emulator.sandbox.launcher_ends import kill, kill_marked, remove_tree

PROCESSES = 1024
FIRST_USER = 700_000
USERS = 1000
"""Every living instance has a user of its own out of these."""


class Launcher:
    """The loop: control socket, status pipes, deaths of children."""

    def __init__(self, control: _socket.socket, rung: str, runs: str, cpu_limit: bool) -> None:
        self.control = Control(control)
        self.rung = rung
        self.cpu_limit = cpu_limit
        self.owner = cgroups.identity(os.getpid())
        self.folder = f"{runs}/{self.owner}"
        self.instances: dict[int, Instance] = {}
        self.children: dict[int, Instance] = {}
        self.statuses: dict[int, Instance] = {}
        self.dying: list[Instance] = []
        self.bases: dict[str, str] = {}
        self.free_users = list(range(USERS - 1, -1, -1))
        self.layout = cgroups.Layout()
        self.poll = select.poll()
        self.wake, wake = os.pipe()
        for end in (self.wake, wake):
            os.set_blocking(end, False)
        _signal.set_wakeup_fd(wake)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
            # Ends come through the control socket only, so that they are always orderly.
            _signal.signal(number, _signal.SIG_IGN)
        self.own_pid_namespace = -1

    # -- the loop ---------------------------------------------------------

    def prepare(self) -> None:
        if sys.platform == "linux":
            namespaces.become_subreaper()
            if self.rung == "userns":
                user, group = os.getuid(), os.getgid()
                namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS)
                cgroups.write("/proc/self/setgroups", "deny")
                cgroups.write("/proc/self/uid_map", f"0 {user} 1")
                cgroups.write("/proc/self/gid_map", f"0 {group} 1")
            elif self.rung == "root":
                namespaces.unshare(namespaces.CLONE_NEWNS)
                self.layout = cgroups.detect()
                cgroups.make_owner(self.layout, self.owner, self.cpu_limit)
            if self.rung != "plain":
                namespaces.mount("none", "/", flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
                self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            if self.rung == "root":  # opaque, the kernel would keep us out of user namespaces
                namespaces.hide()
        os.makedirs(self.folder + "/root", mode=0o700, exist_ok=True)

    def run(self) -> None:
        self.poll.register(self.control.fileno(), select.POLLIN)
        self.poll.register(self.wake, select.POLLIN)
        self.control.send({"what": "ready", "pid": os.getpid(), "owner": self.owner})
        while True:
            for descriptor, _ in self.poll.poll(2 if self.dying else None):
                if descriptor == self.control.fileno():
                    if not self.receive():
                        return
                elif descriptor == self.wake:
                    os.read(self.wake, 4096)
                elif descriptor in self.statuses:
                    self.on_status(descriptor)
            self.reap()
            self.bury()

    def receive(self) -> bool:
        """Do what the emulator asks; False when it is gone."""
        messages = self.control.receive()
        for message in messages or ():
            if message["op"] == "launch":
                output = self.control.take()
                self.launch(message, output, self.control.take() if message["own_network"] else -1)
            elif message["op"] == "listen":
                self.listen(message)
            elif message["op"] == "kill":
                self.on_kill(message)
            elif message["op"] == "base":
                try:
                    self.base(message)
                except OSError:
                    continue  # the launch that needs it tries again, and tells
        return messages is not None

    # -- starting ---------------------------------------------------------

    def listen(self, message: dict) -> None:  # type: ignore[type-arg]
        """A listener on the loopback of a new network namespace.

        Nothing of it stays here: the socket alone keeps the namespace, so that
        both go when the emulator closes it or dies, launched or not."""
        reply = {"what": "listening", "id": message["id"]}
        slot = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Somebody else goes, since from a user namespace there is no way back. His
            # descriptors are ours: what he puts in the slot is here when he is gone.
            flags = namespaces.CLONE_NEWNET | namespaces.CLONE_FILES | _signal.SIGCHLD
            pid = namespaces.clone(flags)
            if pid == 0:
                children.listen(message["port"], slot)
            number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if number:
                raise OSError(number, os.strerror(number) if number > 0 else f"killed by signal {-number}")
            self.control.send({**reply, "descriptor": True}, slot)
        except OSError as error:
            self.control.send({**reply, "error": f"no network namespace with a listener: {error}"})
        finally:
            os.close(slot)

    def launch(self, message: dict, output: int, listener: int) -> None:  # type: ignore[type-arg]
        instance = Instance(message["id"], message)
        self.instances[instance.number] = instance
        status_read, status_write = os.pipe()
        try:
            if self.rung == "plain":
                self.launch_plain(instance, output, status_write)
            else:
                self.launch_isolated(instance, output, status_write, listener)
        except OSError as error:
            os.close(status_read)
            self.fail(instance, f"{error}")
        else:
            self.statuses[status_read] = instance
            self.poll.register(status_read, select.POLLIN)
        finally:
            os.close(status_write)
            os.close(output)
            if listener >= 0:
                os.close(listener)

    def base(self, message: dict) -> str:  # type: ignore[type-arg]
        """The read-only tree of this runtime, built at its first use."""
        key = f"{message['runtime']}|{message['prefixes']}"
        if key not in self.bases:
            root = f"{self.folder}/root/{len(self.bases)}"
            users = {FIRST_USER + index: 1051 + index for index in range(USERS)} if self.rung == "root" else {}
            namespaces.make_base(root, message["runtime"], message["prefixes"], users)
            self.bases[key] = root
        return self.bases[key]

    def launch_isolated(self, instance: Instance, output: int, status: int, listener: int) -> None:
        message = instance.message
        base = self.base(message)
        user = 0
        if self.rung == "root":
            if not self.free_users:
                raise OSError(11, f"all {USERS} instance users are taken; lower the concurrency")
            instance.user_index = self.free_users.pop()
            user = FIRST_USER + instance.user_index
            instance.group = cgroups.Group(self.layout, self.owner, message["name"], self.cpu_limit)
            instance.group.make(message["memory"], PROCESSES)
        ready_read, ready_write = os.pipe()
        pidfd = network = -1
        try:
            if listener >= 0:
                network = namespaces.network_of(listener)
            pid = namespaces.clone(namespaces.INSTANCE | namespaces.CLONE_NEWPID | _signal.SIGCHLD)
            if pid == 0:
                children.anchor(base, message, user, ready_write, network)
            instance.anchor = pid
            self.children[pid] = instance
            pidfd = os.pidfd_open(pid)
            pid = self.fork_inside(instance, pidfd)
            if pid == 0:
                children.runtime(instance, user, pidfd, ready_read, output, status)
            instance.runtime = pid
            self.children[pid] = instance
        finally:
            for descriptor in (ready_read, ready_write, pidfd, network):
                if descriptor >= 0:
                    os.close(descriptor)

    def fork_inside(self, instance: Instance, pidfd: int) -> int:
        """A child of ours in the pid namespace of ``pidfd``; 0 in the child."""
        if self.rung == "root":
            namespaces.setns(pidfd, namespaces.CLONE_NEWPID)
            pid = -1
            try:
                pid = children.fork(instance)
            finally:
                if pid != 0:
                    namespaces.setns(self.own_pid_namespace, namespaces.CLONE_NEWPID)
            return pid
        # From a user namespace there is no way back to the pid namespace we came
        # from: somebody else goes, and has his child adopted by us.
        told, tell = os.pipe()
        between = namespaces.clone(_signal.SIGCHLD)
        if between == 0:
            try:
                namespaces.setns(pidfd, namespaces.CLONE_NEWPID)
                pid = namespaces.clone(namespaces.CLONE_PARENT | _signal.SIGCHLD)
                if pid == 0:
                    return 0
                os.write(tell, b"%d" % pid)
            except OSError:
                pass  # silence tells it
            os._exit(0)
        os.close(tell)
        pid = int(os.read(told, 32) or b"0")
        os.close(told)
        if pid == 0:
            raise OSError(1, "a process could not be put into the instance's pid namespace")
        return pid

    def launch_plain(self, instance: Instance, output: int, status: int) -> None:
        instance.folder = f"{self.folder}/tmp-{instance.number}"
        os.mkdir(instance.folder, 0o700)
        instance.marker = instance.message["marker"]
        environ = instance.message["environ"]
        for name, value in environ.items():
            environ[name] = value.replace(f"{self.folder}/tmp-@", instance.folder)
        pid = os.fork()
        if pid == 0:
            children.plain(instance, output, status)
        instance.runtime = pid
        self.children[pid] = instance

    def on_status(self, descriptor: int) -> None:
        """The runtime's last words before exec: its times, or why there is no exec."""
        instance = self.statuses.pop(descriptor)
        self.poll.unregister(descriptor)
        raw = os.read(descriptor, 4096)
        while more := os.read(descriptor, 4096):
            raw += more
        os.close(descriptor)
        times, _, error = raw.partition(b"\n")
        if error or not times:
            self.fail(instance, error.decode(errors="replace") or "the sandbox could not be set up")
            return
        created, started = times.split()
        self.control.send(
            {
                "what": "started", "id": instance.number, "pid": instance.runtime,
                "created": int(created) / 1e9, "started": int(started) / 1e9,
            }
        )  # fmt: skip

    def fail(self, instance: Instance, error: str) -> None:
        self.control.send({"what": "failed", "id": instance.number, "error": error})
        instance.status = 0  # nothing more to report but that it is gone
        self.end(instance)

    # -- ending -----------------------------------------------------------

    def on_kill(self, message: dict) -> None:  # type: ignore[type-arg]
        instance = self.instances.get(message["id"])
        if instance is None:
            return
        if message["signal"] == _signal.SIGKILL:
            self.end(instance)
        elif instance.runtime:
            kill(instance.runtime, message["signal"])

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            instance = self.children.pop(pid, None)
            if instance is None:
                continue
            if pid == instance.runtime:
                instance.runtime = 0
                for descriptor in [each for each, its in self.statuses.items() if its is instance]:
                    self.on_status(descriptor)  # started comes before exited, also when both are quick
                if instance.status < 0:
                    instance.status = status
                    self.report_exit(instance)
            else:
                instance.anchor = 0
            self.end(instance)

    def report_exit(self, instance: Instance) -> None:
        status = instance.status
        self.control.send(
            {
                "what": "exited", "id": instance.number,
                "status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
                "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
                "out_of_memory": instance.group.out_of_memory() if instance.group else False,
            }
        )  # fmt: skip

    def end(self, instance: Instance) -> None:
        """Kill the whole tree; ``bury`` finishes when it is dead."""
        if instance.ended:
            return
        instance.ended = True
        if instance.group:
            instance.group.thaw()
        if instance.anchor:
            kill(instance.anchor, _signal.SIGKILL)
        if instance.runtime:
            kill(-instance.runtime if self.rung == "plain" else instance.runtime, _signal.SIGKILL)
            kill(instance.runtime, _signal.SIGKILL)
        self.dying.append(instance)

    def bury(self) -> None:
        """Give back what dead instances held."""
        left = []
        for instance in self.dying:
            if instance.marker and kill_marked(instance.marker):
                left.append(instance)
                continue
            if instance.runtime or instance.anchor or (instance.group and not instance.group.remove()):
                left.append(instance)
                if instance.group:
                    instance.group.kill()
                continue
            if instance.folder:
                remove_tree(instance.folder)
            if instance.user_index >= 0:
                self.free_users.append(instance.user_index)
            del self.instances[instance.number]
            self.control.send({"what": "gone", "id": instance.number})
        self.dying = left

    def close(self) -> None:
        """The emulator is gone: leave nothing."""
        self.control.close()
        deadline = time.monotonic() + 5
        for instance in list(self.instances.values()):
            self.end(instance)
        while self.dying and time.monotonic() < deadline:
            self.poll.poll(2)
            self.reap()
            self.bury()
        for root in self.layout.roots(self.cpu_limit):
            try:
                os.rmdir(f"{root}/{cgroups.TOP}/{self.owner}")
                os.rmdir(f"{root}/{cgroups.TOP}")
            except OSError:
                continue
        if self.rung != "plain":
            for base in self.bases.values():
                namespaces.unmount(base)
        remove_tree(self.folder)


def main() -> None:
    control = _socket.socket(fileno=int(sys.argv[1]))
    launcher = Launcher(control, sys.argv[2], sys.argv[3], sys.argv[4] == "1")
    try:
        try:
            launcher.prepare()
        except OSError as error:
            launcher.control.send({"what": "fatal", "error": str(error)})
            return
        launcher.run()
    finally:
        launcher.close()


if __name__ == "__main__":
    main()
