/*
 * What a receipt promises, with crashes of the store, of the parent, and of both: forkbroker/routing/journal.py is in
 * the Parent here, forkbroker/store/process.py and group.py are the Store. README.md tells what is left out, and how
 * to run this.
 *
 * A producer sends persistent messages, a consumer acknowledges them, both ask for receipts. Message 0 is a job, and
 * message 1 its result: one is acknowledged and the other one sent in one transaction. A group is committed in one step,
 * as SQLite promises; whoever is killed is killed between any two steps. The number of kills is bounded, and so is
 * everything else: every run ends, and "every receipt comes" is the absence of runs that end elsewhere.
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

#define CHANGES (2 * MESSAGES)      /* at most, in one life of the parent */

mtype:change = { WRITE, DELETE, TRANSACTION, RETOLD };

/* The channel between parent and store: changes with their numbers, and the number of the last one committed. */
chan told = [CHANGES + 1] of { mtype:change, byte /* message */, byte /* number */ };
chan committed = [CHANGES] of { byte };
bit store_killed;
bit store_ended;                    /* the parent will see the end of the channel */
bit parent_gone;                    /* the store will */
bit store_started = 1;

/* The database. */
bit stored[MESSAGES];

/* The parent, for one of its lives. */
bit accepted[MESSAGES];             /* in its queue, or delivered */
bit settled[MESSAGES];
byte last;                          /* number of the last change */
byte known;                         /* number of the last one that is known to be committed */
mtype:change kinds[CHANGES + 1];    /* the journal, by number */
byte subjects[CHANGES + 1];
byte sent_with[MESSAGES];           /* the change behind which the RECEIPT of SEND waits; 0: it doesn't */
byte settled_with[MESSAGES];        /* the same of ACK */

/* What the clients have seen. */
bit send_receipt[MESSAGES];
bit ack_receipt[MESSAGES];
bit acknowledged[MESSAGES];         /* an ACK was sent, which may have been lost with the parent */
bit was_sent[MESSAGES];             /* in this life of the parent, or an earlier one */

byte store_kills = STORE_KILLS;
byte parent_kills = PARENT_KILLS;


/* ---- the store ---- */

inline close_channel() {
    do
    :: told?_, _, _
    :: empty(told) -> break
    od
}

/*
 * Changes are read as long as there are some and nobody knows better; then they are committed together, the first time
 * with all that was told again. A message that is written and deleted in one group is not written. The DELETE is kept
 * all the same: a store before this one may have written the message, and died before it could say so.
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

proctype Store() {
    mtype:change kind;
    byte m, n, upto;
    byte writes, deletes;           /* sets of messages */
    bit up_to_date;                 /* what the store before was told has come */
end_new:
    {
end_idle:
        do
        :: atomic { told?kind, m, n ->
            if
            :: kind == RETOLD -> up_to_date = 1
            :: kind == WRITE -> upto = n; to_write(m)
            :: kind == DELETE -> upto = n; to_delete(m)
            :: kind == TRANSACTION -> upto = n; to_delete(m); to_write(m + 1)
            fi;
            m = 0; n = 0 }
#ifdef BROKEN_PART
        :: upto > 0 ->
#else
        :: upto > 0 && up_to_date ->
#endif
#ifdef BROKEN_COMMIT
            /* what is not on the disk yet is said to be */
            committed!upto;
#endif
            /* BEGIN to COMMIT */
            atomic {
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
                m = 0; writes = 0; deletes = 0
            };
#ifndef BROKEN_COMMIT
            committed!upto;
#endif
            upto = 0
        :: atomic { parent_gone && empty(told) && (upto == 0 || !up_to_date) -> break }
        od
    } unless { store_killed };
    /* the next store begins with nothing but the database */
    atomic {
        m = 0; n = 0; upto = 0; writes = 0; deletes = 0; up_to_date = 0;
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

/* BEGIN, ACK of the job, SEND of the result, COMMIT with a receipt. */
inline do_job() {
    settled[0] = 1;
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

/* A new store is told what the one before has not said that it committed: perhaps what it has. */
inline start_store() {
    do
    :: committed?_
    :: empty(committed) -> break
    od;
    store_ended = 0;
    store_killed = 0;
    store_started = 1;
#ifndef BROKEN_RETELL
    i = known + 1;
    do
    :: i <= last -> told!kinds[i], subjects[i], i; i++
    :: else -> break
    od;
    i = 0;
#endif
    told!RETOLD, 0, 0
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
    :: i <= CHANGES -> kinds[i] = 0; subjects[i] = 0; i++
    :: else -> break
    od;
    i = 0
}

#if MESSAGES > 2
#define ALL_DONE (settled[0] && accepted[1] == settled[1] && settled[2])
#else
#define ALL_DONE (settled[0] && accepted[1] == settled[1])
#endif

active proctype Parent() {
    byte i, upto;
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
    :: atomic { committed?upto -> release(upto); upto = 0 }
    :: atomic { store_ended && empty(committed) -> start_store() }
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
    check()
}
