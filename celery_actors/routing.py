"""Every name: queues, keys, channels, worker names. Nothing else in the package spells one.

Celery sees the queues: an actor's own queue, shared task queues named after what a call needs,
and creation queues named after what an actor needs. Keys of one actor share a hash tag, the
actor's queue name, so they live on one shard wherever the store has several.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from .need import Need

__all__ = [
    "PREFIX",
    "RESULT_PREFIX",
    "ActorKeys",
    "actor_queue",
    "gpu_queue",
    "task_name",
    "worker_label",
]

PREFIX = "ca"
#: The readable part of the Celery worker name of the process that stands for a node.
FACE_LABEL = "node"
#: Celery's own result keys (``celery.backends.base.KeyValueStoreBackend.task_keyprefix``).
RESULT_PREFIX = "celery-task-meta-"

# Every name a node or a process shares, by what is stored there.
NODES = f"{PREFIX}:nodes"  # HASH incarnation -> JSON description
SESSIONS = f"{PREFIX}:sessions"  # ZSET session -> expiry in store milliseconds
NAMES = f"{PREFIX}:names"  # HASH "<namespace>\x1f<name>" -> actor id
ACTORS = f"{PREFIX}:actors"  # HASH actor id -> actor queue, living actors only
PASSIVE = f"{PREFIX}:passive"  # SET of durable actors without a process until their next call
REMINDERS = f"{PREFIX}:reminders"  # ZSET "<queue>|<actor id>|<name>" -> due, store milliseconds
DYING = f"{PREFIX}:dying"  # HASH actor id -> queue: dead and not buried, or just frozen
BURIED = f"{PREFIX}:buried"  # ZSET "<queue>|<actor id>" -> store seconds: who died of late
NEEDS = f"{PREFIX}:needs"  # HASH need label -> JSON need
GROUPS = f"{PREFIX}:groups"  # SET of placement groups
GROUP_NAMES = f"{PREFIX}:groups:names"  # HASH name -> placement group
GROUPS_WAITING = f"{PREFIX}:groups:waiting"  # LIST of those that wait for their place, oldest first
GROUPS_MARK = f"{GROUPS_WAITING}:mark"  # another with each change of that line or a group in it
DEAD_LETTERS = f"{PREFIX}:dead-letters"  # LIST of JSON records, newest first
BELL = f"{PREFIX}:bell"  # channel: "something waits for a node"
DRAIN = "drain:"  # begins a word on a node's channel; then seconds of patience
CALLERS = f"{PREFIX}:callers:"  # HASH per caller: shared queue -> last accepted sequence


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)


def actor_queue(namespace: str, name: str) -> str:
    """Return the Celery queue of the actor called ``name`` in ``namespace``.

    Percent-encoded, with the namespace's dots too, so two actors never share a queue.
    """
    space = quote(namespace, safe="").replace(".", "%2E")
    return f"{PREFIX}.actor.{space}.{quote(name, safe='')}"


def anonymous_queue(class_name: str, actor_id: str) -> str:
    """Return the Celery queue of an actor without a name."""
    return f"{PREFIX}.actor.{_safe(class_name).replace('.', '_')}-{actor_id}"


def anonymous_actor(queue: str) -> str:
    """Return the id of the actor whose queue has its id in its name; '' for all other queues."""
    found = re.fullmatch(rf"{PREFIX}\.actor\.[^.]*-([0-9a-f]{{32}})", queue)
    return found[1] if found else ""


def is_ours(queue: str) -> bool:
    """Tell whether a Celery queue is one of this package's."""
    return queue.startswith(f"{PREFIX}.")


def shared_queue(need: str) -> str:
    """Return the queue on which function calls with this need wait."""
    return f"{PREFIX}.tasks.{need}"


def gpu_queue(count: int = 1, accelerator_type: str = "") -> str:
    """Return the queue of calls that need whole GPUs and one CPU: for a Celery task of yours.

    ``task.apply_async(queue=gpu_queue(1))`` runs on a node with a free device, in a process that
    is shown this device only. A node started with ``-A`` finds the task by its name.

    Args:
        count: devices, on one node.
        accelerator_type: their type, such as ``"H100"``; '' any.

    Raises:
        ValueError: no whole number of at least one.
    """
    if count < 1 or count != int(count):
        raise ValueError(f"count must be a whole number of devices, at least 1; got {count!r}")
    need = Need.of(cpus=1, gpus=count, accelerator=accelerator_type, custom={})
    return shared_queue(need.label)


