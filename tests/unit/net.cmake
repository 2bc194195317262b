# SPDX-License-Identifier: Apache-2.0
ray_unit_test(test_net_conn SOURCES test_net_conn.c DEPS net)
ray_unit_test(test_net_accept SOURCES test_net_accept.c DEPS net)
ray_unit_test(test_net_resume SOURCES test_net_resume.c DEPS net)
ray_unit_test(test_net_conn_lasting SOURCES test_net_conn_lasting.c DEPS net)
