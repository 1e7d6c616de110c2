"""A caller that places a function in a cluster of nodes that only say what they have."""

from __future__ import annotations

from typing import Any

import pytest

from celery_actors.capacity import Capacity
from celery_actors.errors import InsufficientResourcesError
from celery_actors.need import Need
from celery_actors.options import FunctionOptions, function_options
from celery_actors.placement import NodeView
from celery_actors.store import Store
from celery_actors.strategies import NodeAffinitySchedulingStrategy
from tests.unit.views import announce


def place(store: Store, *nodes: NodeView, **given: Any) -> Need:
    """Place a function with these options in a cluster of these nodes."""
    announce(store, *nodes)
    return place_by(Capacity(store), **given)


def place_by(caller: Capacity, **given: Any) -> Need:
    options = function_options(FunctionOptions(), given)
    return caller.place(options, options.need, "f()")


def refusal(store: Store, *nodes: NodeView, **given: Any) -> str:
    with pytest.raises(InsufficientResourcesError) as caught:
        place(store, *nodes, **given)
    return str(caught.value)


def hard(node_id: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node_id)


def soft(node_id: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node_id, soft=True)
