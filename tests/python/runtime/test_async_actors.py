# SPDX-License-Identifier: Apache-2.0
"""Actors with async methods: many calls at once in one loop, and what asyncio promises in it."""

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError, TaskCancelledError


@pytest.fixture(autouse=True)
def _use(session):
    pass


@ray.remote
class Signals:
    """Calls that wait, and one that lets them go."""

    def __init__(self):
        self.event = asyncio.Event()
        self.inside = 0
        self.most = 0

    async def wait(self, value=None):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.event.wait()
        finally:
            self.inside -= 1
        return value

    async def send(self):
        self.event.set()
        return self.inside

    async def waiting(self):
        return self.inside

    def highest(self):
        return self.most

    def pid(self):
        return os.getpid()


def wait_for(condition):
    while not condition():  # as long as the test may take
        time.sleep(0.001)


def test_a_thousand_calls_wait_at_once():
    actor = Signals.remote()
    refs = [actor.wait.remote(i) for i in range(999)]
    assert ray.get(actor.send.remote()) == 999
    assert ray.get(refs) == list(range(999))


def test_beyond_the_limit_calls_queue():
    actor = Signals.options(max_concurrency=3).remote()
    refs = [actor.wait.remote(i) for i in range(3)]
    late = actor.send.remote()
    with pytest.raises(GetTimeoutError):
        ray.get(late, timeout=0.05)
    ray.kill(actor)
    for ref in [*refs, late]:
        with pytest.raises(RayActorError):
            ray.get(ref)
    actor = Signals.options(max_concurrency=2).remote()
    refs = [actor.pid.remote() for _ in range(100)]
    assert len(set(ray.get(refs))) == 1 and ray.get(actor.highest.remote()) <= 2


def test_more_than_a_thousand_when_asked_for():
    actor = Signals.options(max_concurrency=4000).remote()
    refs = [actor.wait.remote(i) for i in range(3000)]
    assert ray.get(actor.send.remote()) == 3000
    assert ray.get(refs) == list(range(3000))


@ray.remote
class Plain:
    def __init__(self):
        import contextvars

        self.variable = contextvars.ContextVar("variable", default="unset")
        self.loop = asyncio.get_running_loop()
        self.ticks = 0
        self.background = asyncio.create_task(self.tick())

    async def tick(self):
        while self.ticks < 5:
            await asyncio.sleep(0.001)
            self.ticks += 1

    async def ticked(self):
        await self.background
        return self.ticks

    async def same_loop(self):
        return asyncio.get_running_loop() is self.loop

    def task_in_plain_method(self):
        return asyncio.current_task() in asyncio.all_tasks()

    async def current(self):
        task = asyncio.current_task()
        await asyncio.sleep(0)
        return isinstance(task, asyncio.Task) and task is asyncio.current_task()

    async def context(self, value):
        before = self.variable.get()
        self.variable.set(value)
        await asyncio.sleep(0.002)

        async def child():
            return self.variable.get()

        return before, self.variable.get(), await asyncio.create_task(child())

    async def times_out(self):
        try:
            if sys.version_info >= (3, 11):
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            else:
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except (TimeoutError, asyncio.TimeoutError):
            return "timed out"

    async def subprocess(self):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('out')", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out.strip(), process.returncode

    async def thread(self):
        return await asyncio.to_thread(threading.get_ident) != threading.get_ident()

    async def streams(self):
        async def serve(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"echo\n")
            answer = await reader.read()
            writer.close()
        return answer

    async def cancel_caught(self):
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "caught"

    async def cancels_itself(self):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)


def test_plain_asyncio_within():
    actor = Plain.remote()
    assert ray.get(actor.ticked.remote()) == 5
    assert ray.get(actor.same_loop.remote())
    assert ray.get(actor.task_in_plain_method.remote())
    assert ray.get(actor.current.remote())
    assert ray.get([actor.context.remote(i) for i in range(50)]) == [
        ("unset", i, i) for i in range(50)
    ]
    assert ray.get(actor.times_out.remote()) == "timed out"
    assert ray.get(actor.subprocess.remote()) == (b"out", 0)
    assert ray.get(actor.thread.remote())
    assert ray.get(actor.streams.remote()) == b"echo\n"
    assert ray.get(actor.cancel_caught.remote()) == "caught"
    with pytest.raises(TaskCancelledError):
        ray.get(actor.cancels_itself.remote())
    assert ray.get(actor.same_loop.remote())


