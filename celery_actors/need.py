"""What one call or actor needs to run: amounts, and where they must be. A pure value.

Amounts are integers of 1/10,000, Ray's precision, so fractions add up exactly. The label of a need
is the tail of the Celery queues on which such work waits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import msgspec

from .labels import Selector, matches

__all__ = ["ACCELERATOR", "UNIT", "Need", "described", "plain_amount", "plain_number"]

UNIT = 10_000
#: The resource that a node with devices of a type has once, as in Ray.
ACCELERATOR = "accelerator_type:"
#: What a need for a device type takes of it, as in Ray: so many that it never runs out.
_ACCELERATOR_AMOUNT = 10


def plain_number(amount: int) -> str:
    """Return units as a decimal number, exactly."""
    whole, part = divmod(amount, UNIT)
    return f"{whole}.{part:04d}".rstrip("0") if part else str(whole)


def plain_amount(name: str, amount: int) -> str:
    """Return an amount of one resource for people: memory as "4 GiB", all else as a number."""
    if name != "memory":
        return plain_number(amount)
    unit, word = (2**30, "GiB") if amount >= UNIT * 2**30 else (2**20, "MiB")
    return f"{amount / UNIT / unit:.2f}".rstrip("0").rstrip(".") + f" {word}"


@dataclass(frozen=True, slots=True)
class Need:
    """Resources that one call or actor holds, in units of 1/10,000; sorted, without zeros.

    ``selector``: conditions on the labels of the node. ``node``: the node run that is to take it;
    ``otherwise`` says what happens where that cannot: ``wait`` for it and fail with it, ``gone``:
    any other takes it once that node is lost or could never hold it, ``full``: also when it has no
    room at the moment. ``gpu_ids``: the very devices. ``bundle``: the placement group and the index
    in it (``<id>.<index>``, without an index any) whose reservation it runs in. ``env``: the
    runtime environment.
    """

    amounts: tuple[tuple[str, int], ...] = ()
    env: str = ""
    selector: Selector = ()
    node: str = ""
    otherwise: Literal["wait", "gone", "full"] = "wait"
    gpu_ids: tuple[int, ...] = ()
    bundle: str = ""
    captures: bool = False  # what it starts runs in that group, too

    @classmethod
    def of(
        cls, *, cpus: float = 0, gpus: float = 0, memory: float = 0, accelerator: str = "",
        custom: Mapping[str, float],
    ) -> Need:  # fmt: skip
        """Build a need from plain numbers; ``memory`` in bytes."""
        given = {"CPU": cpus, "GPU": gpus, "memory": memory, **custom}
        scaled = {name: round(amount * UNIT) for name, amount in given.items()}
        if accelerator:
            name = ACCELERATOR + accelerator
            scaled[name] = max(scaled.get(name, 0), _ACCELERATOR_AMOUNT)
        return cls(tuple(sorted((name, amount) for name, amount in scaled.items() if amount > 0)))

    @classmethod
    def decode(cls, text: str | bytes) -> Need:
        """Read what ``encode`` wrote."""
        return msgspec.json.decode(text, type=cls)

    def encode(self) -> str:
        """Return the need as JSON, for the store: what it says, without the defaults."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        said = {name: value for name, value in said.items() if value != getattr(_NONE, name)}
        return msgspec.json.encode(said).decode()

    # -- names -----------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """A short name that is the same for equal needs: the tail of a queue name."""
        parts = [self._resources]
        if self._where != _ANYWHERE:
            parts += [*self._places, _digest(self._where, 16)]
        if self.env:
            parts.append(f"env-{self.env}")
        return "-".join(parts)

    @property
    def _where(self) -> tuple[object, ...]:
        return (
            self.selector, self.node, self.otherwise, self.gpu_ids, self.bundle, self.captures,
        )  # fmt: skip

    @property
    def _places(self) -> list[str]:
        """Return where it must run, for people; what follows keeps different places apart."""
        found = []
        if self.selector:
            found.append("where")
        if self.node:
            found.append(f"on-{re.sub('[^A-Za-z0-9_.-]', '_', self.node)}")
        if self.gpu_ids:
            found.append("devices" + ".".join(map(str, self.gpu_ids)))
        if self.bundle:
            found.append(f"group-{self.bundle}")
        return found

    @property
    def _resources(self) -> str:
        if not self.amounts:
            return "none"
        words = [_word(name, amount) for name, amount in self.amounts]
        if "" in words:  # two such names could run into the same text
            return "x" + _digest(self.amounts, 16)
        return "-".join(words)

    # -- amounts ---------------------------------------------------------------------------

    @property
    def plain(self) -> dict[str, float]:
        """The amounts as plain numbers."""
        return {name: amount / UNIT for name, amount in self.amounts}

    def amount(self, name: str) -> int:
        """Return the units of one resource."""
        return dict(self.amounts).get(name, 0)

    @property
    def cpus(self) -> int:
        """CPU units needed."""
        return self.amount("CPU")

    @property
    def gpus(self) -> int:
        """GPU units needed."""
        return self.amount("GPU")

    @property
    def accelerator(self) -> str:
        """The device type needed, or ''."""
        kinds = [name for name, _ in self.amounts if name.startswith(ACCELERATOR)]
        return kinds[0].removeprefix(ACCELERATOR) if kinds else ""

    # -- places ----------------------------------------------------------------------------

    @property
    def anywhere(self) -> Need:
        """The same need where no node was chosen: what others may take over."""
        return replace(self, node="", otherwise="wait")

    @property
    def may_be_passed_on(self) -> bool:
        """Tell whether work that was sent to a node may move to the queue of ``anywhere``."""
        return bool(self.node) and self.otherwise != "wait"

    @property
    def group(self) -> tuple[str, int]:
        """The placement group and the index in it (-1: any); ("", -1) for no group."""
        name, _, index = self.bundle.partition(".")
        return name, int(index) if index else -1

    def welcomes(self, node_id: str, labels: Mapping[str, str]) -> bool:
        """Tell whether the need may be met on this node, apart from amounts."""
        return self.node in ("", node_id) and matches(self.selector, labels)


