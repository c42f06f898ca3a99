/*
 * Messages that are offered ahead of credit, to one consumer or to several that share them: routing/offers/ahead.py and
 * sharing.py are the Parent here, session/queue_delivery.py is the Child. README.md tells what is left out, and how to
 * run this.
 *
 * Each client has credit for one message. An offer ahead has several messages, each with a semaphore of its own. All
 * children keep it, and try one message after the other whenever their client has settled what it had, without a word
 * of the parent, and tell of that later. The parent may take back what is kept at any time. A client may send NACK, a
 * child may have no room, and may be killed between any two steps.
 */

#ifndef CHILDREN
#define CHILDREN 2
#endif
#ifndef MESSAGES
#define MESSAGES 4
#endif
#ifndef LENGTH
#define LENGTH 2        /* messages of one offer ahead, at most */
#endif
#ifndef OFFERS
#define OFFERS 3        /* that are open at the same time, at most */
#endif
#ifndef WITHDRAWALS
#define WITHDRAWALS 1   /* beside those that something asks for */
#endif
#ifndef REJECTIONS
#define REJECTIONS 0
#endif
#ifndef REFUSALS
#define REFUSALS 0
#endif
#ifndef KILLS
#define KILLS 0
#endif
#define NOBODY CHILDREN
#define NONE MESSAGES

mtype:word = { TRY, KEEP, WITHDRAW };
mtype:answer = { CLAIMED, LOST, PASSED, READY, ACK, NACK };
mtype:state = { FREE, OFFERED, KEPT, RETURNING };

typedef Offer {
    mtype:state state = FREE;
    byte first;         /* message */
    byte count;
    byte waits;         /* a bit for each candidate that has not answered */
    byte untold;        /* a bit for each message that nobody is known to have claimed */
    byte tried;         /* so many of its messages are claimed, as far as is known */
    bit is_left;        /* a candidate will not try the rest */
    bit has_ended       /* a candidate has */
}
Offer offers[OFFERS];
bit sem[OFFERS * LENGTH];
chan down[CHILDREN] = [2 * OFFERS + 1] of { mtype:word, byte /* offer */ };
chan up[CHILDREN] = [2 * (OFFERS + MESSAGES) + 2] of { mtype:answer, byte /* offer */, byte /* place, count or message */ };
chan box[CHILDREN] = [2 * (OFFERS + MESSAGES) + 2] of { mtype:answer, byte, byte };   /* what a child has not told yet */
bit is_dead[CHILDREN];
byte kills = KILLS;

/* what is so, whoever knows it */
byte holder[MESSAGES] = NOBODY;
bit was_held[MESSAGES];     /* a client may have got it */
bit acked[MESSAGES];        /* by its client */
bit settled[MESSAGES];      /* the parent has heard of it */
bit is_next[MESSAGES];      /* somebody had it, or was to have it before anybody else */
byte left = MESSAGES;       /* which are not settled */


/* ---- the parent ---- */

bit queued[MESSAGES];
bit again[MESSAGES];        /* it comes back: it was delivered, or may have been */
byte known[CHILDREN] = NONE;/* the message that a child is known to have */
short credit[CHILDREN] = 1; /* less one for that message, and for each offer that waits for its answer */
bit has_passed[CHILDREN];
bit is_buried[CHILDREN];
byte open;                  /* offers */

inline requeue(message) {
    queued[message] = 1;
    again[message] = 1
}

/* An offer has one answer fewer to wait for. After the last one the semaphores tell what nobody has told. */
inline lose(c) {
#ifdef BROKEN_REUSE
    offers[o].waits = 0;
#else
    offers[o].waits = offers[o].waits & ~(1 << c);
#endif
    credit[c]++;
    if
    :: offers[o].waits == 0 ->
        i = 0;
        do
        :: i < offers[o].count ->
            if
            :: offers[o].untold & (1 << i) ->
                if
#ifndef BROKEN_CRASH
                :: offers[o].state == RETURNING || !sem[o * LENGTH + i] ->
                    assert(offers[o].has_ended);
                    requeue(offers[o].first + i)
                :: else -> sem[o * LENGTH + i] = 0; queued[offers[o].first + i] = 1
#else
                :: true -> sem[o * LENGTH + i] = 0; queued[offers[o].first + i] = 1
#endif
                fi
            :: else
            fi;
            assert(!sem[o * LENGTH + i]);
            i++
        :: else -> i = 0; break
        od;
        offers[o].state = FREE;
        open--;
        offers[o].first = 0; offers[o].count = 0; offers[o].untold = 0; offers[o].tried = 0;
        offers[o].is_left = 0; offers[o].has_ended = 0
    :: else
    fi
}

