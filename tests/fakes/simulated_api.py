"""The simulator's tables as an ApiReader without HTTP, fast enough for property tests."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain

import orjson

from connector.errors import BatchTooLargeError, RetryableError
from connector.imednet.reader import parse_page
from connector.interfaces import Page, PageRequest
from connector.lab.simulator import filters
from connector.lab.simulator.api import Simulation
from connector.lab.simulator.faults import Faults, distorted
from connector.lab.simulator.study import Study, api_date
from connector.lab.simulator.tables import Query, Table
from tests.fakes.clock import FakeClock

_NO_ANSWER = {"rate_limit", "server_error", "drop", "redirect", "no_content"}


class SimulatedApi:
    """Answers carry the server clock in whole seconds; ``before`` and ``after`` wrap each read."""

    def __init__(self, study: Study, server_clock: FakeClock, faults: Faults | None = None) -> None:
        self.simulation = Simulation({study.key: study})
        self.study, self.clock = study, server_clock
        self.faults = faults or Faults()
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[str | None], None] = lambda _: None
        self.answering: Callable[[], None] = lambda: None
        """Called after the rows are selected and before the answer's clock is read."""
        self.shuffles_ties: Callable[[], bool] = lambda: False
        """Whether to shuffle rows with equal sort values on the next page."""
        self.requests: list[PageRequest] = []

    def read(self, request: PageRequest) -> Page:
        self.before()
        self.requests.append(request)
        fault = self.faults.draw()
        began_ms = self.clock.now_ms()
        if fault in _NO_ANSWER:
            raise RetryableError(fault)
        if fault == "slow":
            raise BatchTooLargeError(fault)
        envelope, bodies = self._answer(request, ignore_filter=fault == "filter_ignored")
        self.after(fault)
        if fault == "html":
            envelope = b"<html><body>Maintenance</body></html>"
        elif fault == "truncated":
            envelope = envelope[: len(envelope) // 2]
        elif fault is not None and not (fault == "empty" and not request.resource):
            envelope = distorted(fault, envelope, bodies)
        page = parse_page(200, envelope, request)
        return replace(page, took_ms=self.clock.now_ms() - began_ms)

    def _answer(self, request: PageRequest, *, ignore_filter: bool) -> tuple[bytes, list[bytes]]:
        table = (
            self.study.table(request.resource)
            if request.resource
            else self.simulation.studies_table()
        )
        sort, _, direction = request.sort.partition(",")
        query = Query(
            filters.parse("" if ignore_filter else request.filter or ""),
            [[]],
            [(sort, direction == "asc")],
            request.page,
            request.size,
        )
        if request.resource == "codings" and self.shuffles_ties():
            total, bodies = self._with_ties_shuffled(table, query)
        else:
            total, bodies = table.select(query)
        self.answering()
        at = api_date(datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC))
        head = {
            "metadata": {"timestamp": at},
            "pagination": {
                "currentPage": request.page,
                "totalPages": -(-total // request.size),
                "totalElements": total,
            },
        }
        return orjson.dumps(head)[:-1] + b',"data":[' + b",".join(bodies) + b"]}", bodies

    def _with_ties_shuffled(self, table: Table, query: Query) -> tuple[int, list[bytes]]:
        """Select as if each five rows in a row had the same sort value."""
        total, bodies = table.select(replace(query, page=0, size=len(table) or 1))
        ties = [bodies[start : start + 5] for start in range(0, total, 5)]
        for each in ties:
            self.faults.rng.shuffle(each)
        start = query.page * query.size
        return total, list(chain.from_iterable(ties))[start : start + query.size]
