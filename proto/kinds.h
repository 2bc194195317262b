/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frame kinds of every conversation: what the `kind` field of a frame header says about its body.
 * Numbers are never reused; a hole is a kind that is gone.
 */
#ifndef RAY_PROTO_KINDS_H
#define RAY_PROTO_KINDS_H

enum { RAY_PROTOCOL_VERSION = 1 };

/* KIND(NAME, number, message type, source -> target) of node.proto: process <-> raylet. */
#define NODE_KINDS(KIND)                                                                           \
    KIND(HELLO, 1, Hello)                                                                          \
    KIND(HELLO_REPLY, 2, HelloReply)                                                               \
    KIND(REFUSED, 3, Refused)                                                                      \
    KIND(LEASE_REQUEST, 4, LeaseRequest)                                                           \
    KIND(LEASE_CANCEL, 5, LeaseCancel)                                                             \
    KIND(LEASE_GRANT, 6, LeaseGrant)                                                               \
    KIND(LEASE_TROUBLE, 7, LeaseTrouble)                                                           \
    KIND(LEASE_RETURN, 8, LeaseReturn)                                                             \
    KIND(LEASE_REVOKE, 9, LeaseRevoke)                                                             \
    KIND(BLOCKED, 10, Blocked)                                                                     \
    KIND(UNBLOCKED, 11, Unblocked)                                                                 \
    KIND(WATCH, 12, Watch)                                                                         \
    KIND(PROCESS_DIED, 13, ProcessDied)                                                            \
    KIND(STORE_ASK, 14, StoreAsk)                                                                  \
    KIND(STORE_GRANT, 15, StoreGrant)                                                              \
    KIND(STORE_FREE, 16, StoreFree)                                                                \
    KIND(STORE_RETURN, 17, StoreReturn)                                                            \
    KIND(STORE_PRESSURE, 18, StorePressure)                                                        \
    KIND(BECOME_ACTOR, 19, BecomeActor)                                                            \
    KIND(ACTOR_CONSTRUCTED, 20, ActorConstructed)                                                  \
    KIND(LEAVE, 21, Leave)                                                                         \
    KIND(LEAVING, 22, Leaving)                                                                     \
    KIND(LOG_LINES, 23, LogLines)                                                                  \
    KIND(STATE_ASK, 24, StateAsk)                                                                  \
    KIND(STATE_ANSWER, 25, StateAnswer)                                                            \
    KIND(END_JOB, 26, EndJob)                                                                      \
    KIND(GOODBYE, 27, Goodbye)                                                                     \
    KIND(LEASE_CANCELLED, 28, LeaseCancelled)                                                      \
    KIND(OWNING, 29, Owning)                                                                       \
    KIND(STORE_CHECK, 30, StoreCheck)                                                              \
    KIND(STORE_CHECKED, 31, StoreChecked)                                                          \
    KIND(BOOT, 32, Boot)                                                                           \
    KIND(BOOT_REPLY, 33, BootReply)                                                                \
    KIND(RAYLET_EXITED, 34, RayletExited)

/* gcs.proto: raylet, driver, worker <-> gcs. */
#define GCS_KINDS(KIND)                                                                            \
    KIND(GCS_HELLO, 100, GcsHello)                                                                 \
    KIND(DONE, 101, Done)                                                                          \
    KIND(REGISTER_NODE, 102, RegisterNode)                                                         \
    KIND(ADD_JOB, 103, AddJob)                                                                     \
    KIND(JOB_ADDED, 104, JobAdded)                                                                 \
    KIND(FINISH_JOB, 105, FinishJob)                                                               \
    KIND(CREATE_ACTOR, 106, CreateActor)                                                           \
    KIND(START_ACTOR, 107, StartActor)                                                             \
    KIND(ACTOR_PLACED, 108, ActorPlaced)                                                           \
    KIND(ACTOR_NOT_PLACED, 109, ActorNotPlaced)                                                    \
    KIND(ACTOR_EXITED, 110, ActorExited)                                                           \
    KIND(WATCH_ACTOR, 111, WatchActor)                                                             \
    KIND(ACTOR_UPDATE, 112, ActorUpdate)                                                           \
    KIND(ACTOR_OUT_OF_SCOPE, 113, ActorOutOfScope)                                                 \
    KIND(KILL_ACTOR, 114, KillActor)                                                               \
    KIND(STOP_ACTOR, 115, StopActor)                                                               \
    KIND(KV_PUT, 116, KvPut)                                                                       \
    KIND(KV_GET, 117, KvGet)                                                                       \
    KIND(KV_DELETE, 118, KvDelete)                                                                 \
    KIND(KV_KEYS, 119, KvKeys)                                                                     \
    KIND(KV_VALUE, 120, KvValue)                                                                   \
    KIND(GCS_STATE_ASK, 121, GcsStateAsk)                                                          \
    KIND(STATE_JSON, 122, StateJson)                                                               \
    KIND(ACTOR_BUILT, 123, ActorConstructed)                                                       \
    KIND(PROCESS_GONE, 124, ProcessGone)                                                           \
    KIND(FIND_NAMED, 125, FindNamed)                                                               \
    KIND(NAMED_ACTOR, 126, NamedActor)                                                             \
    KIND(LIST_NAMED, 127, ListNamed)                                                               \
    KIND(NAMED_LIST, 128, NamedList)

enum node_kind {
#define KIND(name, number, type) NODE_##name = number,
    NODE_KINDS(KIND)
#undef KIND
};

enum gcs_kind {
#define KIND(name, number, type) GCS_##name = number,
    GCS_KINDS(KIND)
#undef KIND
};

#endif
