"""The simulator's tables as an ApiReader, without HTTP: for thousands of schedules a minute."""

from collections.abc import Callable

import orjson

from connector.dates import parse_api_date
from connector.demo.simulator import filters
from connector.demo.simulator.api import Simulation
from connector.demo.simulator.study import Study, api_date
from connector.demo.simulator.tables import Query
from connector.interfaces import Page, PageRequest
from tests.fakes.clock import FakeClock


class SimulatedApi:
    """Answers with the server clock's whole second; ``before`` runs ahead of each read."""

    def __init__(self, study: Study, server_clock: FakeClock) -> None:
        self.simulation = Simulation({study.key: study})
        self.study, self.clock = study, server_clock
        self.before: Callable[[], None] = lambda: None
        self.requests: list[PageRequest] = []

    def read(self, request: PageRequest) -> Page:
        self.before()
        self.requests.append(request)
        table = (
            self.study.table(request.resource)
            if request.resource
            else self.simulation.studies_table()
        )
        query = Query(
            filters.parse(request.filter or ""),
            [[]],
            [(request.sort.split(",")[0], True)],
            request.page,
            request.size,
        )
        total, bodies = table.select(query)
        second = parse_api_date(api_date_of(self.clock))
        assert second is not None
        return Page(
            round(second.timestamp() * 1000), total, [orjson.loads(each) for each in bodies]
        )


def api_date_of(clock: FakeClock) -> str:
    from datetime import UTC, datetime

    return api_date(datetime.fromtimestamp(clock.now_ms() / 1000, UTC))