def test_exceptions():
    @ray.remote
    class Fails:
        def __init__(self, broken=False):
            if broken:
                raise ValueError("no constructor")

        async def at_once(self):
            raise ValueError("at once")

        async def later(self):
            await asyncio.sleep(0.001)
            raise KeyError("later")

        async def unpicklable(self):
            return threading.Lock()

        async def stops(self):
            raise StopAsyncIteration

        async def fine(self):
            return 1

        @ray.method(num_returns=2)
        async def two(self):
            return 1, 2

    actor = Fails.remote()
    for _ in range(3):
        with pytest.raises(ValueError, match="at once") as caught:
            ray.get(actor.at_once.remote())
        assert "event_loop" not in str(caught.value)
        with pytest.raises(KeyError, match="later"):
            ray.get(actor.later.remote())
    with pytest.raises(TypeError):
        ray.get(actor.unpicklable.remote())
    with pytest.raises(StopAsyncIteration):
        ray.get(actor.stops.remote())
    assert ray.get(actor.two.remote()) == [1, 2]
    assert ray.get(actor.fine.remote()) == 1
    broken = Fails.remote(broken=True)
    with pytest.raises(RayActorError, match="no constructor") as caught:
        ray.get(broken.fine.remote())
    assert "event_loop" not in str(caught.value)


def test_starts_in_order_and_overtakes_late_arguments():
    @ray.remote
    class Order:
        def __init__(self):
            self.seen = []

        async def note(self, number):
            self.seen.append(number)

        def plain(self, number):
            self.seen.append(number)

        async def all(self):
            return self.seen

    signals, actor = Signals.remote(), Order.remote()
    late = actor.note.remote(signals.wait.remote("late"))
    refs = [(actor.note if i % 2 else actor.plain).remote(i) for i in range(200)]
    ray.get(refs)
    assert ray.get(actor.all.remote()) == list(range(200))
    ray.get(signals.send.remote())
    ray.get(late)
    assert ray.get(actor.all.remote())[-1] == "late"


def test_awaiting_references():
    @ray.remote
    class Front:
        async def through(self, refs):
            return await asyncio.gather(*refs[0])

        async def one(self, ref):
            return await ref[0]

        async def fails(self, ref):
            try:
                await ref[0]
            except ZeroDivisionError:
                return "failed"

        async def waits(self, refs):
            done, pending = await asyncio.wait(refs[0], return_when=asyncio.FIRST_COMPLETED)
            return len(done), len(pending), [await ref for ref in done]

        async def gives_up(self, ref):
            try:
                await asyncio.wait_for(ref[0], 0.01)
            except asyncio.TimeoutError:
                return "gave up"

        async def gets(self, ref):
            return ray.get(ref[0])

    @ray.remote
    def divide(a, b):
        return a / b

    signals, front = Signals.remote(), Front.remote()
    refs = [divide.remote(i, 1) for i in range(50)]
    assert ray.get(front.through.remote([refs])) == list(range(50))
    assert ray.get(front.one.remote([ray.put("value")])) == "value"
    assert ray.get(front.fails.remote([divide.remote(1, 0)])) == "failed"
    waiting = signals.wait.remote()
    assert ray.get(front.waits.remote([[divide.remote(4, 2), waiting]])) == (1, 1, [2.0])
    assert ray.get(front.gives_up.remote([waiting])) == "gave up"
    assert ray.get(front.gets.remote([divide.remote(6, 2)])) == 3.0
    assert ray.get(signals.send.remote()) >= 1
    many = Signals.remote()
    held = front.through.remote([[many.wait.remote(i) for i in range(500)]])
    wait_for(lambda: ray.get(many.waiting.remote()) == 500)
    ray.get(many.send.remote())
    assert ray.get(held) == list(range(500))


def test_awaiting_in_the_driver():
    actor = Signals.remote()

    async def main():
        refs = [actor.wait.remote(i) for i in range(100)]
        first = asyncio.ensure_future(refs[0].as_future())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(refs[1], 0.01)
        done, pending = await asyncio.wait(refs, timeout=0.01)
        assert not done and len(pending) == 100
        await actor.send.remote()
        assert await asyncio.gather(*refs) == list(range(100))
        assert await first == 0
        done, pending = await asyncio.wait(refs)
        assert len(done) == 100 and not pending
        for _ in range(50):
            assert await actor.pid.remote() > 0

    asyncio.run(main())
    asyncio.run(main_again(Signals.remote()))
    with pytest.raises(RuntimeError, match="no running event loop"):
        actor.pid.remote().as_future()


