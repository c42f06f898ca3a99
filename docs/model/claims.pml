/*
 * The life of an offer, with crashes of the candidates: forkbroker/routing/offers/claims.py and offers.py are the Parent
 * here, forkbroker/session/queue_delivery.py is the Child. README.md tells what is left out, and how to run this.
 *
 * Children may be killed between any two of their steps. What a child wrote to its channel before is read all the
 * same; that it took a semaphore and told nobody, only the semaphore knows.
 *
 * Kills, refusals and timeouts are bounded, so every run ends, and "everything is settled in the end" is the absence
 * of runs that end elsewhere.
 *
 * An offer that was made ahead is kept by its only candidate, until its client has credit or the parent wants it back.
 *
 * A child may park what it has claimed: then a client has it under a key, and settles it over any child, or does not.
 *
 * A child may lie, as one that its client has taken over: it says that it has claimed, and has not taken the semaphore.
 */

#ifndef CHILDREN
#define CHILDREN 2
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif

#ifndef REFUSALS
#define REFUSALS 1
#endif
#ifndef REJECTIONS
#define REJECTIONS 1
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 1
#endif

#ifndef LIES
#define LIES 0
#endif

/* Offers that a child may keep until its client has credit, and how often the parent takes one back meanwhile. */
#ifndef AHEAD
#define AHEAD 0
#endif
#ifndef RECALLS
#define RECALLS 0
#endif

/* Deliveries that are parked, each with a lease that may end at any time. */
#ifndef PARKS
#define PARKS 0
#endif

/* That a semaphore is not down shows at once that a lie was believed; there it is to be seen what comes of it. */
#ifdef BROKEN_BELIEF
#define IS_DOWN(s) true
#else
#define IS_DOWN(s) (sem[s] == 0)
#endif

#define NOBODY  CHILDREN
#define ALL     ((1 << CHILDREN) - 1)
#define BIT(i)  (1 << (i))

mtype:word = { TRY, KEEP, WITHDRAW };
mtype:answer = { CLAIMED, LOST, PASSED, ACK, NACK, PARK, UNPARK };
mtype:state = { FREE, OFFERED, TAKEN, RETURNING };
mtype:place = { QUEUED, OFFER, HELD, PARKED, DONE };

/* What processes share: semaphores and channels. */
byte sem[SLOTS];
chan down[CHILDREN] = [SLOTS + RECALLS] of { mtype:word, byte /* slot */, byte /* message */, bit /* redelivered */ };
chan up[CHILDREN] = [2 * SLOTS + MESSAGES + PARKS] of { mtype:answer, byte /* slot, or key */, byte /* message */ };
bit killed[CHILDREN];
bit ended[CHILDREN];

/* What the parent knows. */
mtype:state state[SLOTS] = FREE;
byte offered[SLOTS];                /* the message */
byte open[SLOTS];                   /* candidates that have not answered */
bit has_ended[SLOTS];
bit is_ahead[SLOTS];                /* its one candidate may keep it */
mtype:place place[MESSAGES] = QUEUED;
byte held_by[MESSAGES] = NOBODY;
bit redelivered[MESSAGES];
#if PARKS > 0
byte key[MESSAGES];                 /* of the delivery that was parked last */
chan told[CHILDREN] = [1] of { byte /* key */ };
chan clients = [PARKS] of { byte /* message */, byte /* key */ };
byte parks = PARKS;
#endif

/* What only the model knows: the truth about messages. */
byte holder[MESSAGES] = NOBODY;     /* the living child that has it */
bit delivered[MESSAGES];            /* a client may have seen it */
bit acknowledged[MESSAGES];         /* its ACK is on its way, or was applied */

/* How often what may happen at any time still does. */
byte kills = KILLS;
byte refusals = REFUSALS;
byte rejections = REJECTIONS;
byte timeouts = TIMEOUTS;
byte lies = LIES;
byte ahead = AHEAD;
byte recalls = RECALLS;


/* ---- the parent ---- */

/* Try the semaphore: if the parent gets it, nobody has claimed, and nobody will. */
inline ask(s) {
    if
    :: sem[s] > 0 ->
        sem[s]--;
        state[s] = RETURNING;
        place[offered[s]] = QUEUED
    :: else
    fi
}

inline requeue(m) {
    place[m] = QUEUED;
    held_by[m] = NOBODY;
    redelivered[m] = 1
}

