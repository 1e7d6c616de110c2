"""The worker process: forked warm, one actor or one shared queue, until it is told to stop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import socket
import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from . import code, directory, routing
from .actor_loop import ActorLoop, Aside
from .assignment import Assignment, NodeSettings
from .broker.task_trace import TaskTrace
from .broker.typed_json import read_typed, write_typed
from .concurrent_loop import ConcurrentLoop
from .directory import Creator, spec_context
from .durability import Durability
from .durable_loop import DurableLoop
from .errors import (
    REPLAY_DIFFERS,
    SETUP_FAILED,
    STATE_REFUSED,
    AsyncioActorExit,
    ClusterUnreachableError,
    FencedError,
    NonDeterminismError,
    RayError,
    RuntimeEnvSetupError,
    StateRefusedError,
    StoreRolledBackError,
    UntrustedPayloadError,
)
from .executor import Callee, Executor
from .host_process import HostProcess
from .inflight import InFlight
from .mailbox import Mailbox
from .methods import TERMINATE, own_options
from .node_face import run_face
from .options import RetryOn
from .runners import AsyncRunner, ThreadRunner
from .runtime import Runtime
from .shared_loop import SharedLoop
from .shared_worker import SharedWorker
from .store import Fence
from .worker_env import WorkerEnv, adopt

__all__ = ["run_worker"]

logger = logging.getLogger(__name__)

EXIT_DONE, EXIT_INIT_FAILED, EXIT_FENCED = 0, 90, 91
#: What lets a durable actor stand still, and how the cause begins.
_FREEZES: dict[type[RayError], str] = {
    StateRefusedError: STATE_REFUSED,
    UntrustedPayloadError: STATE_REFUSED,
    NonDeterminismError: REPLAY_DIFFERS,
}
#: Seconds that ``__ray_shutdown__`` may take, as in Ray.
SHUTDOWN_SECONDS = 30.0


def run_worker(
    settings: NodeSettings, assignment: Assignment, control: socket.socket, progress: int
) -> int:
    """Run one worker to its end and return the exit status. The main thread runs user code."""
    if assignment.queues is not None:
        return run_face(settings, assignment, control)
    process = HostProcess(settings, assignment, control, progress)
    try:
        context = process.set_up()
        if assignment.actor_id:
            return _run_actor(process, context)
        return _run_shared(process, context)
    except FencedError as error:
        if _was_killed(process):
            os._exit(EXIT_FENCED)  # as by the signal: no hook and no handler of the user's runs
        logger.warning("%s: %s; this process ends", assignment.label, error)
        return EXIT_FENCED
    except StoreRolledBackError as error:
        logger.error("%s: %s; this process ends", assignment.label, error)  # noqa: TRY400 - as below
        process.rolled_back(error)
        return EXIT_FENCED
    except ClusterUnreachableError as error:
        logger.error("%s: %s", assignment.label, error)  # noqa: TRY400 - the message says it all
        return EXIT_FENCED
    finally:
        process.close()


def _was_killed(process: HostProcess) -> bool:
    """Tell whether the actor was ended on purpose: its process met the fence before the signal."""
    if process.runtime is None or not process.assignment.actor_id:
        return False
    try:
        meta = process.runtime.store.hash(process.assignment.keys.meta)
    except RayError:
        return False  # the store cannot say
    return "killed" in meta


class _Hosted:
    """One actor in this process: its class, its arguments, its instance."""

    def __init__(self, process: HostProcess, context: Runtime) -> None:
        mine = process.assignment
        self.process = process
        self.context = context
        self.label = mine.meta["class"]
        adopt(context, mine.meta.get("job", ""))
        context.namespace = mine.meta["namespace"]
        free = bool(mine.meta.get("free"))
        context.creator = Creator(mine.actor_id, outlives_driver=free)
        context.holdings.own = mine.keys.thing
        if free:
            context.holdings.holder = mine.actor_id
        traits = context.traits_of(directory.ActorRecord(mine.actor_id, mine.meta))
        if traits is None:
            raise RayError("what the actor's class can do is not in the store any more")
        self.traits = traits
        self.instance: Any = None
        self.durable: Durability | None = None
        self._own: dict[str, Callable[..., Any]] = {
            "__ray_ready__": lambda: True,
            "__ray_call__": lambda function, *a, **k: function(self.instance, *a, **k),
            TERMINATE: self._terminate,
        }
        self._found: dict[str, tuple[str, RetryOn]] = {}  # what was found out of a method
        self._env = WorkerEnv(context, mine.env, process.settings.cache, mine.environ)

    def create(self) -> Any:
        """Make the instance; return what its ``__init__`` returned: a coroutine, perhaps."""
        context, mine = self.context, self.process.assignment
        self._env.ensure()
        self.process.load_user_app()
        cls = code.load_code(mine.meta["code"], context.fetch_code, context.sealer)
        if self.traits.durable and self._load_state(cls):
            return None
        spec = context.store.get(mine.keys.spec)
        if spec is None:
            raise RayError("the creation record is not in the store any more")
        args, kwargs = context.sealer.open(spec, spec_context(mine.actor_id))
        args, kwargs = _resolve(self.process, context, args, kwargs)
        self.process.tell(begun=True)
        if not inspect.iscoroutinefunction(cls.__init__):
            self.instance = cls(*args, **kwargs)
            return None
        self.instance = cls.__new__(cls, *args, **kwargs)
        return self.instance.__init__(*args, **kwargs)

    def _load_state(self, cls: type) -> bool:
        """Make the instance from its stored state; False where it has none yet."""
        context, mine = self.context, self.process.assignment
        title = directory.ActorRecord(mine.actor_id, mine.meta).title
        self.durable = Durability.of(context, self, cls, mine, self.traits, title)
        stored = context.store.get(mine.keys.state)
        if stored is None:
            return False
        self.process.tell(begun=True)
        self.durable.kept.load(stored)
        return True

    def passivate(self, position: int) -> bool:
        """Leave the actor without a process until its next call; False where one waits already."""
        process, mine = self.process, self.process.assignment
        if self.durable is not None:
            self.durable.close(position)
        record = directory.ActorRecord(mine.actor_id, mine.meta)
        node = process.settings.node_id
        return directory.passivate(self.context.store, record, node, mine.epoch, mine.owner)

    def failed(self, error: BaseException) -> int:
        """Report a constructor that raised: the actor has ended before it began.

        Raises:
            ClusterUnreachableError: it raised that: no fault of the actor's, which restarts.
        """
        if isinstance(error, ClusterUnreachableError):
            raise error
        for kind, why in _FREEZES.items():
            if self.durable is not None and isinstance(error, kind):
                logger.error("%s stands still: %s", self.label, error)
                self.process.tell(frozen=f"{why}{error}")
                return EXIT_INIT_FAILED
        if isinstance(error, RuntimeEnvSetupError):
            self.process.tell(init_failed=f"{SETUP_FAILED}{error}")
            return EXIT_INIT_FAILED
        text = "".join(traceback.format_exception(error))[-16_000:]
        title = f"{self.label}.__init__"
        self.process.tell(init_failed=f"{title} raised {type(error).__name__}: {error}\n{text}")
        return EXIT_INIT_FAILED

    def ready(self) -> bool:
        """Tell the cluster that the actor lives; False where another process has its place."""
        process, mine = self.process, self.process.assignment
        fields: dict[str, Any] = {"st": "alive", "pid": os.getpid()}
        fields["node"] = process.settings.node_id
        if self.durable is not None:
            owned = self.durable.begin(fields)
        else:
            scripts = self.context.store.scripts
            owned = scripts.mark(mine.keys.meta, mine.epoch, mine.owner, fields)
        if not owned:
            return False
        process.show_as(self.instance)
        process.tell(ready=True)
        process.start_celery()
        return True

    def find(self, method: str) -> Callee | None:
        """Return what a message's method name stands for."""
        if method in self._own:
            return Callee(self._own[method], routing.task_name(self.label, method))
        if method not in self.traits.methods:
            return None
        function = getattr(self.instance, method)
        found = self._found.get(method)
        if found is None:
            options = own_options(function)
            retry_on = options.retry_exceptions if options is not None else None
            found = routing.task_name(self.label, method), retry_on or False
            self._found[method] = found
        return Callee(function, *found)

    def group_of(self, method: str) -> str:
        """Return the concurrency group that ``@method`` put a method in."""
        found = self.traits.methods.get(method)
        return (found.options.concurrency_group or "") if found and found.options else ""

    def _terminate(self) -> None:
        why = "it was ended by __ray_terminate__, or the last handle to it is gone"
        self.process.leave(why)  # first: it stays ended even where the hook ends the process
        hook = getattr(self.instance, "__ray_shutdown__", None)
        if hook is not None:
            thread = threading.Timer(SHUTDOWN_SECONDS, os._exit, [EXIT_DONE])
            thread.daemon = True
            thread.start()
            try:
                hook()
            except Exception:
                logger.exception("%s.__ray_shutdown__ failed", self.label)
        self.exit(why)

    def exit(self, why: str) -> None:
        """End this actor for good from inside one of its calls.

        Raises:
            SystemExit, AsyncioActorExit: always, to end the call.
        """
        self.process.leave(why)
        if self.traits.is_async and threading.current_thread() is threading.main_thread():
            raise AsyncioActorExit(why)
        raise SystemExit(EXIT_DONE)


