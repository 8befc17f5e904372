"""What every sandbox backend must do. Subclass it and provide the fixture ``backend``.

A backend that can't enforce something says so in ``enforcement``; the tests of
that limit then check the claim's absence, and are the reason it must be honest.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable

import pytest

from emulator.core.model import Version
from emulator.sandbox.protocol import Exit, LaunchFailed, SandboxBackend

from .conftest import Bench

Run = Callable[..., None]


def enforced(bench: Bench, limit: str) -> bool:
    return any(row.limit == limit and row.enforced for row in bench.backend.enforcement())


class SandboxContract:
    """Tests through the protocol alone."""

    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"

    @pytest.fixture
    def backend(self) -> SandboxBackend:
        raise NotImplementedError

    def test_exit_status(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            ended, text = await bench.finish(await bench.shell("echo out; echo err >&2; exit 7"))
            assert ended == Exit(7, None)
            assert text == b"out\nerr\n"

        run_on(backend, body)

    def test_exit_by_a_signal_it_sends_itself(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            ended, _ = await bench.finish(await bench.shell("kill -9 $$; sleep 5"))
            assert (ended.status, ended.signal) == (None, 9)
            assert not ended.out_of_memory

        run_on(backend, body)

    def test_quick_exits_are_told_truly(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            version = bench.version({"bootstrap": "#!/bin/sh\nexit 3\n"})
            all_running = await asyncio.gather(*(bench.launch(version) for _ in range(20)))
            ends = await asyncio.gather(*(running.sandbox.wait() for running in all_running))
            assert set(ends) == {Exit(3, None)}

        run_on(backend, body)

    def test_python_answers(self, backend: SandboxBackend, run_on: Run) -> None:
        code = (
            "import json, ssl, ctypes, sqlite3, multiprocessing, boto3, os, sys\n"
            "def handler(event, context):\n"
            "    return {'path': sys.path[0], 'cwd': os.getcwd(), 'event': event,\n"
            "            'id': context.aws_request_id, 'marker': 'FAAS_PHASE_MARKER' in os.environ}\n"
        )

        async def body(bench: Bench) -> None:
            running = await bench.launch(
                {"app.py": code}, runtime=self.runtime, memory=256, environment={"FAAS_PHASE_MARKER": "1"}
            )
            path, answer = await running.exchange(b'{"a": 1}')
            assert path.endswith("/r-1/response"), answer
            assert b'"event": {"a": 1}' in answer
            assert b'"marker": false' in answer
            if enforced(bench, "filesystem_isolation"):
                assert b'"path": "/var/task", "cwd": "/var/task"' in answer
            running.read_now()
            assert running.text.startswith(b"\x1efaas:user-init ")

        run_on(backend, body)

    def test_no_entry_point(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            with pytest.raises(LaunchFailed, match=r"Runtime\.InvalidEntrypoint"):
                await bench.launch({"nothing.txt": ""})

        run_on(backend, body)

    def test_kill_within_grace(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            running = await bench.shell("trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done")
            await running.print_until(b"up")
            assert (await running.sandbox.kill(grace=10)).status == 5
            assert await running.sandbox.kill() == await running.sandbox.wait()

        run_on(backend, body)

    def test_kill_after_grace(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            running = await bench.shell("trap '' TERM; echo up; while :; do sleep 0.02; done")
            await running.print_until(b"up")
            async with asyncio.timeout(10):
                assert (await running.sandbox.kill(grace=0.2)).signal == 9

        run_on(backend, body)

    def test_orphans_die_with_it(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            script = "(setsid sh -c 'while :; do sleep 0.05; done' &); echo up; while :; do sleep 0.05; done"
            running = await bench.shell(script)
            await running.print_until(b"up")
            output = os.dup(running.sandbox.output)
            try:
                await running.sandbox.kill()
                async with asyncio.timeout(5):
                    while True:  # the end of the output: the last holder of the pipe is gone
                        try:
                            if not os.read(output, 4096):
                                break
                        except BlockingIOError:
                            await asyncio.sleep(0.01)
            finally:
                os.close(output)

        run_on(backend, body)

    def test_output_is_there_before_a_later_message(self, backend: SandboxBackend, run_on: Run) -> None:
        code = "def handler(event, context):\n    print('x' * 5000 + 'END')\n    return 1\n"

        async def body(bench: Bench) -> None:
            running = await bench.launch({"app.py": code}, runtime=self.runtime)
            await running.exchange()
            running.read_now()
            assert running.text.endswith(b"END\n")

        run_on(backend, body)

    def test_out_of_memory(self, backend: SandboxBackend, run_on: Run) -> None:
        code = "x = []\nfor i in range(40):\n    x.append(b'x' * (10 << 20))\ndef handler(e, c): return 1\n"

        async def body(bench: Bench) -> None:
            running = await bench.launch({"app.py": code + "import time; time.sleep(5)\n"}, runtime=self.runtime)
            async with asyncio.timeout(20):
                ended = await running.sandbox.wait()
            assert ended.out_of_memory
            assert ended.signal == 9

        run_on(backend, body)

    def test_twenty_at_once(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            version = bench.version({"app.py": "def handler(e, c): return e\n"}, runtime=self.runtime)
            running = await asyncio.gather(*(bench.launch(version) for _ in range(20)))
            answers = await asyncio.gather(*(each.exchange(b'"hi"') for each in running))
            assert [body for _, body in answers] == [b'"hi"'] * 20

        run_on(backend, body)

    def test_cancelled_launch_leaves_nothing(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            version = bench.version({"bootstrap": "#!/bin/sh\nsleep 60\n"})
            await bench.backend.prepare(version, lambda _: None)
            for delay in (0.0, 0.001, 0.003):
                task = asyncio.create_task(bench.launch(version))
                await asyncio.sleep(delay)
                task.cancel()
                await asyncio.wait([task])
            before = set(os.listdir("/proc/self/fd"))
            running = await bench.shell("echo ok")
            assert (await bench.finish(running))[1] == b"ok\n"
            await running.sandbox.kill()
            running.listener.socket.close()
            assert set(os.listdir("/proc/self/fd")) == before

        run_on(backend, body)

    def test_environment_is_what_was_asked(
        self, backend: SandboxBackend, run_on: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOST_SECRET", "do-not-leak")

        async def body(bench: Bench) -> None:
            _, text = await bench.finish(await bench.shell("env; cat /proc/1/environ 2>/dev/null; true"))
            assert b"AWS_LAMBDA_RUNTIME_API=" in text
            assert b"do-not-leak" not in text

        run_on(backend, body)

    def test_code_is_read_only_and_tmp_private(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            if not enforced(bench, "read_only_code"):
                return
            script = (
                "echo x 2>/dev/null > /var/task/new && echo WROTE; echo x 2>/dev/null > /usr/new && echo WROTE;"
                "ls /tmp; echo $1 > /tmp/mine; cat /tmp/mine; echo done; sleep 30"
            )
            version = bench.version({"bootstrap": "#!/bin/sh\n" + script})
            for running in [await bench.launch(version) for _ in range(2)]:
                text = await running.print_until(b"done")
                assert b"WROTE" not in text
                assert b"mine" not in text

        run_on(backend, body)

    def test_sees_neither_host_nor_neighbours(
        self, backend: SandboxBackend, run_on: Run, code_folder: os.PathLike[str]
    ) -> None:
        async def body(bench: Bench) -> None:
            if not enforced(bench, "filesystem_isolation"):
                return
            other = await bench.shell("echo up; sleep 31.4159")
            await other.print_until(b"up")
            script = f"ls -d /home/* /root/* {code_folder}; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; mount; true"
            _, text = await bench.finish(await bench.shell(script))
            assert b"31.4159" not in text
            assert f"\n{code_folder}\n".encode() not in b"\n" + text
            assert b"cgroup2" not in text

        run_on(backend, body)

    def test_pause_and_resume(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            running = await bench.shell("while :; do echo tick; sleep 0.01; done")
            await running.print_until(b"tick")
            await running.sandbox.pause()
            await running.sandbox.pause()
            await asyncio.sleep(0.1)
            running.read_now()
            await asyncio.sleep(0.15)
            assert running.read_now() is None
            await running.sandbox.resume()
            running.text = b""
            await running.print_until(b"tick")
            await running.sandbox.pause()
            async with asyncio.timeout(10):
                assert (await running.sandbox.kill()).signal == 9

        run_on(backend, body)

    def test_usage(self, backend: SandboxBackend, run_on: Run) -> None:
        code = "x = b'x' * (60 << 20)\ndef handler(e, c):\n    return len(x)\n"

        async def body(bench: Bench) -> None:
            running = await bench.launch({"app.py": code}, runtime=self.runtime)
            await running.exchange()
            usage = running.sandbox.usage()
            if usage.memory is not None:
                assert 60 << 20 < usage.memory <= 128 << 20
            if usage.memory_peak is not None and usage.memory is not None:
                assert usage.memory_peak >= usage.memory
            if usage.cpu_seconds is not None:
                assert 0.0 < usage.cpu_seconds < 20.0

        run_on(backend, body)

    def test_times_are_in_order(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            before = asyncio.get_running_loop().time()
            running = await bench.shell("sleep 30")
            after = asyncio.get_running_loop().time()
            sandbox = running.sandbox
            assert before <= sandbox.created_at <= sandbox.started_at <= after + 0.001

        run_on(backend, body)

    def test_a_network_of_none_has_the_runtime_api_only(self, backend: SandboxBackend, run_on: Run) -> None:
        code = (
            "import socket\n"
            "def reached(address):\n"
            "    try:\n"
            "        socket.create_connection(address, timeout=2).close()\n"
            "    except OSError:\n"
            "        return False\n"
            "    return True\n"
            "def handler(event, context):\n"
            "    return [reached(tuple(address)) for address in event]\n"
        )

        async def body(bench: Bench) -> None:
            with socket.create_server(("0.0.0.0", 0)) as server:
                other = await bench.launch({"app.py": code}, runtime=self.runtime)
                _, port = server.getsockname()
                host, _, others = other.listener.address.partition(":")
                asked = json.dumps([(host, port), (host, int(others))]).encode()
                default = await bench.launch({"app.py": code}, runtime=self.runtime)
                path, answer = await default.exchange(asked)
                assert path.endswith("/response"), answer
                assert json.loads(answer)[0]
                alone = await bench.launch({"app.py": code}, runtime=self.runtime, network="none")
                path, answer = await alone.exchange(asked)
                assert path.endswith("/response"), answer
                if enforced(bench, "network_isolation"):
                    assert json.loads(answer) == [False, False]

        run_on(backend, body)

    def test_many_networks_of_none_at_once(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            version = bench.version({"app.py": "def handler(e, c): return e\n"}, runtime=self.runtime, network="none")
            running = await asyncio.gather(*(bench.launch(version) for _ in range(8)))
            answers = await asyncio.gather(*(each.exchange(b"%d" % at) for at, each in enumerate(running)))
            assert [body for _, body in answers] == [b"%d" % at for at in range(8)]

        run_on(backend, body)

    def test_layers_are_merged_in_order(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            if not enforced(bench, "filesystem_isolation"):
                return
            one = bench.version({"a": "one", "b": "one"}).code
            two = bench.version({"b": "two"}).code
            version: Version = bench.version({"bootstrap": "#!/bin/sh\ncat /opt/a /opt/b\n"}, layers=(one, two))
            _, text = await bench.finish(await bench.launch(version))
            assert text == b"onetwo"

        run_on(backend, body)
