/* The sandboxes' firewall: a table of our own, `inet sandboxed_<instance>`, by libnftables.
 *
 * What comes in from the sandboxes' bridge may reach the host only for DNS and for answers to
 * connections the host opened; it may not be forwarded back into the bridge (sandbox to sandbox)
 * nor to link-local addresses (cloud metadata). Rules name the interface, so they hold before it
 * exists. Threads: one at a time. */
#ifndef NET_FIREWALL_H
#define NET_FIREWALL_H

#include <stdbool.h>

#include "base/err.h"

/* Replaces the table as a whole (one transaction). bridge: interface name. */
int firewall_apply(const char *instance, const char *bridge, struct err *err);
/* Is the table there as it should be? 1 yes, 0 missing or altered, -1 error. */
int firewall_check(const char *instance, const char *bridge, struct err *err);
int firewall_remove(const char *instance, struct err *err);

#endif
