/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the object store is killed between any two of its shared stores, by the fault points
 * of the slot protocol, and at random ones; the server recovers. After each death every byte, slot
 * and seal entry is accounted for, what was promised (a hint that was sent) is whole, and nothing
 * of the owner's is lost or kept.
 *
 * This process is the raylet and the owner; children are creators and readers. They talk over a
 * sequenced-packet socket, one request and one answer at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/flt.h"
#include "base/rand.h"
#include "base/status.h"
#include "os/os_basic.h"
#include "os/os_fault.h"
#include "store/store_server.h"
#include "store/storec.h"

#define MIB (UINT64_C(1) << 20)

enum { OBJECTS_MAX = 64, ROUNDS = 6 };

enum kind { ASK_REGION, ASK_OBJECT, RETURN, REPLY, DONE };

struct msg {
    enum kind kind;
    int status;
    uint64_t size; /* asked, or the offset of a return */
    uint32_t number;
    struct store_hint hint;
    struct store_grant grant;
};

struct node {
    struct store_shm *shm;
    struct store *store;
    uint32_t owner_proc;
    struct storec *owner;     /* this process as a client */
    struct store_hint shared; /* a living object of the owner's, which every child pins */
    uint64_t base_used;
    uint32_t base_slots;
};

static const struct id_worker owner_id = { .b = { 7 } };

static struct id_object
object_id(uint32_t number)
{
    struct id_object id = { .b = { 1 } };
    memcpy(id.b + 24, &number, sizeof(number));
    return id;
}

static uint32_t
number_of(const struct id_object *id)
{
    uint32_t number = 0;
    memcpy(&number, id->b + 24, sizeof(number));
    return number;
}

static void
fill(void *data, uint64_t size, uint32_t number)
{
    memset(data, (int)(number % 251 + 1), size);
}