def _run_actor(process: HostProcess, context: Runtime) -> int:
    actor = _Hosted(process, context)
    context.exit_actor = actor.exit
    if actor.traits.is_async:
        return _run_async(actor)
    try:
        actor.create()
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the constructor raises ends the actor
        return actor.failed(error)
    if not actor.ready():
        return EXIT_FENCED
    mine = process.assignment
    executor = _executor(process, context, mine.actor_id, actor.instance)
    if actor.traits.is_concurrent:
        loop, mailbox = _concurrent_loop(actor, executor)
        runner = ThreadRunner(loop, actor.traits.max_concurrency, actor.traits.groups)
        try:
            return _leaving(process, lambda: loop.run(runner), mailbox)
        finally:
            runner.close()
    mailbox = process.mailbox("")
    ordered = _ordered_loop(actor, mailbox, executor)
    process.knows = ordered.knows

    def serve() -> None:
        _serve(ordered, mailbox)
        if actor.durable is not None:
            actor.durable.close(mailbox.position)

    return _leaving(process, serve, mailbox)


def _leaving(process: HostProcess, serve: Callable[[], Any], mailbox: Mailbox) -> int:
    """Serve until the end; an actor that leaves by its own wish has ended well."""
    try:
        serve()
    except SystemExit:
        if not process.leaving:
            raise
    finally:
        mailbox.close()
    return EXIT_DONE


