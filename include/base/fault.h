/* Seams for fault tests. FAULT("docker.start.sent") does nothing in a release build. In a build
 * with -DSANDBOXED_FAULTS the environment variable SANDBOXD_FAULT="name=action[:n]" arms one point:
 * action is kill (SIGKILL ourselves), delay<ms>, or error; n: on the n-th pass (default 1).
 * FAULT returns true when an error is to be played. Threads: any. */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>

#ifdef SANDBOXED_FAULTS
bool fault_hit(const char *name);
#define FAULT(name) fault_hit(name)
#else
#define FAULT(name) (false)
#endif

#endif
