/*
 * The order of messages when the answers to offers are overdue: forkbroker/routing/offers/claims.py (`take_overdue`) is the
 * Parent here, forkbroker/session/queue_delivery.py is the Child. README.md tells what is left out, and how to run this.
 *
 * Some messages of one queue were offered, one by one, to the same children. Each child reads its channel in order,
 * but may be stopped between any two of its steps. The parent takes back what is overdue, and what is younger with it;
 * what came back is offered again, in order, behind what is in the channels.
 */

#ifndef CHILDREN
#define CHILDREN 2
#endif
#ifndef OFFERS
#define OFFERS 4
#endif
#ifndef OVERDUE
#define OVERDUE 2       /* of these: the oldest ones whose time is over */
#endif

chan down[CHILDREN] = [2 * OFFERS] of { bit /* offered again */, byte /* message */ };
byte first[OFFERS];     /* semaphores: of the first offer of each message, */
byte again[OFFERS];     /* and of the second one */
byte delivered;         /* how many messages are somewhere */

inline take_back(i) {
    atomic {
        if
        :: first[i] > 0 -> first[i]--; back[i] = 1
        :: else
        fi
    }
}

inline send_all(is_again, i) {
    atomic {
        c = 0;
        do
        :: c < CHILDREN -> down[c]!is_again, i; c++
        :: else -> break
        od
    }
}

active proctype Parent() {
    bit back[OFFERS];
    byte i, c;
    i = 0;
    do
    :: i < OFFERS -> first[i]++; send_all(0, i); i++
    :: else -> break
    od;
#ifdef BROKEN_OVERDUE
    /* what is not overdue itself stays */
    i = OVERDUE;
#else
    i = OFFERS;
#endif
#ifdef BROKEN_OLDEST_FIRST
    c = i;
    i = 0;
    do
    :: i < c -> take_back(i); i++
    :: else -> break
    od;
#else
    do
    :: i > 0 -> i--; take_back(i)
    :: else -> break
    od;
#endif
    i = 0;
    do
    :: i < OFFERS ->
        if
        :: back[i] -> again[i]++; send_all(1, i)
        :: else
        fi;
        i++
    :: else -> break
    od;
    (delivered == OFFERS)
}

active [CHILDREN] proctype Child() {
    byte next, i;       /* the first message that may still come to this child */
    bit is_again;
end_idle:
    do
    :: down[_pid - 1]?is_again, i ->
        atomic {
            if
            :: !is_again && first[i] > 0 -> first[i]--; assert(i >= next); next = i + 1; delivered++
            :: is_again && again[i] > 0 -> again[i]--; assert(i >= next); next = i + 1; delivered++
            :: else
            fi
        }
    od
}