def need_of_queue(queue: str) -> str:
    """Return the need label of a shared queue."""
    return queue.removeprefix(shared_queue(""))


def creation_queue(need: str) -> str:
    """Return the queue on which creations of actors with this need wait."""
    return f"{PREFIX}.create.{need}"


def saving_key(need: str) -> str:
    """Return the name of the node run that keeps free what a need waits for."""
    return f"{PREFIX}:saving:{need}"


def group_key(group_id: str) -> str:
    """Return the record of a placement group."""
    return f"{PREFIX}:group:{group_id}"


def job_groups_key(session: str) -> str:
    """Return the set of placement groups that end with this driver, or this detached actor."""
    return f"{PREFIX}:job:{session}:groups"


def call_prefix(session: str) -> str:
    """Return how the ids of a session's calls and values begin: they are UUIDs with a count."""
    return f"{session[:8]}-{session[8:12]}-4{session[12:15]}-a{session[13:16]}-"


def session_of(call_id: str) -> str:
    """Return the session that a call id was made in; "" for an id that is not ours."""
    digits = call_id.replace("-", "")
    session = digits[:12] + digits[13:16] + digits[19:20]
    return session if call_id.startswith(call_prefix(session)) else ""


def result_key(call_id: str) -> str:
    """Return the key of a call's result, Celery's own."""
    return RESULT_PREFIX + call_id


def reply_channel(session: str) -> str:
    """Return the channel on which a process hears its results."""
    return f"{PREFIX}:r:{session}"


def log_channel(job: str) -> str:
    """Return the channel that carries the prints of a driver's workers."""
    return f"{PREFIX}:log:{job}"


def env_key(digest: str) -> str:
    """Return the key of a resolved runtime environment, by content hash."""
    return f"{PREFIX}:env:{digest}"


def code_key(digest: str) -> str:
    """Return the key of a class or function, by content hash."""
    return f"{PREFIX}:code:{digest}"


def blob_key(blob_id: str, chunk: int) -> str:
    """Return the key of one chunk of a large buffer."""
    return f"{PREFIX}:blob:{blob_id}:{chunk}"


def asks_key(incarnation: str) -> str:
    """Return the list of what others want of a node run's shared memory."""
    return f"{PREFIX}:node:{incarnation}:asks"


def sent_key(transfer: str) -> str:
    """Return the list that announces the chunks of a transfer."""
    return f"{PREFIX}:transfer:{transfer}:sent"


def wanted_key(transfer: str) -> str:
    """Return the list of how many more chunks the reader of a transfer has room for."""
    return f"{PREFIX}:transfer:{transfer}:wanted"


def node_log_key(incarnation: str) -> str:
    """Return the stream of what a node run's workers of functions print."""
    return f"{PREFIX}:node:{incarnation}:log"


def job_key(session: str) -> str:
    """Return the set of actors that end with this driver."""
    return f"{PREFIX}:job:{session}"


def ingress_key(call_id: str) -> str:
    """Return the mark of a message that came from another broker: it may be delivered again."""
    return f"{PREFIX}:in:{call_id}"


def ingress_lock(queue: str) -> str:
    """Return what a node holds on another broker while it alone consumes an actor's queue."""
    return f"{queue}.ingress"


def cancelled_key(call_id: str) -> str:
    """Return the mark of a call that was cancelled after a worker had fetched it."""
    return f"{PREFIX}:cancelled:{call_id}"


def session_key(session: str) -> str:
    """Return the record of a driver: its import path."""
    return f"{PREFIX}:session:{session}"


def held_key(holder: str) -> str:
    """Return the set of ties that end with a session: what it keeps alive."""
    return f"{PREFIX}:held:{holder}"


def gone_key(session: str) -> str:
    """Return the mark of a session, or detached actor, that is over: late words count no more."""
    return f"{PREFIX}:gone:{session}"


def object_tokens(object_id: str) -> str:
    """Return the set of tokens of a value: who keeps it alive."""
    return f"{PREFIX}:tok:{object_id}"


def lease_key(incarnation: str) -> str:
    """Return the lease of one run of a node."""
    return f"{PREFIX}:node:{incarnation}"