static bool
is_filled(const void *data, uint64_t size, uint32_t number)
{
    const unsigned char *bytes = data;
    return size == 0 || (bytes[0] == number % 251 + 1 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* ---- the child ---- */

static struct msg
request(int fd, const struct msg *out)
{
    struct msg in;
    if (send(fd, out, sizeof(*out), MSG_NOSIGNAL) != (ssize_t)sizeof(*out) ||
        recv(fd, &in, sizeof(in), 0) != (ssize_t)sizeof(in)) {
        _exit(3);
    }
    return in;
}

static void
check(bool good, int code)
{
    if (!good) {
        _exit(code);
    }
}

static void
give_returns(int fd, struct storec *store)
{
    uint64_t offset = 0;
    while (storec_next_return(store, &offset)) {
        const struct msg out = { .kind = RETURN, .size = offset };
        check(request(fd, &out).status == ST_OK, 10);
    }
}

static void
create(int fd, struct storec *store, uint64_t size, struct storec_object *object)
{
    if (size > STORE_SMALL_MAX) {
        const struct msg out = { .kind = ASK_OBJECT, .size = size };
        const struct msg in = request(fd, &out);
        check(in.status == ST_OK, 11);
        check(storec_create_in(store, &in.grant, size, object) == ST_OK, 12);
        return;
    }
    if (storec_create(store, size, object) == ST_WOULD_BLOCK) {
        const struct msg out = { .kind = ASK_REGION };
        const struct msg in = request(fd, &out);
        check(in.status == ST_OK, 13);
        check(storec_on_grant(store, &in.grant) == ST_OK, 14);
        check(storec_create(store, size, object) == ST_OK, 15);
    }
    give_returns(fd, store);
}

static void
read_back(struct storec *store, const struct store_hint *hint, uint32_t number)
{
    struct storec_view view;
    check(storec_pin(store, hint, &view) == ST_OK, 16);
    check(is_filled(view.data, view.size, number), 17);
    storec_unpin(&view);
}

static void
one_round(int fd, struct storec *store, uint32_t round, const struct store_hint *shared)
{
    static const uint64_t sizes[] = { 300000, 100, 700000, 400000, 0 };
    struct storec_object object, given_up;
    struct storec_view view;
    check(storec_pin(store, shared, &view) == ST_OK, 18);
    for (uint32_t i = 0; i < COUNT_OF(sizes); i++) {
        const uint32_t number = round * 8 + i + 1;
        const struct id_object id = object_id(number);
        struct msg out = { .kind = REPLY, .number = number };
        create(fd, store, sizes[i], &object);
        create(fd, store, sizes[COUNT_OF(sizes) - 1 - i], &given_up);
        fill(object.data, sizes[i], number);
        storec_abort(store, &given_up);
        storec_seal(store, &object, &id, round, &owner_id, &out.hint);
        read_back(store, &out.hint, number);
        check(request(fd, &out).status == ST_OK, 19);
        give_returns(fd, store);
    }
    check(is_filled(view.data, view.size, 0), 20);
    storec_unpin(&view);
}

static void
child(int fd, const struct store_fds *fds, const struct store_hint *shared, const char *fault)
{
    const struct storec_config config = {
        .mem = os_mem_system(),
        .data_fd = fds->data,
        .slots_fd = fds->slots,
        .ctl_fd = fds->ctl,
        .ctl_fixed_fd = fds->ctl_fixed,
    };
    struct storec *store = NULL;
    check(os_fault_init("worker") == ST_OK, 4);
    flt_disarm_all();
    check(flt_arm(fault, NULL, true) == ST_OK, 5);
    check(storec_open(&config, &store) == ST_OK, 6);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        one_round(fd, store, round, shared);
    }
    storec_give_back(store, false);
    give_returns(fd, store);
    const struct msg out = { .kind = DONE };
    (void)request(fd, &out);
    storec_close(&store);
    _exit(0);
}

/* ---- the raylet and owner ---- */

struct known {
    struct node *node;
    bool named[OBJECTS_MAX];
    struct store_hint hints[OBJECTS_MAX];
    unsigned count, from_list;
};

static struct store_stats
stats(const struct node *n)
{
    struct store_stats s;
    store_stats(n->store, &s);
    return s;
}

static void
node_open(struct node *n)
{
    memset(n, 0, sizeof(*n));
    const struct store_shm_config shm = { .mem = os_mem_system(), .capacity = 32 * MIB };
    assert_int_equal(store_shm_open(&shm, &n->shm), ST_OK);
    struct store_config config = { .mem = os_mem_system(), .epoch = 9, .idle_ns = 1 };
    store_shm_configure(n->shm, &config);
    assert_int_equal(store_create(&config, &n->store), ST_OK);
    assert_int_equal(store_proc_add(n->store, &owner_id, getpid(), "driver", &n->owner_proc),
                     ST_OK);
    struct store_fds fds;
    assert_int_equal(store_shm_fds(n->shm, n->owner_proc, &fds), ST_OK);
    const struct storec_config client = {
        .mem = os_mem_system(),
        .data_fd = fds.data,
        .slots_fd = fds.slots,
        .ctl_fd = fds.ctl,
        .ctl_fixed_fd = fds.ctl_fixed,
    };
    assert_int_equal(storec_open(&client, &n->owner), ST_OK);
    struct store_grant grant;
    struct storec_object object;
    const struct id_object id = object_id(0);
    assert_int_equal(store_grant_object(n->store, n->owner_proc, MIB, &grant), ST_OK);
    assert_int_equal(storec_create_in(n->owner, &grant, MIB, &object), ST_OK);
    fill(object.data, MIB, 0);
    storec_seal(n->owner, &object, &id, 0, &owner_id, &n->shared);
    store_adopt(n->store, n->owner_proc);
    n->base_used = stats(n).used;
    n->base_slots = stats(n).slots_free;
}

static void
node_close(struct node *n)
{
    storec_close(&n->owner);
    store_destroy(&n->store);
    store_shm_close(&n->shm);
}

static void
verify_object(struct node *n, const struct store_hint *hint, uint32_t number)
{
    struct storec_view view;
    assert_int_equal(storec_pin(n->owner, hint, &view), ST_OK);
    assert_true(is_filled(view.data, view.size, number));
    storec_unpin(&view);
}

static void
on_reply(struct known *k, const struct msg *in)
{
    assert_in_range(in->number, 1, OBJECTS_MAX - 1);
    assert_false(k->named[in->number]);
    k->named[in->number] = true;
    k->hints[in->number] = in->hint;
    k->count++;
    verify_object(k->node, &in->hint, in->number);
    if (in->number % 2) { /* some references go at once, some stay */
        const struct store_ref ref = { .generation = in->hint.generation, .slot = in->hint.slot };
        assert_int_equal(store_free(k->node->store, &owner_id, &ref), ST_OK);
        k->hints[in->number].epoch = 0;
    }
}

/* Answers one child's requests until its end of the socket is closed. */
static void
serve(struct node *n, int fd, uint32_t proc, struct known *k)
{
    struct msg in;
    uint64_t now = 0;
    while (recv(fd, &in, sizeof(in), 0) == (ssize_t)sizeof(in)) {
        struct msg out = { .kind = in.kind, .status = ST_OK };
        switch (in.kind) {
        case ASK_REGION:
            out.status = store_grant_region(n->store, proc, &out.grant);
            break;
        case ASK_OBJECT:
            out.status = store_grant_object(n->store, proc, in.size, &out.grant);
            break;
        case RETURN:
            out.status = store_on_return(n->store, proc, in.size);
            break;
        case REPLY:
            on_reply(k, &in);
            break;
        case DONE:
            break;
        }
        (void)store_work(n->store, now++);
        (void)send(fd, &out, sizeof(out), MSG_NOSIGNAL);
    }
}

/* The owner frees what the dead creator sealed for it and no reply named. */
static void
on_seal(const struct id_worker *owner, const struct store_ref *ref, const struct id_object *id,
        void *ctx)
{
    struct known *k = ctx;
    assert_true(ID_EQ(*owner, owner_id));
    const uint32_t number = number_of(id);
    assert_in_range(number, 1, OBJECTS_MAX - 1);
    const struct store_hint *hint = &k->hints[number];
    if (k->named[number] && hint->slot == ref->slot && hint->generation == ref->generation) {
        return;
    }
    struct store_hint found;
    assert_int_equal(store_find(k->node->store, id, &found), ST_OK);
    verify_object(k->node, &found, number); /* sealed means whole */
    k->from_list++;
}

struct unnamed {
    struct known *known;
    struct store_ref refs[OBJECTS_MAX];
    unsigned count;
};

static void
collect_unnamed(const struct id_worker *owner, const struct store_ref *ref,
                const struct id_object *id, void *ctx)
{
    struct unnamed *u = ctx;
    const unsigned before = u->known->from_list;
    on_seal(owner, ref, id, u->known);
    if (u->known->from_list > before) {
        u->refs[u->count++] = *ref;
    }
}

static void
recover(struct node *n, uint32_t proc, struct known *k)
{
    struct unnamed unnamed = { .known = k };
    store_proc_dead(n->store, proc);
    store_proc_seals(n->store, proc, collect_unnamed, &unnamed);
    for (unsigned i = 0; i < unnamed.count; i++) {
        assert_int_equal(store_free(n->store, &owner_id, &unnamed.refs[i]), ST_OK);
    }
    assert_true(unnamed.count <= 1); /* at most the one whose reply wasn't sent */
    store_proc_drop(n->store, proc);
    for (uint32_t number = 1; number < OBJECTS_MAX; number++) {
        if (!k->named[number] || k->hints[number].epoch == 0) {
            continue;
        }
        verify_object(n, &k->hints[number], number); /* it outlives its creator */
        const struct store_ref ref = { .generation = k->hints[number].generation,
                                       .slot = k->hints[number].slot };
        assert_int_equal(store_free(n->store, &owner_id, &ref), ST_OK);
    }
    (void)store_work(n->store, UINT64_C(1) << 40);
    const struct store_stats s = stats(n);
    assert_int_equal(s.used, n->base_used);
    assert_int_equal(s.objects, 1);
    assert_int_equal(s.dying, 0);
    assert_int_equal(s.grants, 0);
    assert_int_equal(s.grant_bytes, 0);
    assert_int_equal(s.bad_entries, 0);
    assert_int_equal(s.slots_free, n->base_slots);
    verify_object(n, &n->shared, 0);
}

/* Runs a child under that fault. Returns whether it was killed (else it ended by itself). */
static bool
one_life(struct node *n, const char *fault)
{
    int pair[2];
    uint32_t proc = 0;
    struct known k = { .node = n };
    const struct id_worker id = { .b = { 8 } };
    struct store_fds fds;
    assert_int_equal(store_proc_add(n->store, &id, 0, "worker", &proc), ST_OK);
    assert_int_equal(store_shm_fds(n->shm, proc, &fds), ST_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(pair[0]);
        storec_after_fork_child(n->owner);
        child(pair[1], &fds, &n->shared, fault);
    }
    (void)close(pair[1]);
    serve(n, pair[0], proc, &k);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    (void)close(pair[0]);
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!killed && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
        fail_msg("the child failed by itself: wait status %#x under %s", (unsigned)status, fault);
    }
    recover(n, proc, &k);
    if (!killed) {
        assert_int_equal(k.count, ROUNDS * 5);
    }
    return killed;
}

