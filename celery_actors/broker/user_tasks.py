"""Tasks of the user's own Celery app: what plain Celery clients send to a shared queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.utils import find_app

from ..errors import RayError
from ..messages import Message

__all__ = ["UserTasks"]


class UserTasks:
    """The app that ``celery_actors worker -A`` names. It is imported when the first task comes.

    Not before: the process must have been told its devices when user code is loaded.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._app: Celery | None = None

    def find(self, message: Message, hostname: str) -> Callable[..., Any]:
        """Return what runs a task under its request, as a Celery worker does.

        Raises:
            RayError: there is no such task here. ImportError, …: the app cannot be imported.
        """
        if not self._name:
            raise RayError(
                f"{message.task} was sent without code, by a plain Celery client, and this node "
                "knows no Celery app: start it with `celery_actors worker -A your.module`"
            )
        if self._app is None:
            app = find_app(self._name)
            app.loader.import_default_modules()
            app.finalize()
            self._app = app
        task = self._app.tasks.get(message.task)
        if task is None:
            raise RayError(
                f"the app {self._name} of this node has no task {message.task!r}: it has "
                f"{sorted(name for name in self._app.tasks if not name.startswith('celery.'))}"
            )

        def run(*args: Any, **kwargs: Any) -> Any:
            task.push_request(
                id=message.call_id, task=message.task, args=args, kwargs=kwargs,
                retries=message.retries, hostname=hostname, called_directly=False, is_eager=False,
            )  # fmt: skip
            try:
                return task.run(*args, **kwargs)
            finally:
                task.pop_request()

        return run