inline hear(c) {
    up[c]?kind, o, v;
    if
    :: kind == ACK ->
        assert(known[c] == v && !settled[v]);
        settled[v] = 1; left--;
        known[c] = NONE; credit[c]++
    :: kind == NACK -> assert(known[c] == v); requeue(v); known[c] = NONE; credit[c]++
    :: kind == READY -> has_passed[c] = 0
    :: kind == CLAIMED ->
        assert(known[c] == NONE && !sem[o * LENGTH + v] && (offers[o].untold & (1 << v)));
        offers[o].untold = offers[o].untold & ~(1 << v);
        known[c] = offers[o].first + v;
        credit[c]--;
        if
        :: offers[o].tried <= v -> offers[o].tried = v + 1
        :: else
        fi;
        /* who claims the last message has tried all before */
        if
        :: v + 1 == offers[o].count -> lose(c)
        :: else
        fi
    :: else ->
        has_passed[c] = has_passed[c] || kind == PASSED;
        if
        :: offers[o].tried < v -> offers[o].tried = v
        :: else
        fi;
        offers[o].is_left = offers[o].is_left || v < offers[o].count;
        lose(c)
    fi;
    kind = 0; o = 0; v = 0
}

/* The first message of the queue; MESSAGES: there is none. */
inline find_head() {
    m = 0;
    do
    :: m < MESSAGES && !queued[m] -> m++
    :: else -> break
    od
}

/* The kept offer with the youngest messages; OFFERS: there is none. */
inline find_kept() {
    o = OFFERS;
    i = 0;
    do
    :: i < OFFERS ->
        if
        :: offers[i].state == KEPT && (o == OFFERS || offers[i].first > offers[o].first) -> o = i
        :: else
        fi;
        i++
    :: else -> i = 0; break
    od
}

/* From now on the answers are due. Who has a semaphore has the message. */
inline withdraw() {
    if
    :: place > 0 ->
        place--;
#ifdef BROKEN_OLDEST_FIRST
        i = offers[o].count - 1 - place;
#else
        i = place;
#endif
        if
        :: (offers[o].untold & (1 << i)) && sem[o * LENGTH + i] ->
            sem[o * LENGTH + i] = 0;
            offers[o].untold = offers[o].untold & ~(1 << i);
            queued[offers[o].first + i] = 1
        :: else
        fi;
        i = 0
    :: else ->
        offers[o].state = RETURNING;
        c = 0;
        do
        :: c < CHILDREN ->
            if
            :: offers[o].waits & (1 << c) -> down[c]!WITHDRAW, o
            :: else
            fi;
            c++
        :: else -> c = 0; break
        od;
        find_kept();
        if
        :: o != OFFERS -> place = offers[o].count
        :: else -> is_withdrawing = 0; o = 0
        fi
    fi
}

inline begin_withdrawing() {
    find_kept();
    if
    :: o != OFFERS -> is_withdrawing = 1; place = offers[o].count
    :: else -> o = 0
    fi
}

/* One that is free, for the first messages of the queue. */
inline open_offer(kind_of, most) {
    o = 0;
    do
    :: offers[o].state != FREE -> o++
    :: else -> break
    od;
    offers[o].state = kind_of;
    offers[o].first = m;
    i = 0;
    do
    :: i < most && m < MESSAGES && queued[m] && (i == 0 || !again[m]) ->
        queued[m] = 0;
        sem[o * LENGTH + i] = 1;
        offers[o].untold = offers[o].untold | (1 << i);
        i++; m++
    :: i > 0 -> break           /* or fewer */
    od;
    offers[o].count = i;
    open++;
    i = 0; m = 0
}

inline forget() {
    must = 0; can_offer = 0; can_share = 0; is_keeping = 0
}

