"""The service of the kilt shop whose link breaks between its book and the broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from support.cutting import Cut
from support.rawclient import connect
from support.shop import PROGRAMS, ask

from forkbroker.testing.broker import RunningBroker


@pytest.mark.parametrize("before", [True, False])
def test_a_request_is_neither_lost_nor_done_twice(
    make_broker: Callable[..., RunningBroker], tmp_path: Path, before: bool
) -> None:
    """The book is changed, and then COMMIT does not arrive, or its RECEIPT does not."""
    broker = make_broker()
    order = {"id": str(uuid4()), "customer": "fiona", "tartan": "Black Watch", "waist": 90, "price": 380}
    with Cut(broker.port, b"COMMIT\n", before=before) as cut:
        env = {**os.environ, "KILTSHOP_STOMP": f"127.0.0.1:{cut.port}", "KILTSHOP_DIRECTORY": str(tmp_path)}
        service = subprocess.Popen([sys.executable, PROGRAMS / "orders.py"], env=env, stdout=subprocess.DEVNULL)
        try:
            with connect(broker.port) as customer, connect(broker.port) as mailer, connect(broker.port) as maker:
                mailer.subscribe("/queue/mails")
                maker.subscribe("/topic/order.*")
                answer = ask(customer, "orders.place", **order)
                again = ask(customer, "orders.get", id=order["id"])

                assert cut.is_done
                assert answer == again == {**order, "state": "pending", "version": 1}
                assert json.loads(mailer.expect("MESSAGE").body)["id"] == f"{order['id']}.placed"
                maker.expect("MESSAGE", json.dumps(answer))
                for client in (customer, mailer, maker):
                    client.expect_nothing()
        finally:
            service.kill()
            service.wait()
