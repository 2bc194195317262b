/* SPDX-License-Identifier: Apache-2.0 */
/* Emission of outs. See step.h. */
#include "base/step.h"

#include <string.h>

void *
step_emit(struct step_outs *outs, uint16_t kind, uint64_t peer, size_t size)
{
    ASSERT(outs->count < outs->capacity);
    void *msg = NULL;
    if (size > 0) {
        msg = arena_alloc(outs->arena, size);
        if (!msg) {
            return NULL;
        }
        memset(msg, 0, size);
    }
    outs->v[outs->count++] = (struct step_out){ .kind = kind, .peer = peer, .msg = msg };
    return msg;
}
