/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of the ownership protocol that the simulator can switch off one at a time, to show that its
 * checks notice (ray-sim --mutations). In the real build every OWN_WITHOUT is the constant false.
 * RULE(name, what is left out)
 */
#ifndef RAY_OWN_OWN_MUTATE_H
#define RAY_OWN_OWN_MUTATE_H

#define OWN_RULES(RULE)                                                                            \
    RULE(kept_pin, "the caller drops arguments although the reply says that some are kept")        \
    RULE(kept_register, "the executor keeps an argument and doesn't register it")                  \
    RULE(return_pin, "the executor doesn't pin the references inside its return values")           \
    RULE(wait_for_ack, "TRANSIT_DONE is sent before the registrations are answered")               \
    RULE(grace_listing, "a dead process's listings are dropped at once")                           \
    RULE(grace_transit, "transit pins for a dead process are dropped at once")                     \
    RULE(failed_pin, "arguments lent to an attempt that died aren't pinned for the grace")         \
    RULE(sequence, "a release ends a listing of any sequence")                                     \
    RULE(release_after_ack, "a release is sent before its registration is answered")               \
    RULE(orphan_register, "what a dead caller had lent isn't registered")                          \
    RULE(outer_cover, "the outer object isn't kept until the inner registration is answered")      \
    RULE(resolved_register, "inner references of an argument's value wait for the task's end")     \
    RULE(contained, "references inside a value aren't counted")                                    \
    RULE(cascade, "references inside a freed value keep their count")                              \
    RULE(drop_getters, "a dead process's GETs stay")                                               \
    RULE(late_register, "a late registration isn't answered")                                      \
    RULE(late_get, "a GET for what isn't here isn't answered")                                     \
    RULE(owner_death, "an owner's death isn't acted upon")                                         \
    RULE(dead_frames, "messages of a process known to be dead are handled")                        \
    RULE(transit_release, "TRANSIT_DONE is ignored")                                               \
    RULE(remake, "a lost value is gone, although it has a lineage")                                \
    RULE(lineage_hold, "an argument that only a lineage needs is forgotten")

#define OWN_RULE_ENUM(name, text) OWN_RULE_##name,
enum own_rule { OWN_RULES(OWN_RULE_ENUM) OWN_RULE_COUNT };
#undef OWN_RULE_ENUM

#ifdef RAY_MUTATIONS
#define OWN_WITHOUT(own, rule) (((own)->mutations >> OWN_RULE_##rule & 1) != 0)
#else
#define OWN_WITHOUT(own, rule) false
#endif

#endif
