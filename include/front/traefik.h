/* Traefik's two configuration files, written from the daemon's settings so that both agree. The
 * texts are deploy/traefik/, part of the binary. Threads: any. */
#ifndef FRONT_TRAEFIK_H
#define FRONT_TRAEFIK_H

#include "base/err.h"
#include "config/config.h"

/* Writes <dir>/traefik.yml and <dir>/dynamic/sandboxd.yml; dir is made when missing, and is named
 * in the files as an absolute path. Each file is replaced as a whole. ERR_INVALID: a path holds
 * what YAML would need quoted. */
int traefik_write(const struct config *config, const char *instance, const char *dir,
                  struct err *err);

#endif