async def main_again(actor):
    ref = actor.pid.remote()
    assert await ref == await ref
    assert not actor.wait.remote().as_future().done()  # the loop ends before it is


def test_concurrent_futures():
    actor = Signals.remote()
    futures = [actor.wait.remote(i).future() for i in range(20)]
    ray.get(actor.send.remote())
    done = {f.result() for f in concurrent.futures.as_completed(futures)}
    assert done == set(range(20))


def test_killed_with_calls_in_flight():
    actor = Signals.remote()
    refs = [actor.wait.remote(i) for i in range(500)]
    more = [actor.wait.remote(ref) for ref in refs[:20]]
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
    for ref in refs:
        with pytest.raises(ActorDiedError):
            ray.get(ref)
    for ref in more:
        with pytest.raises(RayActorError):
            ray.get(ref)


def test_exit_actor_from_async_methods(tmp_path):
    @ray.remote
    class Leaves:
        def __init__(self, path):
            import atexit

            self.path = path
            atexit.register(self.mark)

        def mark(self):
            with open(self.path, "w") as f:
                f.write("left")

        async def waits(self):
            await asyncio.Event().wait()

        async def leave(self):
            await asyncio.sleep(0)
            ray.actor.exit_actor()

        def leave_plainly(self):
            ray.actor.exit_actor()

    for name in ("leave", "leave_plainly"):
        path = tmp_path / name
        actor = Leaves.remote(str(path))
        waits = [actor.waits.remote() for _ in range(10)]
        with pytest.raises(ActorDiedError, match="exit_actor"):
            ray.get(getattr(actor, name).remote())
        for ref in waits:
            with pytest.raises(ActorDiedError, match="exit_actor"):
                ray.get(ref)
        assert path.read_text() == "left"


def test_last_handle_waits_for_coroutines():
    @ray.remote
    class Slow:
        async def slow(self, i):
            await asyncio.sleep(0.02)
            return i

    actor = Slow.remote()
    refs = [actor.slow.remote(i) for i in range(50)]
    del actor
    assert ray.get(refs) == list(range(50))


def test_runtime_context():
    @ray.remote
    class Context:
        async def ids(self):
            context = ray.get_runtime_context()
            before = context.get_task_id()
            await asyncio.sleep(0.001)

            async def child():
                return ray.get_runtime_context().get_task_id()

            inside = await asyncio.gather(child(), child())
            return {before, context.get_task_id(), *inside}, context.get_task_name()

        async def submits(self):
            @ray.remote
            def task():
                return ray.get_runtime_context().get_task_id()

            return await asyncio.gather(*[task.remote() for _ in range(5)])

    actor = Context.remote()
    refs = [actor.ids.remote() for _ in range(20)]
    found = ray.get(refs)
    for ref, (ids, name) in zip(refs, found):
        assert ids == {ref.task_id().hex()} and name.endswith("Context.ids")
    assert len(set(ray.get(actor.submits.remote()))) == 5


def test_max_pending_calls_travels_with_the_handle():
    actor = Signals.options(max_pending_calls=3).remote()
    refs = [actor.wait.remote() for _ in range(3)]
    with pytest.raises(ray.exceptions.PendingCallsLimitExceeded):
        actor.wait.remote()
    ray.kill(actor)
    for ref in refs:
        with pytest.raises(RayActorError):
            ray.get(ref)
    other = Signals.options(max_pending_calls=3).remote()

    @ray.remote
    def until_refused(actor):
        ray.get(actor.pid.remote())
        made = []
        try:
            for _ in range(10):
                made.append(actor.wait.remote())
        except ray.exceptions.PendingCallsLimitExceeded:
            return len(made)

    assert ray.get(until_refused.remote(other)) == 3


def test_blocking_get_warns_once(run_program):
    code, out, err = run_program(
        """
        import ray, time

        ray.init(num_cpus=2)

        @ray.remote
        class A:
            async def get(self, ref):
                return ray.get(ref[0])

        a = A.remote()
        assert ray.get([a.get.remote([ray.put(i)]) for i in range(3)]) == [0, 1, 2]
        ray.shutdown()
        """
    )
    assert code == 0, err
    assert (out + err).count("Using blocking ray.get inside async actor.") == 1