def _run_async(actor: _Hosted) -> int:
    """Host an async actor: its event loop has the main thread, its mailbox one beside."""
    events = asyncio.new_event_loop()
    asyncio.set_event_loop(events)
    actor.context.results.blocking = _warn_of_blocking(actor.label)

    async def live() -> int:
        try:
            waiting = actor.create()
            if waiting is not None:
                await waiting
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 - as in _run_actor
            return actor.failed(error)
        if not actor.ready():
            return EXIT_FENCED
        mine = actor.process.assignment
        executor = _executor(
            actor.process, actor.context, mine.actor_id, actor.instance, nested=True
        )
        loop, mailbox = _concurrent_loop(actor, executor)
        runner = AsyncRunner(loop, events, actor.traits.max_concurrency, actor.traits.groups)
        work = asyncio.Future[int]()

        def serve() -> None:
            try:
                status = _leaving(actor.process, lambda: loop.run(runner), mailbox)
            except BaseException as error:  # noqa: BLE001 - the main thread raises it
                events.call_soon_threadsafe(ended.append, error)
                status = EXIT_FENCED
            events.call_soon_threadsafe(work.set_result, status)

        ended: list[BaseException] = []
        threading.Thread(target=serve, name="ca-mailbox", daemon=True).start()
        status = await work
        if ended:
            raise ended[0]
        return status

    return events.run_until_complete(live())