/* What there is to do, beside hearing somebody. Only the parent changes what this depends on. */
inline look() {
    find_head();
    can_offer = m < MESSAGES && open < OFFERS;
    can_share = m < MESSAGES && !again[m] && open + 1 < OFFERS;
    /* all have something to do, as far as is known, and room */
    c = 0;
    do
    :: c < CHILDREN ->
        can_share = can_share && (is_buried[c] || (credit[c] <= 0 && !has_passed[c]));
        c++
    :: else -> c = 0; break
    od;
    /* what is kept has to be taken back: somebody has left it, or something older has come back */
    o = 0;
    do
    :: o < OFFERS ->
        if
        :: offers[o].state == KEPT ->
            is_keeping = 1;
#ifndef BROKEN_LEFT
            must = must || offers[o].is_left;
#endif
            must = must || m < offers[o].first + offers[o].count
        :: else
        fi;
        o++
    :: else -> o = 0; break
    od;
    m = 0
}

/* What is kept is taken back first, from all. */
inline bury(who) {
    find_kept();
    if
    :: o != OFFERS -> begin_withdrawing()
    :: else ->
        o = 0;
        do
        :: o < OFFERS ->
            if
            :: offers[o].waits & (1 << who) -> offers[o].has_ended = 1; lose(who)
            :: else
            fi;
            o++
        :: else -> o = 0; break
        od;
        if
        :: known[who] != NONE -> requeue(known[who]); known[who] = NONE
        :: else
        fi;
        is_buried[who] = 1
    fi
}

/* The first message, to one that has credit. */
inline offer(who) {
    find_head();
    is_next[m] = 1;
    open_offer(OFFERED, 1);
    offers[o].waits = 1 << who;
    credit[who]--;
    down[who]!TRY, o;
    o = 0
}

/* The first messages, to all. */
inline share() {
    find_head();
    open_offer(KEPT, LENGTH);
    c = 0;
    do
    :: c < CHILDREN ->
        if
        :: !is_buried[c] ->
            offers[o].waits = offers[o].waits | (1 << c);
#ifndef BROKEN_CREDIT
            credit[c]--;
#endif
            down[c]!KEEP, o
        :: else
        fi;
        c++
    :: else -> c = 0; break
    od;
    o = 0
}

active proctype Parent() {
    mtype:answer kind;
    byte o, m, i, c, v, place;
    byte withdrawals = WITHDRAWALS;
    bit is_withdrawing, must, can_offer, can_share, is_keeping;
    atomic {
        do
        :: m < MESSAGES -> queued[m] = 1; m++
        :: else -> m = 0; break
        od
    };
next:
    if
    :: atomic { is_withdrawing -> withdraw() };
        goto next
    :: atomic { !is_withdrawing -> look() };
        if
        :: atomic { must -> forget(); begin_withdrawing() };
            goto next
        :: !must
        fi
    fi;
    if
    :: atomic { nempty(up[0]) -> forget(); hear(0) }
#if CHILDREN > 1
    :: atomic { nempty(up[1]) -> forget(); hear(1) }
#endif
#if CHILDREN > 2
    :: atomic { nempty(up[2]) -> forget(); hear(2) }
#endif
    :: atomic { is_dead[0] && !is_buried[0] && empty(up[0]) -> forget(); bury(0) }
#if CHILDREN > 1
    :: atomic { is_dead[1] && !is_buried[1] && empty(up[1]) -> forget(); bury(1) }
#endif
#if CHILDREN > 2
    :: atomic { is_dead[2] && !is_buried[2] && empty(up[2]) -> forget(); bury(2) }
#endif
    :: atomic { can_offer && credit[0] > 0 && !has_passed[0] && !is_buried[0] -> forget(); offer(0) }
#if CHILDREN > 1
    :: atomic { can_offer && credit[1] > 0 && !has_passed[1] && !is_buried[1] -> forget(); offer(1) }
#endif
#if CHILDREN > 2
    :: atomic { can_offer && credit[2] > 0 && !has_passed[2] && !is_buried[2] -> forget(); offer(2) }
#endif
    :: atomic { can_share -> forget(); share() }
    :: atomic { is_keeping && withdrawals > 0 -> forget(); withdrawals--; begin_withdrawing() }
    :: atomic { left == 0 && open == 0 -> forget(); goto done }
    fi;
    goto next;
done:
    skip
}


/* ---- the children ---- */

