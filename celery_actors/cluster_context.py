"""What ``init`` returns."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any

from . import installation
from .network import own_ip
from .runtime import Runtime

__all__ = ["ClusterContext"]


@dataclass(frozen=True)
class ClusterContext(Mapping[str, Any]):
    """The cluster that this process is in: attributes, a mapping, and a context manager.

    Leaving the ``with`` block shuts down.
    """

    address: str
    namespace: str
    node_id: str
    session: str
    _runtime: Runtime = field(repr=False)
    _leave: Callable[[], None] = field(repr=False)
    _given_app: Any = field(default=None, repr=False)

    @cached_property
    def app(self) -> Any:
        """A Celery app on this cluster: for ``AsyncResult``, ``control.inspect()``, events.

        The one that was given to ``init(app=…)`` or ``Actors(app)``, or one of the cluster's own.
        """
        if self._given_app is not None:
            return self._given_app
        from .broker.app import make_app  # half a second of imports that few drivers need

        context = self._runtime
        return make_app(
            context.address, context.sealer,
            result_seconds=context.result_seconds,
        )  # fmt: skip

    def close_app(self) -> None:
        """Close the connections of ``app``, where it was used."""
        if "app" in self.__dict__ and self._given_app is None:
            from .broker.app import close_app

            close_app(self.app)

    @property
    def dashboard_url(self) -> str:
        """Empty, as there is no dashboard of ours: Flower and ``celery inspect`` show a cluster."""
        return ""

    @property
    def python_version(self) -> str:
        """The version of Python, such as ``3.12.1``."""
        return platform.python_version()

    @property
    def ray_version(self) -> str:
        """The version of celery_actors as Ray's programs print it; '' in a checkout."""
        return installation.version()

    @property
    def ray_commit(self) -> str:
        """Empty: releases are named by their version."""
        return ""

    @property
    def address_info(self) -> dict[str, Any]:
        """The addresses as Ray's programs look them up; None for what does not exist here."""
        public = self._runtime.address.public
        ip = own_ip(self._runtime.address)
        return {
            "address": self.address, "gcs_address": public, "redis_address": public,
            "node_ip_address": ip, "raylet_ip_address": ip, "object_store_address": None,
            "raylet_socket_name": None, "webui_url": self.dashboard_url, "node_id": self.node_id,
            "namespace": self.namespace, "session": self.session,
        }  # fmt: skip

    def disconnect(self) -> None:
        """Leave the cluster, as ``shutdown`` does."""
        self._leave()

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __enter__(self) -> ClusterContext:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()
