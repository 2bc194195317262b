# SPDX-License-Identifier: Apache-2.0
ray_unit_test(store_kill SOURCES store_kill.c DEPS store storec TIMEOUT 120 LABELS chaos)
