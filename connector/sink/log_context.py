"""The context of log events about a batch."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from structlog.contextvars import bound_contextvars

from connector.sink.lane import Lane
from connector.sink.states import Arrival

T = TypeVar("T")


def in_context(
    step: Callable[[], T], lane: Lane | None, batch: Sequence[Arrival] = ()
) -> Callable[[], T]:
    """Return ``step``, whose log events have the topic, partition and offsets as context.

    So do the driver's, which it logs in the thread that runs the step.
    """
    if lane is None:
        return step
    context = {"topic": lane.partition.topic, "partition": lane.partition.partition}
    if batch:
        end = batch[-1].message.offset + 1
        context["offsets"] = f"[{batch[0].message.offset}, {end})"

    def step_in_context() -> T:
        with bound_contextvars(**context):
            return step()

    return step_in_context
