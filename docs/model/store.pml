/*
 * What a receipt promises, with crashes of the store, of the parent, and of both: forkbroker/routing/keeping/journal.py is in
 * the Parent here, forkbroker/store/process.py and group.py are the Store. README.md tells what is left out, and how
 * to run this.
 *
 * A producer sends persistent messages, a consumer acknowledges them, both ask for receipts. Message 0 is a job, and
 * message 1 its result: one is acknowledged and the other one sent in one transaction. A group is committed in one step,
 * as SQLite promises; whoever is killed is killed between any two steps. The number of kills is bounded, and so is
 * everything else: every run ends, and "every receipt comes" is the absence of runs that end elsewhere.
 *
 * One change may be bad: it ends each store that applies it, or the database refuses it. The parent finds it by what the
 * store announces (TRYING), or is told it (DECLINED), and all others are committed. What answers a change that is not
 * written is an ERROR: no receipt, and no promise.
 */

#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef STORE_KILLS
#define STORE_KILLS 2
#endif
#ifndef PARENT_KILLS
#define PARENT_KILLS 1
#endif

/* Changes that are bad: 0 or 1. */
#ifndef BAD
#define BAD 0
#endif
/* Ends of the store with a reason (FAILED), and full disks, while it applies what was told again. */
#ifndef FAILURES
#define FAILURES 0
#endif

#define CHANGES (2 * MESSAGES)      /* at most, in one life of the parent */

mtype:change = { WRITE, DELETE, TRANSACTION, SET_ASIDE, NOTHING, RETOLD };
mtype:word = { COMMITTED, DECLINED };
mtype:flaw = { NONE, DEADLY, REFUSED };

/* The channel between parent and store: changes with their numbers, and the number of the last one committed. */
chan told = [CHANGES + 1] of { mtype:change, byte /* message */, byte /* number */ };
chan said = [CHANGES + 1] of { mtype:word, byte /* number */ };
byte announced;                     /* TRYING: the last one, as only that counts; it always is read before the end */
bit store_killed;
bit store_failed;                   /* it has said why it ends */
bit store_ended;                    /* the parent will see the end of the channel */
bit parent_gone;                    /* the store will */
bit store_started = 1;

/* The database, and what is kept for the administrator. */
bit stored[MESSAGES];
bit kept[CHANGES + 1];

/* The change that is bad, whichever has its number, and how. To keep what is deadly may be deadly too. */
byte bad;
mtype:flaw flaw = NONE;
bit too_large;

/* The parent, for one of its lives. */
bit accepted[MESSAGES];             /* in its queue, or delivered */
bit settled[MESSAGES];
byte last;                          /* number of the last change */
byte known;                         /* number of the last one that is known to be committed */
mtype:change kinds[CHANGES + 1];    /* the journal, by number */
byte subjects[CHANGES + 1];
byte sent_with[MESSAGES];           /* the change behind which the RECEIPT of SEND waits; 0: it doesn't */
byte settled_with[MESSAGES];        /* the same of ACK */
byte died_at;                       /* the change at which the store before has died */

/* What the clients have seen. */
bit send_receipt[MESSAGES];
bit ack_receipt[MESSAGES];
bit acknowledged[MESSAGES];         /* an ACK was sent, which may have been lost with the parent */
bit was_sent[MESSAGES];             /* in this life of the parent, or an earlier one */

/* What only the model knows. */
byte really_died_at;                /* the change that the store before was trying when it died; 0: none */
byte died_twice_at;                 /* the last two */
bit skipped[CHANGES + 1];           /* this change is not to be written any more */
bit applied[CHANGES + 1];           /* it is committed, or was by a store that died before it could say so */
mtype:change heard[CHANGES + 1];    /* by this store, and not committed: out here to be no part of a process's state */

byte store_kills = STORE_KILLS;
byte parent_kills = PARENT_KILLS;
byte failures = FAILURES;


/* ---- the store ---- */

inline close_channel() {
    do
    :: told?_, _, _
    :: empty(told) -> break
    od
}

/*
 * Changes are read as long as there are some and nobody knows better; then they are committed together, the first time
 * all that was told again and nothing else. A message that is written and deleted in one group is not written. The
 * DELETE is kept all the same: a store before this one may have written the message, and died before it could say so.
 */
inline to_write(m) {
    writes = writes | (1 << m);
    deletes = deletes & ~(1 << m)
}