#: What ``_where`` is of a need that may be met on any node.
_ANYWHERE = Need()._where  # noqa: SLF001 - the module's own


def _word(name: str, amount: int) -> str:
    """Return one resource as a part of a label; '' for a name that could be mistaken."""
    if name in ("CPU", "GPU"):
        return f"{name.lower()}{plain_number(amount)}"
    kind = name.removeprefix(ACCELERATOR)
    if kind != name:
        readable = amount == _ACCELERATOR_AMOUNT and re.fullmatch("[A-Za-z0-9]+", kind)
        return f"is.{kind}" if readable else ""
    if re.fullmatch("[a-z_]+", name) and name not in ("cpu", "gpu", "none", "x", "where", "is"):
        return f"{name}{plain_number(amount)}"
    return ""


_NONE = Need()


def _digest(value: object, length: int) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:length]


def described(amounts: Sequence[tuple[str, int]]) -> str:
    """Return amounts for people: "2 GPUs, 1 CPU, 4 GiB of memory, 1 of ssd"."""
    words = []
    for name, amount in sorted(amounts, key=lambda pair: ("GPU", "CPU").index(pair[0])
                               if pair[0] in ("GPU", "CPU") else 2):  # fmt: skip
        number = plain_amount(name, amount)
        if name in ("GPU", "CPU"):
            words.append(f"{number} {name}{'s' if amount > UNIT else ''}")
        elif name == "memory":
            words.append(f"{number} of memory")
        elif name.startswith(ACCELERATOR):
            words.append(f"a device of type {name.removeprefix(ACCELERATOR)}")
        else:
            words.append(f"{number} of {name}")
    return ", ".join(words) or "no resource"
