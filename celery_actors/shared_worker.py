"""A worker of a shared queue: function calls, and tasks of the user's own Celery app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import code, routing
from .broker.user_tasks import UserTasks
from .executor import Callee, Executor, Prepared
from .host_process import HostProcess
from .mailbox import Mailbox
from .runtime import Runtime
from .shared_loop import SharedLoop
from .signatures import name_of
from .worker_env import WorkerEnv, adopt

__all__ = ["SharedWorker"]


class SharedWorker:
    """Loads what calls name, and serves a queue with it."""

    def __init__(self, process: HostProcess, context: Runtime) -> None:
        mine = process.assignment
        self._process = process
        self._context = context
        self._functions: dict[str, Callable[..., Any]] = {}
        self._env = WorkerEnv(context, mine.env, process.settings.cache, mine.environ)
        self._tasks = UserTasks(process.settings.user_app, process.find_app)
        self._hostname = routing.worker_name(mine.label, process.settings.host)

    def loop(self, mailbox: Mailbox, executor: Executor) -> SharedLoop:
        """Return the loop that serves the queue."""
        mine = self._process.assignment
        loop = SharedLoop(
            self._context, mailbox, executor, self._process, self._load, self.give_back,
            lambda blocked: self._process.tell(blocked=blocked), mine.resident,
            # A process that has had a device is not used again: its device memory must be free.
            default_calls=1 if mine.need.gpus else 0,
        )  # fmt: skip
        self._process.knows = loop.knows
        return loop

    def _load(self, prepared: Prepared) -> Callee:
        tag = prepared.message.tag
        if tag.job and tag.job != self._context.job:
            adopt(self._context, tag.job)
        self._process.load_user_app()
        if not tag.code:
            task = self._tasks.find(prepared.message, self._hostname)
            return Callee(task, prepared.message.task)
        function = self._functions.get(tag.code)
        if function is None:
            self._env.ensure()
            function = self._functions[tag.code] = code.load_code(
                tag.code, self._context.fetch_code, self._context.sealer
            )
            self._process.function_names[tag.code] = name_of(function)
        return Callee(function, prepared.message.task)

    def give_back(self, keep: int) -> None:
        """Return all taken calls but the oldest ``keep`` to the queue."""
        mine = self._process.assignment
        need = "" if mine.resident else routing.need_of_queue(mine.queue)
        names = [mine.keys.queue, mine.keys.meta, mine.queue, routing.NEEDS]
        scripts = self._context.store.scripts
        scripts.give_back(names, mine.epoch, mine.owner, keep, need, routing.BELL)
