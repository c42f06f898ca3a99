"""Whether a router's books agree: what queues, lanes, consumers and the journal say of memory, credit and messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain

from forkbroker.routing.offers.ahead import AheadOffer
from forkbroker.routing.offers.claims import Offer, OfferState
from forkbroker.routing.offers.consumers import Child, Consumer
from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import Run
from forkbroker.routing.router import Router


def audit(router: Router) -> None:
    """Compare each sum that is kept with what it is the sum of."""
    queues = router._queues
    taken = _find_taken(router)
    for queue in queues.all():
        for lane in queue.lanes:
            _check_lane(lane)
        _check_queue(queue, taken.pop(queue, []))
    # what is taken from a queue that is gone uses memory until it comes back
    lost = sum(_in_memory(runs) for queue, runs in taken.items() if queue.is_gone)
    assert all(queue.is_gone for queue in taken)
    assert queues.window.used == sum(queue.memory for queue in queues.all()) + lost, "memory of all queues"
    assert queues.window.asked == sum(lane.asked for queue in queues.all() for lane in queue.lanes)
    for child in router._offering.clientele.children.values():
        _check_child(router, child)
    _check_ahead(router)
    _check_journal(router)
    _check_timers(router)
    assert router._jobs.delays.messages == sum(run.count for run in _delayed(router))
    assert router._jobs.delays.octets == sum(run.memory for run in _delayed(router))


def _offers(router: Router) -> list[Offer]:
    claims = router._offering.claims
    offers = [*claims.timely.values(), *router._offering.ahead.kept.values(), *claims._overdue.values()]
    masks = [claims.free, *[offer.mask for offer in offers]]
    assert sum(masks) == (1 << claims._slots.size) - 1, "a slot is lost, or used twice"
    assert sum(mask.bit_count() for mask in masks) == claims._slots.size, "a slot is used twice, and another one lost"
    return offers


def _consumers(router: Router) -> Iterator[Consumer]:
    return chain.from_iterable(child.consumers.values() for child in router._offering.clientele.children.values())


def _find_taken(router: Router) -> dict[Queue, list[Run]]:
    """What is offered, unsettled, or waits for its redelivery."""
    taken: dict[Queue, list[Run]] = defaultdict(list)
    for offer in _offers(router):
        if isinstance(offer, AheadOffer):
            taken[offer.queue] += [offer.run.part(serial, 1) for serial in offer.unclaimed]
        elif offer.state is OfferState.OFFERED:
            taken[offer.queue].append(offer.run)
    for consumer in _consumers(router):
        taken[consumer.queue] += consumer.unsettled
    for queue in router._queues.all():
        taken[queue] += queue.waiting.values()
    return taken


def _check_lane(lane: Lane) -> None:
    ready, hidden = [*lane.returned, *lane.fresh], [run for _, run in lane.pending]
    assert lane.ready == sum(run.count for run in ready)
    assert lane.stubbed == sum(run.count for run in lane.stubs)
    assert all(run.is_stub for run in lane.stubs) and not any(run.is_stub for run in ready)
    assert lane.hidden == sum(run.count for run in hidden)
    assert lane.memory == sum(run.memory for run in ready + hidden), "memory of a lane"
    serials = [run.serial for run in [*reversed(lane.returned), *lane.fresh, *hidden] if run.count]
    assert serials == sorted(serials), "not in order"
    assert not serials or serials[-1] <= lane.last
    assert min(lane.paged, lane.paged_octets, lane.paged_since) >= 0


def _check_queue(queue: Queue, taken: list[Run]) -> None:
    lanes = queue.lanes
    assert queue.ready == sum(lane.ready for lane in lanes)
    counted = queue.ready + queue.paged + sum(lane.hidden for lane in lanes) + sum(run.count for run in taken)
    assert queue.messages == counted, "messages of a queue"
    assert queue.memory == sum(lane.memory for lane in lanes) + _in_memory(taken), "memory of a queue"
    stored = sum(lane.paged_octets + sum(stub.memory for stub in lane.stubs) for lane in lanes)
    octets = sum(lane.memory for lane in lanes) + sum(run.memory for run in taken) + stored
    assert queue.octets == octets, "octets of a queue"


def _in_memory(runs: Iterable[Run]) -> int:
    """The octets of memory that these use: of a stub the store alone has the bodies."""
    return sum(run.memory for run in runs if not run.is_stub)


def _check_child(router: Router, child: Child) -> None:
    open_to = [(offer, key) for offer in _offers(router) for key in offer.candidates if key[0] == child.peer]
    assert child.open_offers == len(open_to)
    costs: dict[int, int] = defaultdict(int)
    used: dict[int, int] = defaultdict(int)
    for offer, (_, token) in open_to:
        costs[token] += offer.cost
        if isinstance(offer, AheadOffer):
            used[token] += 1
        else:
            used[token] += offer.count
    for token, consumer in child.consumers.items():
        cost = costs[token] + sum(run.cost for run in consumer.unsettled)
        assert consumer.octets == cost, "what a consumer is charged with"
        used_up = used[token] + consumer.withheld + sum(run.count for run in consumer.unsettled)
        assert consumer.free == consumer.credit - used_up, "credit of a consumer"
        assert consumer.overdue == sum(offer.is_overdue for offer, key in open_to if key == consumer.key)
    gone = sum(cost for token, cost in costs.items() if token not in child.consumers)
    assert child.octets == gone + sum(consumer.octets for consumer in child.consumers.values())
    assert child.withheld == sum(consumer.withheld for consumer in child.consumers.values())


def _check_ahead(router: Router) -> None:
    """Nobody waits for what is kept by others, and what is kept is the next that comes."""
    ahead = router._offering.ahead
    assert {n: offer for offers in ahead.by_queue.values() for n, offer in offers.items()} == ahead.kept
    for queue, offers in ahead.by_queue.items():
        last = next(reversed(offers.values()))
        row = next(iter(last.candidates.values())).row
        places = [(-offer.run.details.priority, offer.run.serial) for offer in offers.values()]
        assert places == sorted(places), "not in order"
        for offer in offers.values():
            serials = range(offer.run.serial, offer.run.serial + offer.count)
            assert offer.state is OfferState.OFFERED and offer.unclaimed <= set(serials)
            assert all(serial in offer.unclaimed for serial in serials[offer.tried :]), "claimed, but not tried"
        if queue not in router._queues.changed and not queue.returning:
            assert last.team == row.teams, "kept from others"
            assert not any(offer.is_left for offer in offers.values()), "nobody may try it"
            is_left = any(offer.tried < offer.count for offer in offers.values())
            assert not (row.willing and is_left), "kept from who is idle"


def _check_journal(router: Router) -> None:
    telling = router._journal.telling
    assert telling.octets == sum(change.octets for change in telling.changes)
    assert telling._told_octets == sum(c.octets for c in telling.changes if c.number <= telling._told)
    for held in (router._journal.held, *[queue.held for queue in router._queues.all()]):
        assert held <= set(router._queues.holds._queues), "held, and nobody knows"
    for peer, holders in router._queues.holds._queues.items():
        assert all(peer in holder.held for holder in holders), "held by what does not know it"
        assert not any(holder.is_gone for holder in holders if isinstance(holder, Queue)), "held for ever"


def _delayed(router: Router) -> list[Run]:
    return [run for waiting in router._jobs.delays._waiting.values() for run in waiting.runs.values()]


def _check_timers(router: Router) -> None:
    """No entry outlives what it is about."""
    queues, clientele, delays = router._queues, router._offering.clientele, router._jobs.delays
    waiting = {(name, serial) for name, each in delays._waiting.items() for serial in each.runs}
    alive = {
        "expiry": {queue.name for queue in queues.all()},
        "redelivery": {(queue.name, serial) for queue in queues.all() for serial in queue.waiting},
        "catching-up": {queue.name for queue in queues.all()},
        "lease": {consumer.key for consumer in _consumers(router)},
        "guard": set(clientele.guards._kept),
        "delay-span": waiting,
        "delay-date": waiting,
        "idle-durable": set(router._topics.durables.all),
    }
    for _, _, timer, key in router._timers.agenda:
        assert key in alive[timer], f"{timer} of something that is gone"
    assert set(clientele.guards._kept) <= set(clientele.children)
    assert all(not queue.is_gone for queue in queues.expiring)