inline to_delete(m) {
#ifdef BROKEN_CANCEL
    if
    :: writes & (1 << m)
    :: else -> deletes = deletes | (1 << m)
    fi;
#else
    deletes = deletes | (1 << m);
#endif
    writes = writes & ~(1 << m)
}

inline apply(n) {
    if
    :: heard[n] == WRITE -> to_write(subjects[n])
    :: heard[n] == DELETE -> to_delete(subjects[n])
    :: heard[n] == TRANSACTION -> to_delete(0); to_write(1)
    :: heard[n] == SET_ASIDE -> kept[n] = 1
    :: heard[n] == NOTHING || heard[n] == 0
    fi
}

#define IS_CHANGE(n)  (heard[n] == WRITE || heard[n] == DELETE || heard[n] == TRANSACTION)
#define IS_DEADLY(n)  (flaw == DEADLY && bad == n && (IS_CHANGE(n) || (heard[n] == SET_ASIDE && too_large)))
#define IS_REFUSED(n) (flaw == REFUSED && bad == n && IS_CHANGE(n))
#define IS_GOOD(n)    (!IS_DEADLY(n) && !IS_REFUSED(n))

inline begin_group() { n = from; writes = 0; deletes = 0 }

/*
 * Change by change, each announced: the first group of a store that was started anew, and a group with a change that is
 * refused. That one is left out, and the group begins again. A death behind the last one is none of theirs.
 */
inline try_each() {
    do
    :: careful && n <= upto ->
        atomic { announced = n; at = n };
        if
        :: atomic { IS_DEADLY(n) -> store_killed = 1 }
        :: atomic { IS_REFUSED(n) ->
            said!DECLINED, n;
            heard[n] = NOTHING;
            skipped[n] = 1;
            begin_group();
#ifdef BROKEN_OTHERS
            /* what came with it is not written either */
            n = upto + 1
#endif
            }
        :: atomic { IS_GOOD(n) -> apply(n); n++ }
        :: atomic { failures > 0 -> failures--; store_failed = 1; store_killed = 1 }
        :: atomic { failures > 0 ->
            /* there is no room: it waits, and when there is some it tries all at once */
            failures--;
            careful = 0;
            at = 0;
#ifndef BROKEN_FULL
            announced = 0;
#endif
            begin_group() };
            goto end_idle
        fi
    :: else -> break
    od;
#ifdef BROKEN_END
    at = 0
#else
    atomic { announced = 0; at = 0 }
#endif
}

/* All at once: what is deadly ends the process, and nobody knows of what that was. */
inline try_all() {
    do
    :: !careful && n <= upto && IS_DEADLY(n) -> store_killed = 1; break
    :: !careful && n <= upto && IS_REFUSED(n) -> careful = 1; begin_group()
    :: !careful && n <= upto && IS_GOOD(n) -> apply(n); n++
    :: else -> break
    od
}

inline commit() {
    m = 0;
    do
    :: m < MESSAGES ->
        if
        :: writes & (1 << m) -> stored[m] = 1
        :: deletes & (1 << m) -> stored[m] = 0
        :: else
        fi;
        m++
    :: else -> break
    od;
    n = from;
    do
    :: n <= upto -> applied[n] = applied[n] || !skipped[n]; heard[n] = 0; n++
    :: else -> break
    od
}

#define CONCERNS(n, m) (subjects[n] == m || (kinds[n] == TRANSACTION && m == 1))
#define WRITES(n, m)   (kinds[n] == WRITE || (kinds[n] == TRANSACTION && m == 1))

/*
 * What is stored is what all changes make of it that are to be written, each once and in their order: the last one of
 * a message tells. Behind one that was written all the same, by a store before this one, nothing can be said.
 */
inline check_order() {
    m = 0;
    do
    :: m < MESSAGES ->
        n = upto;
        do
        :: n > 0 && skipped[n] && !applied[n] -> n--
        :: n > 0 && !skipped[n] && !CONCERNS(n, m) -> n--
        :: n > 0 && !skipped[n] && CONCERNS(n, m) -> assert(stored[m] == WRITES(n, m)); break
        :: n == 0 || (skipped[n] && applied[n]) -> break
        od;
        m++
    :: else -> break
    od
}