/* The candidate has answered, or ended: when it is the last one, the semaphore decides what nobody has told. */
inline answered(i, s) {
    if
    :: open[s] == BIT(i) && state[s] == OFFERED ->
        ask(s);
        if
        :: state[s] == OFFERED ->
            assert(has_ended[s]);
            requeue(offered[s])
        :: else
        fi
    :: else
    fi;
    open[s] = open[s] & ~BIT(i);
    if
    :: open[s] == 0 ->
        assert(IS_DOWN(s));
        state[s] = FREE;
        offered[s] = 0;
        is_ahead[s] = 0;
        has_ended[s] = 0
    :: else
    fi
}

inline hear(i) {
    up[i]?kind, s, m;
    if
    :: kind == CLAIMED ->
        assert(state[s] == OFFERED && offered[s] == m);
        state[s] = TAKEN;
        place[m] = HELD;
        held_by[m] = i;
#ifdef BROKEN_REUSE
        /* the slot is used again although others may still try its semaphore */
        open[s] = 0;
        state[s] = FREE
#else
        answered(i, s)
#endif
    :: kind == LOST || kind == PASSED ->
#ifdef BROKEN_REUSE
        if
        :: open[s] & BIT(i) -> answered(i, s)
        :: else
        fi
#else
        assert(open[s] & BIT(i));
        answered(i, s)
#endif
    :: kind == ACK ->
        assert(place[m] == HELD && held_by[m] == i);
        place[m] = DONE;
        held_by[m] = NOBODY
    :: kind == NACK ->
        assert(place[m] == HELD && held_by[m] == i);
        requeue(m)
#if PARKS > 0
    :: kind == PARK ->
        assert(place[m] == HELD && held_by[m] == i);
        place[m] = PARKED;
        held_by[m] = NOBODY;
        key[m]++;
        told[i]!key[m]
    :: kind == UNPARK ->
        if
#ifdef BROKEN_LEASE
        /* the key is good for as long as nobody has another one */
        :: key[m] == s && place[m] != DONE ->
#else
#ifdef BROKEN_KEY
        /* whoever had the message may settle it */
        :: place[m] == PARKED ->
#else
        :: place[m] == PARKED && key[m] == s ->
#endif
#endif
            assert(key[m] == s);
            place[m] = DONE;
            held_by[m] = NOBODY;
            acknowledged[m] = 1
        :: else
        fi
#endif
    fi
}

/*
 * CLAIMED of a child that has not claimed, heard at once. The parent tries the semaphore, gets it, and so knows: it puts
 * it back, and ends the child.
 */
inline hear_lie(i, s, m) {
#ifdef BROKEN_BELIEF
    state[s] = TAKEN;
    place[m] = HELD;
    held_by[m] = i;
    answered(i, s)
#else
    killed[i] = 1
#endif
}

/* Where others may still answer, one of these may claim, and the lie is found out: left out where lies are believed. */
#ifdef BROKEN_BELIEF
#define MAY_LIE(i, s) (lies > 0 && sem[s] > 0 && empty(up[i]) && open[s] == BIT(i))
#else
#define MAY_LIE(i, s) (lies > 0 && sem[s] > 0 && empty(up[i]))
#endif

/* The child is gone, and all that it wrote was heard: take back what it was offered, and what it held. */
inline bury(i) {
    s = 0;
    do
    :: s < SLOTS ->
        if
        :: open[s] & BIT(i) ->
            if
            :: state[s] == OFFERED ->
#ifdef BROKEN_CRASH
                /* who said nothing has claimed nothing */
                state[s] = RETURNING;
                place[offered[s]] = QUEUED;
                sem[s] = 0
#else
                /* others still see the offer in its place: nothing is taken back from them */
                has_ended[s] = 1
#endif
            :: else
            fi;
            answered(i, s)
        :: else
        fi;
        s++
    :: else -> break
    od;
    m = 0;
    do
    :: m < MESSAGES ->
        if
        :: place[m] == HELD && held_by[m] == i -> requeue(m)
        :: else
        fi;
        m++
    :: else -> break
    od;
    /* what it has parked stays with the client; the next client gets its number, and channels that are empty */
    do
    :: down[i]?_, s, m, _
    :: empty(down[i]) -> break
    od;
    do
    :: up[i]?kind, s, m
    :: empty(up[i]) -> break
    od;
#if PARKS > 0
    do
    :: told[i]?s
    :: empty(told[i]) -> break
    od;
#endif
    ended[i] = 0;
    killed[i] = 0
}