def _warn_of_blocking(label: str) -> Callable[[], AbstractContextManager[None]]:
    """Return what stands around a blocking wait: the first one on the event loop is told of."""
    told = False

    def warn() -> AbstractContextManager[None]:
        nonlocal told
        if not told and threading.current_thread() is threading.main_thread():
            told = True
            logger.warning(
                "%s: using blocking get() inside an async actor: every other call of it waits "
                "meanwhile. Await the reference instead",
                label,
            )
        return nullcontext()

    return warn


def _executor(
    process: HostProcess, context: Runtime, owner: str, instance: object = None, *,
    nested: bool = False,
) -> Executor:  # fmt: skip
    mine = process.assignment
    fence = Fence(mine.keys.meta, mine.epoch, mine.owner)
    executor = Executor(context, owner, process.interrupts, process.place(instance), fence)
    executor.trace = TaskTrace(
        process.find_app, has_listeners=bool(process.settings.user_app), nested=nested
    )
    executor.listens = bool(process.settings.user_app)
    executor.read_typed, executor.write_typed = read_typed, write_typed
    return executor


def _ordered_loop(actor: _Hosted, mailbox: Mailbox, executor: Executor) -> ActorLoop:
    process, context, traits = actor.process, actor.context, actor.traits
    mine = process.assignment
    aside = Aside(context, mine.keys, mine.epoch, mine.owner)
    words = (context, mailbox, executor, process, actor.find, aside)
    inherited = _inherited(process, context)
    if actor.durable is None:
        return ActorLoop(*words, out_of_order=traits.out_of_order, inherited=inherited)
    return DurableLoop(
        *words, out_of_order=traits.out_of_order, inherited=inherited, traits=traits,
        kept=actor.durable.kept, recorder=actor.durable.recorder, epoch=int(mine.epoch),
        passivate=actor.passivate,
    )  # fmt: skip


def _concurrent_loop(actor: _Hosted, executor: Executor) -> tuple[ConcurrentLoop, Mailbox]:
    process, context, mine = actor.process, actor.context, actor.process.assignment
    inflight = InFlight(
        context, process.settings.address, mine.keys, mine.epoch, mine.owner, mine.position,
        mark=mine.meta.get("max_restarts", "0") != "0", lease_lasts=process.lease_lasts,
    )  # fmt: skip
    mailbox = process.mailbox("", overlapping=True)
    loop = ConcurrentLoop(
        context, inflight, mailbox, executor, process, actor.find, actor.group_of, actor.traits,
        _inherited(process, context),
    )  # fmt: skip
    process.knows = loop.knows
    return loop, mailbox


def _inherited(process: HostProcess, context: Runtime) -> int:
    """Return how many waiting calls a former process of the actor may have known."""
    mine = process.assignment
    if mine.meta.get("restarts", "0") == "0":
        return 0
    return int(context.store.run("LLEN", mine.keys.queue))


def _resolve(
    process: HostProcess, context: Runtime, args: Any, kwargs: Any
) -> tuple[list[Any], dict[str, Any]]:
    """Replace references among constructor arguments by their values."""
    from .object_ref import ObjectRef

    refs = [value for value in (*args, *kwargs.values()) if isinstance(value, ObjectRef)]
    if refs and not context.results.wait_stored(refs):
        with process.awaiting():
            context.results.wait(refs, len(refs), None, fail_fast=True)

    def value(given: Any) -> Any:
        return context.results.value(given) if isinstance(given, ObjectRef) else given

    return [value(a) for a in args], {name: value(v) for name, v in kwargs.items()}


def _run_shared(process: HostProcess, context: Runtime) -> int:
    mine = process.assignment
    worker = SharedWorker(process, context)
    process.tell(ready=True)
    process.start_celery()
    mailbox = process.mailbox(mine.queue)
    # Calls may have been passed on from the queue of one node: they are signed for any.
    owner = routing.shared_queue(mine.need.anywhere.label)
    status = _serve(worker.loop(mailbox, _executor(process, context, owner)), mailbox)
    worker.give_back(0)
    return status


def _serve(loop: ActorLoop | SharedLoop, mailbox: Mailbox) -> int:
    try:
        loop.run()
        loop.finish()
    finally:
        mailbox.close()
    return EXIT_DONE