proctype Store() {
    mtype:change kind;
    byte m, n, from, upto;
    byte writes, deletes;           /* sets of messages */
    byte at;                        /* the change that is being applied */
    bit up_to_date;                 /* what the store before was told has come */
    bit careful;
end_new:
    {
end_idle:
        do
        :: atomic { !careful && nempty(told) ->
            told?kind, m, n;
            if
            :: kind == RETOLD -> up_to_date = 1; careful = (upto > 0)
            :: else ->
                heard[n] = kind;
                upto = n;
                if
                :: from == 0 -> from = n
                :: else
                fi
            fi;
            kind = 0; m = 0; n = 0 }
#ifdef BROKEN_PART
        :: upto > 0 ->
#else
        :: upto > 0 && up_to_date ->
#endif
            atomic {
                begin_group();
                try_all();
                if
                :: careful -> skip
                :: !careful -> goto write
                fi };
            try_each();
write:
#ifdef BROKEN_COMMIT
            /* what is not on the disk yet is said to be */
            said!COMMITTED, upto;
#endif
            /* BEGIN to COMMIT */
            atomic { commit(); check_order(); m = 0; n = 0; from = 0; careful = 0; writes = 0; deletes = 0 };
#ifndef BROKEN_COMMIT
            said!COMMITTED, upto;
#endif
            upto = 0
        :: atomic { parent_gone && empty(told) && (upto == 0 || !up_to_date) -> break }
        od
    } unless { store_killed };
    /* the next store begins with nothing but the database */
    atomic {
        if
        :: store_failed
        :: else ->
            died_twice_at = (at == really_died_at -> at : 0);
            really_died_at = at
        fi;
        n = 0;
        do
        :: n <= CHANGES -> heard[n] = 0; n++
        :: else -> break
        od;
        kind = 0; m = 0; n = 0; from = 0; upto = 0; writes = 0; deletes = 0; at = 0; up_to_date = 0; careful = 0;
        close_channel();
        store_started = 0;
        store_ended = 1
    };
end_dead:
    (store_started);
    goto end_new
}


/* ---- the parent and the clients ---- */

/* A change is numbered, kept, and told to the store if there is one. */
inline tell(kind, m) {
    last++;
    kinds[last] = kind;
    subjects[last] = m;
    if
    :: store_started -> told!kind, m, last
    :: else
    fi
}

inline send(m) {
    accepted[m] = 1;
    was_sent[m] = 1;
    tell(WRITE, m);
#ifdef BROKEN_RECEIPT
    send_receipt[m] = 1
#else
    sent_with[m] = last
#endif
}

/* Consumers need not wait for a commit; their receipts do. */
inline acknowledge(m) {
    settled[m] = 1;
    acknowledged[m] = 1;
    tell(DELETE, m);
    settled_with[m] = last
}

/*
 * BEGIN, ACK of the job, SEND of the result, COMMIT with a receipt. If that was refused in another life of the parent,
 * this result is another message.
 */
inline do_job() {
    settled[0] = 1;
    settled[1] = 0;
    acknowledged[1] = 0;
    send_receipt[1] = 0;
    ack_receipt[1] = 0;
    acknowledged[0] = 1;
    accepted[1] = 1;
    was_sent[1] = 1;
    tell(TRANSACTION, 0);
    settled_with[0] = last;
    sent_with[1] = last
}