/* An offer that is kept is wanted back: somebody else may have it, or it was kept for too long. */
inline recall(s) {
    is_ahead[s] = 0;
#ifdef BROKEN_RECALL
    /* who keeps it has not claimed it */
    state[s] = RETURNING;
    place[offered[s]] = QUEUED;
#else
    ask(s);
#endif
    i = 0;
    do
    :: i < CHILDREN && open[s] == BIT(i) && state[s] == RETURNING -> down[i]!WITHDRAW, s, 0, 0; break
    :: i < CHILDREN && !(open[s] == BIT(i) && state[s] == RETURNING) -> i++
    :: i == CHILDREN -> break
    od
}

/* The first message in order, a free slot, and any candidates: the proof need not know how they are chosen. */
inline make_offer() {
    s = 0;
    do
    :: s < SLOTS && state[s] != FREE -> s++
    :: else -> break
    od;
    m = 0;
    do
    :: place[m] != QUEUED -> m++
    :: else -> break
    od;
    select(i : 1 .. ALL);
    state[s] = OFFERED;
    offered[s] = m;
    open[s] = i;
    place[m] = OFFER;
    assert(IS_DOWN(s));
    sem[s]++;
    if
    :: ahead > 0 && (i & (i - 1)) == 0 -> ahead--; is_ahead[s] = 1
    :: true
    fi;
    i = 0;
    do
    :: i < CHILDREN ->
        if
        :: (open[s] & BIT(i)) && is_ahead[s] -> down[i]!KEEP, s, m, redelivered[m]
        :: (open[s] & BIT(i)) && !is_ahead[s] -> down[i]!TRY, s, m, redelivered[m]
        :: else
        fi;
        i++
    :: else -> break
    od
}

#if SLOTS == 1
#define A_SLOT (state[0] == FREE)
#elif SLOTS == 2
#define A_SLOT (state[0] == FREE || state[1] == FREE)
#endif
#if MESSAGES == 1
#define A_MESSAGE (place[0] == QUEUED)
#define ALL_DONE (place[0] == DONE)
#elif MESSAGES == 2
#define A_MESSAGE (place[0] == QUEUED || place[1] == QUEUED)
#define ALL_DONE (place[0] == DONE && place[1] == DONE)
#endif
#if SLOTS == 1
#define ALL_FREE (state[0] == FREE)
#elif SLOTS == 2
#define ALL_FREE (state[0] == FREE && state[1] == FREE)
#endif

#ifdef BROKEN_DRAIN
#define IS_GONE(i) (ended[i])
#else
#define IS_GONE(i) (ended[i] && empty(up[i]))
#endif

/* One thread, one event after the other: each is one step. */
active proctype Parent() {
    mtype:answer kind;
    byte i, s, m;
    do
    :: atomic { ALL_DONE && ALL_FREE -> break }
    :: atomic { A_SLOT && A_MESSAGE -> make_offer(); i = 0; s = 0; m = 0 }
    :: atomic { nempty(up[0]) -> hear(0); s = 0; m = 0 }
    :: atomic { IS_GONE(0) -> bury(0); s = 0; m = 0 }
#if CHILDREN > 1
    :: atomic { nempty(up[1]) -> hear(1); s = 0; m = 0 }
    :: atomic { IS_GONE(1) -> bury(1); s = 0; m = 0 }
#endif
#if CHILDREN > 2
    :: atomic { nempty(up[2]) -> hear(2); s = 0; m = 0 }
    :: atomic { IS_GONE(2) -> bury(2); s = 0; m = 0 }
#endif
#if RECALLS > 0
    :: atomic { recalls > 0 ->
        select(s : 0 .. SLOTS - 1);
        if
        :: state[s] == OFFERED && is_ahead[s] -> recalls--; recall(s)
        :: else
        fi;
        s = 0; i = 0 }
#endif
#if PARKS > 0
    /* a lease is over */
    :: atomic { place[0] == PARKED -> requeue(0) }
#if MESSAGES > 1
    :: atomic { place[1] == PARKED -> requeue(1) }
#endif
#endif
    :: atomic { timeouts > 0 ->
        /* somebody has been silent for too long */
        select(s : 0 .. SLOTS - 1);
        if
        :: state[s] == OFFERED ->
            timeouts--;
#ifdef BROKEN_OVERDUE
            state[s] = RETURNING;
            place[offered[s]] = QUEUED
#else
            ask(s)
#endif
        :: else
        fi;
        s = 0 }
    od;
    s = 0;
    do
    :: s < SLOTS -> assert(IS_DOWN(s)); s++
    :: else -> break
    od
}


/* ---- a child, and the next one with its number ---- */