static bool
is_clients(const char *name)
{
    return strncmp(name, "store.seal.", 11) == 0 || strncmp(name, "store.pin.", 10) == 0;
}

static void
test_killed_at_every_fault_point(void **state)
{
    (void)state;
    struct node n;
    unsigned points = 0;
    unsigned kills = 0;
    node_open(&n);
    for (const struct flt_point *p = flt_next("store."); p; p = flt_next(p->name)) {
        if (!is_clients(p->name)) {
            continue;
        }
        points++;
        bool killed = true;
        for (unsigned nth = 1; killed; nth++) {
            char fault[128];
            (void)snprintf(fault, sizeof(fault), "%s:crash:nth=%u", p->name, nth);
            killed = one_life(&n, fault);
            kills += killed;
            assert_true(killed || nth > 1); /* each point is passed at least once */
        }
    }
    print_message("%u fault points, %u kills\n", points, kills);
    assert_true(points >= 8);
    node_close(&n);
}

static void
test_killed_at_random(void **state)
{
    (void)state;
    struct node n;
    unsigned kills = 0;
    const char *given = getenv("RAY_TEST_SEED");
    const uint64_t first = given ? strtoull(given, NULL, 10) : 1;
    node_open(&n);
    for (uint64_t seed = first; seed < first + (given ? 1 : 100); seed++) {
        char fault[128];
        (void)snprintf(fault, sizeof(fault), "store.*:crash:prob=0.0%u/%llu",
                       (unsigned)(seed % 9 + 1), (unsigned long long)seed);
        print_message("RAY_TEST_SEED=%llu\n", (unsigned long long)seed);
        kills += one_life(&n, fault);
    }
    assert_true(given || kills > 50);
    node_close(&n);
}

