"""Messages that can't be dealt with after all, and the clients that sent them.

What a child sends is checked before it is accepted, so this should not happen. If a message shows all the same that it
can't be sent on, when its time comes or when it is offered, that must not be the end of the parent process: the message
is left out, an administrator is told, and the child process that sent it is ended if it is still there. The boundary is
one offer, or one firing of a delayed message: nothing else was touched by then, and all else goes on. A persistent
message stays in the store, and the next start of the broker tries it again.
"""

from __future__ import annotations

from forkbroker.routing.kit import Kit
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.registry import shown
from forkbroker.routing.queues.runs import Run


def leave_out(kit: Kit, queue: bytes, run: Run, error: Exception) -> None:
    """These messages, which are in no queue any more, can't be dealt with: note it, and who is to end for it."""
    last = f" to {run.serial + run.count - 1}" if run.count > 1 else ""
    kit.notes.append(f"queue {shown(queue)}: message {run.serial}{last} not delivered, it cannot be sent: {error}")
    sender = run.envelope.sender
    if sender:
        kit.culprits[Peer(sender)] = f"its message cannot be sent: {error}"