inline forget_all(i) {
    m = 0;
    do
    :: m < MESSAGES ->
        if
        :: holder[m] == i -> holder[m] = NOBODY
        :: else
        fi;
        m++
    :: else -> break
    od
}

#define FORGET s = 0; m = 0; again = 0     /* fewer states that differ in nothing that matters */

/* It has refused, or claimed, or come too late. What it has claimed it settles at once. */
inline try(i) {
    if
    :: atomic { refusals > 0 -> refusals--; up[i]!PASSED, s, m; FORGET }
    :: atomic { sem[s] == 0 -> up[i]!LOST, s, m; FORGET }
    :: atomic { MAY_LIE(i, s) -> lies--; hear_lie(i, s, m); FORGET }
    :: atomic { sem[s] > 0 ->
        sem[s]--;
        assert(holder[m] == NOBODY);
        assert(!acknowledged[m]);
        assert(!delivered[m] || again);
        holder[m] = i };
        /* the parent may hear of it before the client gets it, or later */
        if
#if PARKS > 0
        :: atomic { parks > 0 -> parks--; up[i]!CLAIMED, s, m; holder[m] = NOBODY; up[i]!PARK, s, m };
            /* the client gets the message when the parent has said so */
            told[i]?s;
            atomic { delivered[m] = 1; clients!m, s; FORGET };
            goto end_idle
#endif
        :: delivered[m] = 1; up[i]!CLAIMED, s, m
        :: up[i]!CLAIMED, s, m; delivered[m] = 1
        fi;
        if
        :: atomic { holder[m] = NOBODY; acknowledged[m] = 1; up[i]!ACK, s, m; FORGET }
        :: atomic { rejections > 0 -> rejections--; holder[m] = NOBODY; up[i]!NACK, s, m; FORGET }
        fi
    fi
}

#if AHEAD > 0
chan kept[CHILDREN] = [SLOTS] of { byte /* slot */, byte /* message */, bit /* redelivered */ };
#define FORGET_KEPT(i) do :: kept[i]?s, m, _ :: empty(kept[i]) -> break od
#else
#define FORGET_KEPT(i) skip
#endif

proctype Child(byte i) {
    byte s, m;
    bit again;
end_begin:
    {
end_idle:
        do
        :: down[i]?TRY, s, m, again -> try(i)
#if AHEAD > 0
        :: atomic { down[i]?KEEP, s, m, again -> kept[i]!s, m, again; FORGET }
        /* its client has credit */
        :: kept[i]?s, m, again -> try(i)
#ifndef BROKEN_SILENCE
        :: atomic { down[i]?WITHDRAW, s, _, _ ->
            if
#ifdef BROKEN_KEEPING
            :: kept[i]??[eval(s), m, again] -> up[i]!LOST, s, m
#else
            :: kept[i]??[eval(s), m, again] -> kept[i]??eval(s), m, again; up[i]!LOST, s, m
#endif
            /* what it has answered is answered */
            :: else
            fi;
            FORGET }
#else
        :: atomic { down[i]?WITHDRAW, s, _, _ ->
            if
            :: kept[i]??[eval(s), m, again] -> kept[i]??eval(s), m, again
            :: else
            fi;
            FORGET }
#endif
#endif
        od
    } unless { killed[i] };
    atomic { forget_all(i); FORGET_KEPT(i); FORGET; ended[i] = 1 };
end_dead:
    (!ended[i]);
    goto end_begin
}

#if PARKS > 0
/* Clients that have what was parked: they settle it over any child that lives, late or never. */
proctype Takers() {
    byte i, m, k;
end_waiting:
    do
    :: atomic { clients?m, k ->
        if
        :: true
        :: select(i : 0 .. CHILDREN - 1);
            if
            :: !killed[i] && !ended[i] -> up[i]!UNPARK, k, m
            :: else
            fi
        fi;
        i = 0; m = 0; k = 0 }
    od
}
#endif

/* SIGKILL at any time. */
proctype Killer() {
    byte i;
end_armed:
    do
    :: atomic { kills > 0 ->
        select(i : 0 .. CHILDREN - 1);
        if
        :: !killed[i] -> killed[i] = 1; kills--
        :: else
        fi;
        i = 0 }
    :: kills == 0 -> break
    od
}

init {
    byte i;
    atomic {
        i = 0;
        do
        :: i < CHILDREN -> run Child(i); i++
        :: else -> break
        od;
#if PARKS > 0
        run Takers();
#endif
        run Killer()
    }
}
