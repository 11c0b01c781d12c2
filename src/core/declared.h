/* What services a sandbox declares: in its row and in its workspace's sandbox.yaml. Private to
 * core/. */
#ifndef CORE_DECLARED_H
#define CORE_DECLARED_H

#include "core/service.h"

#define DECLARED_FILE "workspace/app/sandbox.yaml"

/* Row first, then the file's; a name declared in both is the row's. -1: the file is wrong, the
 * message names the line, and *ret has the row's services alone. Caller services_release()s. */
int declared_read(struct core *c, const struct sandbox *s, struct services *ret, struct err *err);
/* Puts one into the row, in the place of one of that name. */
int declared_add(struct core *c, const struct sandbox *s, const struct service *spec,
                 struct err *err);
/* As JSON text for the row; caller frees. Names are checked to be different, ERR_INVALID. */
int declared_to_json(const struct service *items, size_t count, char **ret, struct err *err);
void declared_copy(struct service *to, const struct service *from);

#endif
