"""What Celery's own worker does around a task: signals, and what its message says is to come after.

Callbacks, the rest of a chain and the parts of a chord are sent before the call's result is
stored, as Celery does: whoever sees the result sees them on their way, and a process that dies in
between may have sent them for a call that then counts as failed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Celery, Task, group, signals, states
from celery._state import _task_stack
from celery.app.task import Context
from celery.app.utils import find_app
from celery.concurrency.solo import TaskPool
from celery.exceptions import Retry
from kombu.utils.objects import cached_property

from ..errors import RayTaskError, TaskCancelledError
from ..messages import Message

#: How to reach the cluster's store, beside its addresses.
_OF_STORE = (
    "broker_use_ssl", "redis_backend_use_ssl", "broker_transport_options",
    "result_backend_transport_options",
)  # fmt: skip
#: What code that watches tasks connects to.
_OF_TASKS = (
    signals.task_prerun, signals.task_postrun, signals.task_success, signals.task_failure,
    signals.task_retry, signals.task_revoked,
)  # fmt: skip

__all__ = ["TaskTrace", "load_user_app"]

logger = logging.getLogger(__name__)


def load_user_app(name: str, hostname: str, own: Celery) -> Celery:
    """Import the app that ``celery_actors worker -A`` names, as Celery's worker does.

    Its task modules are imported, and ``worker_init`` and ``worker_process_init`` are sent: what
    connects to them (Django's fixup, a connection pool) is set up in this process.

    An app that names no broker sends what comes after its tasks by the cluster's ``own``.

    Raises:
        ImportError, …: what the user's modules raise.
    """
    app: Celery = find_app(name)
    if not app.conf.broker_url:
        names = ("broker_url", "result_backend", *_OF_STORE)
        app.conf.update({name: own.conf[name] for name in names})
    app.loader.import_default_modules()
    app.finalize()
    signals.worker_init.send(sender=_Sender(app, hostname))
    signals.worker_process_init.send(sender=None)
    return app


class _Sender:
    """Who sends ``worker_init``: what receivers look at in a worker."""

    pool_cls = TaskPool

    def __init__(self, app: Celery, hostname: str) -> None:
        self.app = app
        self.hostname = hostname


class TaskTrace:
    """Sends one process's signals, and what comes after its calls.

    Args:
        find_app: finds the app that sends: the user's, or the cluster's own.
        has_listeners: whether there is an app of the user's, whose code may listen.
        nested: whether calls overlap in one thread: then none is Celery's ``current_task``.
    """

    def __init__(
        self, find_app: Callable[[], Celery], *, has_listeners: bool, nested: bool = False
    ) -> None:
        self._find_app = find_app
        self._has_listeners = has_listeners
        self._nested = nested
        self._tasks: dict[str, Task] = {}
        self._running: dict[str, tuple[Task, Sequence[Any], Mapping[str, Any]]] = {}

    @cached_property
    def app(self) -> Celery:
        """The app that sends."""
        return self._find_app()

    # -- signals ---------------------------------------------------------------------------

    @property
    def send_signals(self) -> bool:
        """True where somebody listens to the beginnings and ends of tasks."""
        return self._has_listeners and any(signal.receivers for signal in _OF_TASKS)

    def begins(
        self, message: Message, label: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """A run of a call begins; a former one of the same call ends with a retry."""
        call_id = message.call_id
        if message.method.startswith("__"):
            return  # ours: the end of an actor, a question whether it is ready
        if call_id in self._running:
            task = self._running[call_id][0]
            signals.task_retry.send(sender=task, request=task.request, reason=Retry(), einfo=None)
            self._over(call_id, states.RETRY, None)
        task = self._task(label)
        task.push_request(**self._request(message, args, kwargs))
        if not self._nested:
            _task_stack.push(task)
        self._running[call_id] = task, args, kwargs
        signals.task_prerun.send(sender=task, task_id=call_id, task=task, args=args, kwargs=kwargs)

    def _over(self, call_id: str, state: str, value: Any) -> None:
        found = self._running.pop(call_id, None)
        if found is None:
            return
        task, args, kwargs = found
        try:
            signals.task_postrun.send(
                sender=task, task_id=call_id, task=task, args=args, kwargs=kwargs, retval=value,
                state=state,
            )  # fmt: skip
        finally:
            if not self._nested:
                _task_stack.pop()
            task.pop_request()

    def _task(self, label: str) -> Task:
        """Return the user's task of this name, or one that stands for a method or function."""
        task = self._tasks.get(label)
        if task is None:
            task = self.app.tasks.get(label)
            if task is None:
                own = {"name": label, "run": _runs_elsewhere}
                kind: Any = type(label, (self.app.Task,), own)
                kind.bind(self.app)
                task = kind()
            self._tasks[label] = task
        return task

    # -- what comes after ------------------------------------------------------------------

    def succeeded(self, message: Message, value: Any) -> None:
        """Send what comes after a call that gave a value; say so to those who listen.

        Raises:
            EncodeError: the value is not JSON, and another task is to get it. OperationalError:
                the broker could not be reached.
        """
        if message.follows:
            request = Context(self._request(message, message.args, message.kwargs))
            self._send_callbacks(request, value)
            self.app.backend.mark_as_done(message.call_id, value, request, store_result=False)
        if not self.send_signals or message.call_id not in self._running:
            return
        task = self._running[message.call_id][0]
        signals.task_success.send(sender=task, result=value)
        self._over(message.call_id, states.SUCCESS, value)

    def _send_callbacks(self, request: Context, value: Any) -> None:
        ids = {"parent_id": request.id, "root_id": request.root_id or request.id}
        callbacks = [self.app.signature(each, app=self.app) for each in request.callbacks or ()]
        for each in callbacks:
            if isinstance(each, group):
                each.apply_async((value,), **ids)
        plain = [each for each in callbacks if not isinstance(each, group)]
        if len(plain) > 1:
            group(plain, app=self.app).apply_async((value,), **ids)
        elif plain:
            plain[0].apply_async((value,), **ids)
        if chain := request.chain:
            following = self.app.signature(chain.pop(), app=self.app)
            following.apply_async((value,), chain=chain, **ids)

    def failed(self, message: Message, error: BaseException) -> None:
        """Do the same for a call that raised: its errbacks, the rest of its chain, its chord."""
        cause = error.cause if isinstance(error, RayTaskError) else error
        if not isinstance(cause, Exception):
            cause = TaskCancelledError("the call was cancelled while it ran")
        text = None
        if message.follows:
            request = Context(self._request(message, message.args, message.kwargs))
            try:
                self.app.backend.mark_as_failure(message.call_id, cause, text, request)
            except Exception:  # the failure itself must reach the caller
                logger.exception("what was to come after %s could not be sent", message.task)
        if not self.send_signals:
            return
        if message.call_id not in self._running and not message.method.startswith("__"):
            task = self._task(message.task)
            request = Context(self._request(message, message.args, message.kwargs))
            signals.task_revoked.send(
                sender=task, request=request, terminated=False, signum=None,
                expired=message.expires is not None,
            )  # fmt: skip
        if message.call_id not in self._running:
            return
        task, args, kwargs = self._running[message.call_id]
        signals.task_failure.send(
            sender=task, task_id=message.call_id, exception=cause, args=args, kwargs=kwargs,
            traceback=cause.__traceback__, einfo=None,
        )  # fmt: skip
        self._over(message.call_id, states.FAILURE, cause)

    def _request(
        self, message: Message, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what Celery's ``Task.request`` shows of a call."""
        envelope = json.loads(message.raw)
        embed = message.embed if isinstance(message.embed, dict) else {}
        headers = {k: v for k, v in envelope["headers"].items() if k != "ca"}
        properties = envelope.get("properties") or {}
        return {
            **headers, "args": args, "kwargs": kwargs, "called_directly": False,
            "delivery_info": properties.get("delivery_info") or {},
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id"), "is_eager": False,
            **{name: embed.get(name) for name in ("callbacks", "errbacks", "chain", "chord")},
        }  # fmt: skip


def _runs_elsewhere(*_args: Any, **_kwargs: Any) -> None:
    raise NotImplementedError("this task stands for a call of celery_actors, in signals only")
