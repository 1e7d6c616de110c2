"""``get_runtime_context``: where this code runs, for whom, and with what."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from . import directory, registry, routing, runtime
from .current_call import WorkerFacts, current_call
from .handle import ActorHandle

__all__ = ["RuntimeContext", "get_gpu_ids", "get_runtime_context"]


class RuntimeContext:
    """A view of the process and of the call that runs in this thread or asyncio task.

    In a driver there is no task, no actor and no resource: those methods return None or nothing.
    """

    @property
    def _runtime(self) -> runtime.Runtime:
        return runtime.current()

    @property
    def _worker(self) -> WorkerFacts | None:
        return self._runtime.worker

    def get(self) -> dict[str, Any]:
        """Return job, node and namespace, and inside a call its ids, as one dictionary."""
        found = {
            "job_id": self.get_job_id(), "node_id": self.get_node_id(),
            "namespace": self.namespace, "task_id": self.get_task_id(),
            "actor_id": self.get_actor_id(),
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}

    def get_job_id(self) -> str:
        """Return the id of the driver for which this process works."""
        return self._runtime.job

    def get_node_id(self) -> str:
        """Return the id of this process's node; a driver's is the one it started, else any."""
        context = self._runtime
        return context.node_id or next(iter(sorted(context.store.hash(routing.NODES))), "")

    def get_worker_id(self) -> str:
        """Return the id of this process."""
        worker = self._worker
        return worker.worker_id if worker is not None else self._runtime.session

    def get_task_id(self) -> str | None:
        """Return the id of the running call, which is its Celery task id; None in a driver."""
        call = current_call.get()
        return call.call_id if call is not None else None

    def get_task_name(self) -> str | None:
        """Return the name of the running call, ``Class.method`` or a function's; None outside."""
        call = current_call.get()
        return call.name if call is not None else None

    def get_task_function_name(self) -> str | None:
        """Return the qualified name of the running function or method; None outside."""
        call = current_call.get()
        return call.function_name if call is not None else None

    def get_actor_id(self) -> str | None:
        """Return the id of the actor that runs here, or None."""
        worker = self._worker
        return worker.actor_id or None if worker is not None else None

    def get_actor_name(self) -> str | None:
        """Return the name of the actor that runs here: '' if it has none, None outside actors."""
        worker = self._worker
        return worker.actor_name if worker is not None and worker.actor_id else None

    @property
    def namespace(self) -> str:
        """The namespace in which names of actors are looked up here."""
        return self._runtime.namespace

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """True where this actor's process was started again after a crash.

        Raises:
            RuntimeError: outside an actor.
        """
        return self._actor().restarts > 0

    @property
    def current_actor(self) -> ActorHandle[Any]:
        """A handle of the actor that runs here.

        Raises:
            RuntimeError: outside an actor.
        """
        actor_id = self._actor().actor_id
        record = directory.find(self._runtime.store, actor_id)
        if record is None:
            raise RuntimeError(f"the actor {actor_id} that runs here is not in the store any more")
        return ActorHandle.of(record)

    def _actor(self) -> WorkerFacts:
        worker = self._worker
        if worker is None or not worker.actor_id:
            raise RuntimeError("This is only available in an actor: ask in one of its methods")
        return worker

    def get_assigned_resources(self) -> dict[str, float]:
        """Return what this worker holds while it runs, such as ``{"CPU": 1.0}``; {} in a driver."""
        worker = self._worker
        return dict(worker.resources) if worker is not None else {}

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return the devices assigned to this worker as strings: ``{"GPU": ["0"]}``."""
        return {"GPU": [str(device) for device in get_gpu_ids()]}

    def get_node_labels(self) -> dict[str, str]:
        """Return the labels of this process's node, its own names among them."""
        node_id = self.get_node_id()
        found = {node.node_id: node.labels for node in registry.records(self._runtime.store)}
        return found.get(node_id, {})

    def get_placement_group_id(self) -> str | None:
        """Return the id of the placement group that this process runs in, or None."""
        worker = self._worker
        return worker.group or None if worker is not None else None

    @property
    def runtime_env(self) -> dict[str, Any]:
        """The environment that calls made here inherit; packages by name, not by path."""
        return dict(self._runtime.env)

    def get_runtime_env_string(self) -> str:
        """Return the environment as JSON."""
        return json.dumps(self.runtime_env, sort_keys=True)

    @property
    def runtime_env_string(self) -> str:
        """The environment as JSON."""
        return self.get_runtime_env_string()

    def is_canceled(self) -> bool:
        """Tell whether the running call was cancelled: a long loop can look and stop.

        Raises:
            RuntimeError: outside a call.
        """
        call = current_call.get()
        if call is None:
            raise RuntimeError("is_canceled() tells of the running call, and none runs here")
        return self._runtime.is_cancelled(call.call_id)

    @property
    def gcs_address(self) -> str:
        """The address of the store, without its password."""
        return self._runtime.address.public

    def get_session_name(self) -> str:
        """Return a name that all processes of the cluster share until the store is restarted."""
        run_id = self._runtime.store.about()["run_id"]
        return f"session_{hashlib.sha256(run_id.encode()).hexdigest()[:16]}"


def get_runtime_context() -> RuntimeContext:
    """Return the view of this process and of the running call; joins a cluster where needed."""
    runtime.current()
    return RuntimeContext()


def get_gpu_ids() -> list[int | str]:
    """Return the GPUs assigned to this worker; [] where it has none and in a driver.

    Numbers, or the names under which ``CUDA_VISIBLE_DEVICES`` gave them to the node.
    """
    worker = runtime.current().worker
    return list(worker.devices) if worker is not None else []
