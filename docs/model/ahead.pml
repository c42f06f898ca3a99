/*
 * The order of messages at one consumer that is offered more than it has credit for: forkbroker/routing/offers/offers.py
 * is the Parent here, forkbroker/session/queue_delivery.py is the Child. README.md tells what is left out, and how to run
 * this.
 *
 * The client has credit for one message. Its child keeps what is offered ahead, and tries it as soon as the client has
 * settled what it had, without a word of the parent. The parent may take back what is kept at any time. The client may
 * send NACK: then the message that it had comes first again.
 */

#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef AHEAD
#define AHEAD 2         /* offers beyond the credit */
#endif
#ifndef WITHDRAWALS
#define WITHDRAWALS 2
#endif
#ifndef REJECTIONS
#define REJECTIONS 2
#endif
#define SLOTS 4

mtype:word = { TRY, KEEP, WITHDRAW };
mtype:answer = { CLAIMED, LOST, ACK, NACK };
mtype:state = { FREE, OFFERED, AHEAD_OF, RETURNING };

byte sem[SLOTS];
chan down = [SLOTS + SLOTS + 1] of { mtype:word, byte /* slot */, byte /* message */ };
chan up = [SLOTS + SLOTS + 2] of { mtype:answer, byte /* slot */, byte /* message */ };
bit settled[MESSAGES];      /* the client has said ACK */
byte left = MESSAGES;       /* of which it has not */


/* ---- the parent ---- */

mtype:state state[SLOTS] = FREE;
byte offered[SLOTS];        /* the message */
bit queued[MESSAGES];
byte free = 1;              /* AHEAD more than the credit that is free */
byte kept;                  /* offers that the child keeps, as far as the parent knows */
bit is_quick = 1;            /* it gets something ahead */

/* The first message of the queue; MESSAGES: there is none. */
inline find_head() {
    m = 0;
    do
    :: m < MESSAGES && !queued[m] -> m++
    :: else -> break
    od
}

/* The slot with the youngest message that is kept; SLOTS: there is none. */
inline find_youngest() {
    youngest = SLOTS;
    s = 0;
    do
    :: s < SLOTS ->
        if
        :: state[s] == AHEAD_OF && (youngest == SLOTS || offered[s] > offered[youngest]) -> youngest = s
        :: else
        fi;
        s++
    :: else -> break
    od;
    s = 0
}

/* The same for the oldest one. */
inline find_oldest() {
    youngest = SLOTS;
    s = 0;
    do
    :: s < SLOTS ->
        if
        :: state[s] == AHEAD_OF && (youngest == SLOTS || offered[s] < offered[youngest]) -> youngest = s
        :: else
        fi;
        s++
    :: else -> break
    od;
    s = 0
}

/* From now on an answer is due. Who has the semaphore has the message. */
inline withdraw(s) {
    kept--;
    if
    :: sem[s] > 0 ->
        sem[s]--;
        state[s] = RETURNING;
        queued[offered[s]] = 1;
        down!WITHDRAW, s, 0
    :: else -> state[s] = OFFERED
    fi
}

inline make_offer() {
    s = 0;
    do
    :: state[s] != FREE -> s++
    :: else -> break
    od;
    offered[s] = m;
    queued[m] = 0;
    sem[s]++;
    if
    :: free > AHEAD && kept == 0 -> state[s] = OFFERED; down!TRY, s, m
    :: else -> state[s] = AHEAD_OF; kept++; down!KEEP, s, m
    fi;
    free--
}

inline hear() {
    up?kind, s, m;
    if
    :: kind == ACK -> free++; is_quick = 1
    :: kind == NACK -> free++; queued[m] = 1; is_quick = 0
    :: else ->
        if
        :: state[s] == AHEAD_OF -> kept--
        :: else
        fi;
        if
        :: kind == CLAIMED -> assert(state[s] != RETURNING)
        :: else ->
            free++;
            if
            :: state[s] != RETURNING -> assert(sem[s] == 1); sem[s]--; queued[m] = 1
            :: else
            fi
        fi;
        assert(sem[s] == 0);
        state[s] = FREE;
        offered[s] = 0
    fi;
    kind = 0
}