/* It has a message that nobody else has. All that are older were claimed before, or offered to one child alone. */
inline take_message(message) {
    assert(holder[message] == NOBODY && !settled[message]);
    i = 0;
    do
    :: i < message ->
        assert(is_next[i]);
#if CHILDREN == 1
        assert(acked[i]);       /* also after a NACK */
#endif
        i++
    :: else -> i = 0; break
    od;
    assert(!was_held[message] || again[message]);       /* it is marked */
    is_next[message] = 1;
    was_held[message] = 1;
    holder[message] = me;
    has = 1;
    held = message
}

proctype Child(byte me) {
    mtype:word kind;
    mtype:answer word;
    byte o, i, held, v;
    byte tried;                 /* of the first offer that is kept */
    bit has, skips, owes_ready;
    byte rejections = REJECTIONS, refusals = REFUSALS;
    chan kept = [OFFERS] of { byte };
end_idle:
    do
    /* die: what was not told is lost */
    :: atomic { kills > 0 && !is_dead[me] ->
        kills--;
        is_dead[me] = 1;
        if
        :: has -> holder[held] = NOBODY
        :: else
        fi;
        break }
    /* tell */
    :: atomic { nempty(box[me]) -> box[me]?word, o, v; up[me]!word, o, v; word = 0; o = 0; v = 0 }
    /* try the next message */
    :: atomic { !has && nempty(kept) ->
        kept?<o>;
        if
        :: sem[o * LENGTH + tried] ->
            sem[o * LENGTH + tried] = 0;
            take_message(offers[o].first + tried);
            box[me]!CLAIMED, o, tried
        :: tried + 1 == offers[o].count && !sem[o * LENGTH + tried] -> box[me]!LOST, o, tried + 1
        :: else
        fi;
        tried++;
        if
        :: tried == offers[o].count -> kept?o; tried = 0
        :: else
        fi;
        o = 0 }
    /* read */
    :: atomic { (has || empty(kept)) && nempty(down[me]) ->
        down[me]?kind, o;
        if
        :: kind == WITHDRAW ->
            if
            :: nempty(kept) ->
                kept?<v>;
                if
                :: v == o -> kept?v; box[me]!LOST, o, tried; tried = 0
                :: v != o && kept??[eval(o)] -> kept??eval(o); box[me]!LOST, o, 0
                :: else
                fi
            :: empty(kept)
            fi
        :: kind == TRY ->
            assert(!has);
            if
            :: refusals > 0 -> refusals--; box[me]!PASSED, o, 0; owes_ready = 1
            :: sem[o * LENGTH] ->
                skips = 0;
                sem[o * LENGTH] = 0;
                take_message(offers[o].first);
                box[me]!CLAIMED, o, 0
            :: else -> skips = 0; box[me]!LOST, o, 0
            fi
        :: kind == KEEP && skips -> box[me]!LOST, o, 0
        :: kind == KEEP && !skips && owes_ready -> box[me]!PASSED, o, 0
        :: kind == KEEP && !skips && !owes_ready -> kept!o
        fi;
        kind = 0; o = 0; v = 0 }
    :: atomic { owes_ready && empty(box[me]) -> owes_ready = 0; box[me]!READY, 0, 0 }
    /* the client settles */
    :: atomic { has -> acked[held] = 1; holder[held] = NOBODY; has = 0; box[me]!ACK, 0, held; held = 0 }
    :: atomic { has && rejections > 0 ->
        rejections--;
        holder[held] = NOBODY;
        has = 0;
        box[me]!NACK, 0, held;
#ifndef BROKEN_NACK
        do
        :: nempty(kept) -> kept?o; box[me]!LOST, o, tried; tried = 0
        :: empty(kept) -> break
        od;
#ifndef BROKEN_SKIP
        skips = 1;
#endif
#endif
        held = 0; o = 0 }
    /* the client has no room: what is kept is left to others */
    :: atomic { refusals > 0 && has && nempty(kept) ->
        refusals--;
        do
        :: nempty(kept) -> kept?o; box[me]!PASSED, o, tried; tried = 0
        :: empty(kept) -> break
        od;
        owes_ready = 1;
        o = 0 }
    od
}

init {
    atomic {
        byte n = 0;
        do
        :: n < CHILDREN -> run Child(n); n++
        :: else -> break
        od
    }
}
