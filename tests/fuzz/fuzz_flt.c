/* SPDX-License-Identifier: Apache-2.0 */
/* The text of RAY_FAULT: whatever the environment holds arms some points or is refused. */
#include "base/flt.h"
#include "base/status.h"
#include "fuzz_input.h"

enum { TEXT_MAX = 4096 };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[TEXT_MAX + 1];
    const size_t length = size < TEXT_MAX ? size : TEXT_MAX;
    if (length > 0) {
        memcpy(text, data, length);
    }
    text[length] = '\0';
    (void)!flt_arm(text, "raylet", false);
    (void)!flt_arm(text, "", true);
    /* No hooks are installed: a crash would be a trap, so that point is only passed when harmless.
     */
    if (!strstr(text, "crash")) {
        (void)FAULT("fuzz.point");
        (void)FAULT_DROP("fuzz.drop");
    }
    flt_disarm_all();
    return 0;
}