def test_async_tasks_are_refused():
    with pytest.raises(ValueError, match="'async def' should not be used for remote tasks"):

        @ray.remote
        async def task():
            pass


def test_driver_killed_with_calls_in_flight():
    """Everything goes with it, also an actor in the middle of many coroutines."""
    program = textwrap.dedent(
        """
        import asyncio, os, ray

        ray.init(num_cpus=2)

        @ray.remote
        class Waits:
            async def wait(self):
                await asyncio.Event().wait()

            async def pid(self):
                return os.getpid()

        actor = Waits.remote()
        refs = [actor.wait.remote() for _ in range(900)]
        print(ray.get(actor.pid.remote()), flush=True)
        ray.get(refs)
        """
    )
    driver = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pid = int(driver.stdout.readline())
    watch = os.pidfd_open(pid)
    driver.kill()
    driver.wait()
    driver.stdout.close()
    import select

    poll = select.poll()
    poll.register(watch, select.POLLIN)
    assert poll.poll(30000)
    os.close(watch)


def test_raylet_and_session_end_while_something_is_awaited(run_program):
    code, out, err = run_program(
        """
        import asyncio, os, signal, ray

        @ray.remote(num_cpus=0)
        class Waits:
            async def wait(self):
                await asyncio.Event().wait()

            def raylet(self):
                return os.getppid()

        async def awaits(end):
            actor = Waits.remote()
            waiting = actor.wait.remote().as_future()
            await end(actor)
            try:
                await waiting
            except Exception as exc:
                print(type(exc).__name__)

        async def shut_down(actor):
            await actor.raylet.remote()
            ray.shutdown()

        async def kill(actor):
            os.kill(await actor.raylet.remote(), signal.SIGKILL)

        for end in (shut_down, kill):
            ray.init(num_cpus=1)
            asyncio.run(awaits(end))
        ray.init(num_cpus=1)
        print(ray.get(ray.put("again")))
        """
    )
    assert code == 0, err
    assert out.split() == ["RuntimeError", "LocalRayletDiedError", "again"]


def test_a_fork_while_something_is_awaited(run_program):
    code, out, err = run_program(
        """
        import asyncio, os, ray

        ray.init(num_cpus=1)

        @ray.remote
        class Waits:
            async def wait(self):
                await asyncio.sleep(0.01)
                return "waited"

        def events():
            found = 0
            for fd in os.listdir("/proc/self/fd"):
                try:
                    found += "eventfd" in os.readlink(f"/proc/self/fd/{fd}")
                except FileNotFoundError:  # closed meanwhile
                    pass
            return found

        async def main():
            actor = Waits.remote()
            waiting = actor.wait.remote().as_future()
            assert events() > 0
            pid = os.fork()
            if pid == 0:
                os._exit(events())
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            print(await waiting)

        asyncio.run(main())
        """
    )
    assert (code, out.strip()) == (0, "waited"), err


def _run_at_once(loop, coroutine, **_):
    """As asyncio.eager_task_factory of later Pythons: the first step is the factory's."""
    done = loop.create_future()
    try:
        coroutine.send(None)
    except StopIteration as stop:
        done.set_result(stop.value)
        return done
    return asyncio.Task(_finish(coroutine), loop=loop)


async def _finish(coroutine):
    class Rest:
        def __await__(self):
            yield
            while True:
                try:
                    yield coroutine.send(None)
                except StopIteration:
                    return

    await Rest()


def test_a_task_factory_may_run_calls_at_once():
    @ray.remote
    class Eager:
        async def begin(self, factory):
            asyncio.get_running_loop().set_task_factory(factory)

        async def add(self, x, y):
            return x + y

        async def later(self, x):
            await asyncio.sleep(0)
            return x

    actor = Eager.remote()
    ray.get(actor.begin.remote(_run_at_once))
    calls = [actor.add.remote(i, i) for i in range(100)]
    assert ray.get(calls) == [2 * i for i in range(100)]
    assert ray.get(actor.later.remote(3)) == 3

    def refuse(loop, coroutine, **_):
        raise RuntimeError("no more")

    ray.get(actor.begin.remote(refuse))
    with pytest.raises(ray.exceptions.RayError, match="takes no more calls"):
        ray.get(actor.add.remote(1, 1))