/* The server's points are passed too: in order, a delay or a stop there changes nothing. */
static void
test_every_point_of_the_server_is_passed(void **state)
{
    (void)state;
    struct node n;
    assert_int_equal(os_fault_init("raylet"), ST_OK);
    assert_int_equal(flt_arm("store.*:count", NULL, true), ST_OK);
    node_open(&n);
    assert_true(one_life(&n, "store.seal.before_commit:crash:nth=12"));
    const struct store_ref ref = { .generation = n.shared.generation, .slot = n.shared.slot };
    assert_int_equal(store_evict(n.store, &ref), ST_OK);
    for (const struct flt_point *p = flt_next("store."); p; p = flt_next(p->name)) {
        if (strncmp(p->name, "store.", 6) == 0 && flt_hits(p->name) == 0) {
            fail_msg("fault point %s was never passed", p->name);
        }
    }
    assert_int_equal(flt_arm("store.grant.before_space:error=OUT_OF_MEMORY:once", NULL, true),
                     ST_OK);
    struct store_grant grant;
    assert_int_equal(store_grant_region(n.store, n.owner_proc, &grant), ST_OUT_OF_MEMORY);
    assert_int_equal(store_grant_region(n.store, n.owner_proc, &grant), ST_OK);
    flt_disarm_all();
    node_close(&n);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_at_every_fault_point),
        cmocka_unit_test(test_killed_at_random),
        cmocka_unit_test(test_every_point_of_the_server_is_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
