/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/net/net_msg.c: the table of kinds agrees with proto/kinds.h; decoding is bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "net/net_msg.h"
#include "proto/kinds.h"
#include "proto/node.pb-c.h"

static void
test_every_kind_has_its_message(void **state)
{
    (void)state;
    static const struct {
        uint16_t kind;
        const char *name;
    } rows[] = {
#define KIND(name, number, type) { number, #type },
        NODE_KINDS(KIND) GCS_KINDS(KIND)
#undef KIND
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const ProtobufCMessageDescriptor *d = net_msg_descriptor(rows[i].kind);
        assert_non_null(d);
        assert_string_equal(d->short_name, rows[i].name);
    }
    assert_null(net_msg_descriptor(0));
    assert_null(net_msg_descriptor(999));
}

static void
test_decoding_refuses_what_it_should(void **state)
{
    (void)state;
    Ray__Node__Watch m = RAY__NODE__WATCH__INIT;
    uint8_t id[28] = { 1, 2, 3 }, packed[64];
    m.worker_id.data = id;
    m.worker_id.len = sizeof(id);
    const size_t size = ray__node__watch__pack(&m, packed);
    struct net_frame frame = { .header = { .kind = NODE_WATCH },
                               .body = packed,
                               .size = (uint32_t)size };
    ProtobufCMessage *out = NULL;
    assert_int_equal(net_msg_unpack(&frame, 64, &out), ST_OK);
    assert_int_equal(((Ray__Node__Watch *)out)->worker_id.len, sizeof(id));
    net_msg_free(out);
    assert_int_equal(net_msg_unpack(&frame, (uint32_t)size - 1, &out), ST_PROTOCOL);
    assert_null(out);
    frame.size--; /* cut in the middle of a field */
    assert_int_equal(net_msg_unpack(&frame, 64, &out), ST_PROTOCOL);
    frame.header.kind = 999;
    assert_int_equal(net_msg_unpack(&frame, 64, &out), ST_PROTOCOL);
    net_msg_free(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_has_its_message),
        cmocka_unit_test(test_decoding_refuses_what_it_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
