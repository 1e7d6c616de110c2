"""Tasks of the user's own Celery app: what plain Celery clients send to a shared queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from celery import Celery, Task
from celery.exceptions import Retry, TaskPredicate

from ..errors import RayError
from ..messages import Message

__all__ = ["UserTasks"]


class UserTasks:
    """The app that ``celery_actors worker -A`` names. It is imported when the first task comes.

    Not before: the process must have been told its devices when user code is loaded.
    """

    def __init__(self, name: str, find_app: Callable[[], Celery]) -> None:
        self._name = name
        self._find_app = find_app

    def find(self, message: Message, hostname: str) -> Callable[..., Any]:
        """Return what runs a task under its request, as a Celery worker does.

        Raises:
            RayError: there is no such task here, or it asks for what only Celery's workers do.
            ImportError, …: the app cannot be imported.
        """
        if not self._name:
            raise RayError(
                f"{message.task} was sent without code, by a plain Celery client, and this node "
                "knows no Celery app: start it with `celery_actors worker -A your.module`"
            )
        app = self._find_app()
        task = app.tasks.get(message.task)
        if task is None:
            raise RayError(
                f"the app {self._name} of this node has no task {message.task!r}: it has "
                f"{sorted(name for name in app.tasks if not name.startswith('celery.'))}"
            )
        if task.rate_limit:
            raise RayError(
                f"{task.name} has rate_limit={task.rate_limit!r}, and on queues of celery_actors "
                "rate limits are not offered: it did not run. Send it to a queue of your own "
                "workers, or take the limit away (in the task, or in task_annotations)"
            )
        _refuse_to_send_again(task)

        def run(*args: Any, **kwargs: Any) -> Any:
            task.push_request(
                id=message.call_id, task=message.task, args=args, kwargs=kwargs,
                retries=message.retries, hostname=hostname, called_directly=False, is_eager=False,
            )  # fmt: skip
            try:
                return task.run(*args, **kwargs)
            except TaskPredicate as word:
                raise _not_offered(task, word) from word
            finally:
                task.pop_request()

        return run


def _refuse_to_send_again(task: Task) -> None:
    """Let ``retry`` and ``replace`` raise: both would send a message to the app's own queues.

    ``autoretry_for`` calls ``retry``, too.
    """

    def retry(*_args: Any, exc: BaseException | None = None, **_options: Any) -> NoReturn:
        raise _not_offered(task, Retry(exc=exc)) from exc

    def replace(*_args: Any, **_options: Any) -> NoReturn:
        raise RayError(
            f"{task.name} asked to be replaced, and on queues of celery_actors that is not offered "
            "yet. Return what is to be done, and let the client send it"
        )

    for own in (retry, replace):
        setattr(task, own.__name__, own)


def _not_offered(task: Task, word: TaskPredicate) -> RayError:
    """Return the error for what only Celery's own worker does."""
    if not isinstance(word, Retry):
        return RayError(
            f"{task.name} raised {type(word).__name__}, which only Celery's own workers understand."
            " Return a value, or raise an error"
        )
    cause = f", because of {word.exc!r}" if word.exc is not None else ""
    return RayError(
        f"{task.name} asked for a retry{cause}, and on queues of celery_actors retries of Celery "
        "tasks are not offered yet: it failed. Repeat it in the task, let the client send it "
        "again, or make it a function with @celery_actors.remote(retry_exceptions=True)"
    )