active proctype Parent() {
    mtype:answer kind;
    byte s, m, youngest;
    byte withdrawals = WITHDRAWALS;
    bit is_withdrawing;
    atomic {
        free = 1 + AHEAD;
        do
        :: m < MESSAGES -> queued[m] = 1; m++
        :: else -> m = 0; break
        od
    };
end_idle:
    do
    :: atomic { nempty(up) && !is_withdrawing -> hear(); s = 0; m = 0 }
    :: atomic { !is_withdrawing && (free > AHEAD || (free > 0 && is_quick)) ->
        find_head();
        find_youngest();
        if
        :: m < MESSAGES -> assert(youngest == SLOTS || offered[youngest] < m); make_offer()
        :: m == MESSAGES
        fi;
        s = 0; m = 0; youngest = 0 }
    :: atomic { withdrawals > 0 && kept > 0 && !is_withdrawing -> withdrawals--; is_withdrawing = 1 }
    /* all that is kept, while the child goes on: whatever is next, from the youngest to the oldest */
    :: atomic { is_withdrawing ->
#ifdef BROKEN_OLDEST_FIRST
        find_oldest();
#else
        find_youngest();
#endif
        if
        :: youngest != SLOTS -> withdraw(youngest)
        :: else -> is_withdrawing = 0
        fi;
        youngest = 0 }
    :: atomic { left == 0 && empty(up) && empty(down) && kept == 0 && !is_withdrawing -> break }
    od
}


/* ---- the child ---- */

chan waiting = [SLOTS] of { byte /* slot */, byte /* message */ };

/* The one consumer has nothing: what it gets is the oldest message that it has not settled. */
inline claim() {
    if
    :: sem[s] > 0 ->
        sem[s]--;
        i = 0;
        do
        :: i < m -> assert(settled[i]); i++
        :: else -> break
        od;
        i = 0;
        has = 1;
        held = m;
        up!CLAIMED, s, m
    :: else -> up!LOST, s, m
    fi
}

active proctype Child() {
    mtype:word kind;
    byte s, m, i, held;
    bit has, skips;
    byte rejections = REJECTIONS;
end_idle:
    do
    :: atomic { down?kind, s, m ->
        if
        :: kind == WITHDRAW ->
            if
            :: waiting??[eval(s), m] -> waiting??eval(s), m; up!LOST, s, m
            :: else
            fi
        :: kind == TRY -> assert(!has && empty(waiting)); skips = 0; claim()
        :: kind == KEEP && skips -> up!LOST, s, m
        :: kind == KEEP && !skips && !has -> claim()
        :: kind == KEEP && !skips && has -> waiting!s, m
        fi;
        kind = 0; s = 0; m = 0 }
    :: atomic { has -> settled[held] = 1; left--; has = 0; up!ACK, 0, held; held = 0 };
        /* all of the kept ones, one after the other, while the parent goes on */
        do
        :: atomic { !has && nempty(waiting) -> waiting?s, m; claim(); s = 0; m = 0 }
        :: atomic { has || empty(waiting) -> break }
        od
    :: atomic { has && rejections > 0 ->
        rejections--;
        has = 0;
        up!NACK, 0, held;
#ifdef BROKEN_NACK
        do
        :: !has && nempty(waiting) -> waiting?s, m; claim()
        :: has || empty(waiting) -> break
        od;
#else
        do
        :: nempty(waiting) -> waiting?s, m; up!LOST, s, m
        :: empty(waiting) -> break
        od;
#ifndef BROKEN_SKIP
        skips = 1;
#endif
#endif
        held = 0; s = 0; m = 0 }
    od
}