/* Who waited for this change, or an earlier one, gets the RECEIPT. */
inline release(upto) {
    known = upto;
    died_at = 0;
    i = 0;
    do
    :: i < MESSAGES ->
        if
        :: sent_with[i] > 0 && sent_with[i] <= known -> send_receipt[i] = 1; sent_with[i] = 0
        :: else
        fi;
        if
        :: settled_with[i] > 0 && settled_with[i] <= known -> ack_receipt[i] = 1; settled_with[i] = 0
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* Whoever waits for this change gets an ERROR: no receipt. */
inline refuse(number) {
    i = 0;
    do
    :: i < MESSAGES ->
        if
        :: sent_with[i] == number -> sent_with[i] = 0
        :: else
        fi;
        if
        :: settled_with[i] == number -> settled_with[i] = 0
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* The store has refused this, and goes on. */
inline decline(number) {
    assert(number > known && number <= last && flaw == REFUSED && bad == number);
    kinds[number] = NOTHING;
    refuse(number)
}

/*
 * The store has died, and given no reason: a change at which the one before has died as well is not told any more. The
 * next store is to keep it, or if two have died of that, it is gone.
 */
inline bury_store() {
    if
    :: announced > known && announced == died_at ->
        assert(died_twice_at == announced);
#ifndef BROKEN_ASIDE
        kinds[announced] = (kinds[announced] == SET_ASIDE -> NOTHING : SET_ASIDE);
        skipped[announced] = 1;
        refuse(announced);
#endif
        died_at = 0;
        really_died_at = 0
    :: else ->
        assert(died_twice_at == 0);
        died_at = announced
    fi;
    announced = 0
}

/* A new store is told what the one before has not said that it committed: perhaps what it has. */
inline start_store() {
    do
    :: said?_, _
    :: empty(said) -> break
    od;
    store_ended = 0;
    store_killed = 0;
    store_failed = 0;
    store_started = 1;
#ifndef BROKEN_STALE
    announced = 0;
#endif
#ifndef BROKEN_RETELL
    i = known + 1;
    do
    :: i <= last ->
        assert(i != died_twice_at || kinds[i] == SET_ASIDE || kinds[i] == NOTHING);
        told!kinds[i], subjects[i], i;
        i++
    :: else -> break
    od;
    i = 0;
#endif
    told!RETOLD, 0, 0;
    died_twice_at = 0
}

/* What was promised must be in the database, and what was done must not. */
inline check() {
    i = 0;
    do
    :: i < MESSAGES ->
        assert(!send_receipt[i] || acknowledged[i] || stored[i]);
        assert(!ack_receipt[i] || !stored[i]);
        i++
    :: else -> break
    od;
    assert(!(stored[0] && stored[1]));
    i = 0
}

/* What was not written because it is deadly is kept, unless that is deadly too. */
inline check_kept() {
    i = 1;
    do
    :: i <= last -> assert(kinds[i] != SET_ASIDE || kept[i]); i++
    :: else -> break
    od;
    i = 0
}

/* Another parent: it knows what is in the database, and nothing else. */
inline start_parent() {
    last = 0;
    known = 0;
    i = 0;
    do
    :: i < MESSAGES ->
        accepted[i] = was_sent[i];
        settled[i] = was_sent[i] && !stored[i];
        sent_with[i] = 0;
        settled_with[i] = 0;
        i++
    :: else -> break
    od;
    i = 0;
    do
    :: i <= CHANGES -> kinds[i] = 0; subjects[i] = 0; skipped[i] = 0; applied[i] = 0; kept[i] = 0; i++
    :: else -> break
    od;
    announced = 0;
    died_at = 0;
    really_died_at = 0;
    died_twice_at = 0;
    i = 0
}

#if MESSAGES > 2
#define ALL_DONE (settled[0] && accepted[1] == settled[1] && settled[2])
#else
#define ALL_DONE (settled[0] && accepted[1] == settled[1])
#endif

active proctype Parent() {
    byte i, upto;
#if BAD > 0
    atomic {
        select(bad : 1 .. CHANGES);
        if
        :: flaw = REFUSED
        :: flaw = DEADLY
        :: flaw = DEADLY; too_large = 1
        fi
    };
#endif
    run Store();
    told!RETOLD, 0, 0;
    do
    :: atomic { !accepted[0] -> send(0) }
    :: atomic { accepted[0] && !settled[0] -> do_job() }
    :: atomic { accepted[1] && !settled[1] -> acknowledge(1) }
#if MESSAGES > 2
    :: atomic { !accepted[2] -> send(2) }
    :: atomic { accepted[2] && !settled[2] -> acknowledge(2) }
#endif
    :: atomic { said?COMMITTED, upto -> release(upto); upto = 0 }
    :: atomic { said?DECLINED, upto -> decline(upto); upto = 0 }
    :: atomic { store_ended && !store_failed && empty(said) -> bury_store(); start_store() }
    :: atomic { store_ended && store_failed && empty(said) -> start_store() }
    :: atomic { store_kills > 0 && store_started && !store_killed -> store_kills--; store_killed = 1 }
    :: atomic { parent_kills > 0 -> parent_kills--; parent_gone = 1 };
        /* the store commits what it has heard, and ends; or it is killed as well, whenever that is */
        if
        :: store_ended
        :: atomic { store_kills > 0 && !store_ended -> store_kills--; store_killed = 1 };
            (store_ended)
        fi;
        atomic { check(); parent_gone = 0; start_parent(); start_store() }
    :: atomic { known == last && ALL_DONE -> break }
    od;
    check();
    check_kept()
}
