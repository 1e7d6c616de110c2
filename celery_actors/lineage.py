"""Values that were lost are made again: the calls that gave them run once more.

The owner of a reference keeps the message of its call as long as the value lies outside the result
record, in memory that a node may take with it, and where the call may be run again: functions with
``max_retries``, methods with ``max_task_retries``. Others that find the value gone ask the owner.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

from . import records, routing
from .errors import ObjectLostError, ObjectReconstructionFailedError, RayError
from .messages import Meta, outline
from .object_ref import ObjectRef
from .store import Answer
from .store.wire import pack
from .tokens import remains_of

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ["Lineage"]


class Lineage:
    """Makes the lost values of one process again."""

    def __init__(self, context: Runtime) -> None:
        self._context = context
        self._lock = threading.Lock()
        context.results.rebuild = self.rebuild
        context.results.on_rebuild = self._on_asked

    def rebuild(self, ref: ObjectRef[Any], error: ObjectLostError) -> bool:
        """Have a lost value made again; True: wait for it, False: it stays lost.

        Raises:
            ObjectReconstructionFailedError: its call may not run again, or nobody can tell it to.
        """
        with self._lock:
            if not ref.ready:
                return True  # another thread has met the same
            if ref._owned:
                return self._run_again(ref, error)
            if ref._meta is not None and ref._meta.status != "SUCCESS":
                return False  # the owner has said so
            return self._ask_owner(ref, error)

    def _run_again(self, ref: ObjectRef[Any], error: ObjectLostError) -> bool:
        if ref._lineage is None:
            return False
        target, raw, _holds = ref._lineage
        message = outline(raw)
        limit, tries = message.tag.max_retries, message.retries
        if 0 <= limit <= tries:
            raise ObjectReconstructionFailedError(
                f"{error} {message.task} gave it and has been run again {tries} times, as often as "
                "it may (max_retries, max_task_retries)"
            )
        remains = remains_of(message)
        if remains is not None and remains.blobs:
            raise ObjectReconstructionFailedError(
                f"{error} {message.task} gave it and cannot run again: a large argument was passed "
                "by value and is gone with the call. put() such values and pass the reference"
            )
        context = self._context
        context.results.reset(ref)
        context.mux.post(pack(("UNLINK", routing.result_key(ref.id))))
        ref._target = target
        ref._lineage = (target, context.calls.submit_again(target, raw), _holds)
        context.calls.flush()
        return True

    def _ask_owner(self, ref: ObjectRef[Any], error: ObjectLostError) -> bool:
        context = self._context
        context.results.reset(ref)
        # Nobody may take the old record for the new one.
        context.store.run("UNLINK", routing.result_key(ref.id))
        channel = routing.reply_channel(routing.session_of(ref.id))
        word = msgspec.json.encode([{"status": "REBUILD", "task_id": ref.id}])
        if int(context.store.run("PUBLISH", channel, word)):
            return True
        context.results.complete(ref, None, error)
        raise ObjectReconstructionFailedError(
            f"{error} The process that made its call has ended, so it cannot be made again"
        )

    def _on_asked(self, meta: Meta) -> None:
        """Hear that somebody found a value gone, in the thread that reads."""
        threading.Thread(target=self._see_to, args=(meta.task_id,), daemon=True).start()

    def _see_to(self, call_id: str) -> None:
        context = self._context
        ref = context.results.held(call_id)
        if ref is not None and not ref.ready:
            return  # on its way
        try:
            if ref is None:
                raise records.lost(call_id)
            try:
                context.results.value(ref)
            except ObjectLostError as error:
                if self.rebuild(ref, error):
                    return
                raise
            record = msgspec.json.encode(ref._meta)
        except RayError as error:
            record = records.error_record(error, call_id)
        context.store.scripts.answer(
            context.result_seconds, [Answer(routing.result_key(call_id), record)]
        )