def claim_key(owner: str) -> str:
    """Return the note of which actor an owner has claimed; it is there for a minute."""
    return f"{PREFIX}:claim:{owner}"


def owned_key(incarnation: str) -> str:
    """Return the set of actors and shared workers that a node run owns."""
    return f"{PREFIX}:node:{incarnation}:owns"


def sessions_key(incarnation: str) -> str:
    """Return the set of sessions of a node run's workers."""
    return f"{PREFIX}:node:{incarnation}:sessions"


def kill_key(incarnation: str) -> str:
    """Return the set of actors whose processes a node run must kill."""
    return f"{PREFIX}:node:{incarnation}:kills"


def vitals_key(incarnation: str) -> str:
    """Return the note of how a node run's actors fare: memory, processor, last errors."""
    return f"{PREFIX}:node:{incarnation}:vitals"


def node_channel(incarnation: str) -> str:
    """Return the channel on which a node run hears that it must look at its kills."""
    return f"{PREFIX}:node:{incarnation}:bell"


def name_field(namespace: str, name: str) -> str:
    """Return the field of a named actor in ``NAMES``."""
    return f"{quote(namespace, safe='')}\x1f{name}"


def split_name_field(field: str) -> tuple[str, str]:
    """Return the (namespace, name) of a field of ``NAMES``."""
    space, _, name = field.partition("\x1f")
    return unquote(space), name


@dataclass(frozen=True, slots=True)
class ActorKeys:
    """The keys of one mailbox: an actor's, or a shared worker's list of taken calls."""

    queue: str
    actor_id: str

    @property
    def _base(self) -> str:
        return f"{PREFIX}:{{{self.queue}}}:{self.actor_id}"

    @property
    def meta(self) -> str:
        """HASH: state, epoch, owner, position, limits."""
        return f"{self._base}:m"

    @property
    def callers(self) -> str:
        """HASH: caller -> last accepted sequence."""
        return f"{self._base}:c"

    @property
    def parked(self) -> str:
        """HASH: position -> message out of line: an argument is not ready, or calls may overlap."""
        return f"{self._base}:p"

    @property
    def begun(self) -> str:
        """SET: positions of calls out of line that may have started."""
        return f"{self._base}:b"

    @property
    def tokens(self) -> str:
        """SET: who keeps the actor alive."""
        return f"{self._base}:t"

    @property
    def thing(self) -> str:
        """The actor's name in ties."""
        return f"{self.queue}|{self.actor_id}"

    @property
    def spec(self) -> str:
        """STRING: the signed creation record."""
        return f"{self._base}:s"

    @property
    def state(self) -> str:
        """STRING: the signed state of a durable actor."""
        return f"{self._base}:v"

    @property
    def journal(self) -> str:
        """LIST: the calls since that state, where they are run again after a crash."""
        return f"{self._base}:j"

    @property
    def steps(self) -> str:
        """HASH: what outside steps of calls gave that have not committed."""
        return f"{self._base}:o"

    @property
    def log(self) -> str:
        """STREAM: the last lines that the actor printed, in batches."""
        return f"{self._base}:l"

    @property
    def reminders(self) -> str:
        """HASH: name of a reminder -> period, count, id and call of it."""
        return f"{self._base}:r"

    def reminder(self, name: str) -> str:
        """Return the member of ``REMINDERS`` that stands for a reminder of the actor."""
        return f"{self.thing}|{name}"


def worker_keys(worker_id: str) -> ActorKeys:
    """Return the keys of a shared worker; its mailbox is the list of calls it has taken."""
    return ActorKeys(f"{PREFIX}:taken:{worker_id}", worker_id)


def worker_label(class_name: str, name: str | None, actor_id: str) -> str:
    """Return the readable part of an actor's Celery worker name."""
    return f"{_safe(class_name)}-{_safe(name) if name else actor_id[:8]}"


def tasks_label(need: str, worker_id: str) -> str:
    """Return the readable part of the Celery worker name of a worker of functions."""
    return f"tasks-{need}-{worker_id[-4:]}"


def worker_name(label: str, host: str) -> str:
    """Return a Celery node name, as Flower and ``celery inspect`` show it."""
    return f"{label}@{_safe(host)}"


def task_name(owner: str | None, method: str) -> str:
    """Return the Celery task name of a method (``Counter.add``) or function (``add``)."""
    return f"{owner}.{method}" if owner else method
