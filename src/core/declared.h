/* What services a sandbox declares: in its row and in its workspace's sandbox.yaml. Private to
 * core/. */
#ifndef CORE_DECLARED_H
#define CORE_DECLARED_H

#include "core/service.h"

/* The first of these that is there: where relative paths of the API lead, where commands begin. */
#define DECLARED_FILE "workspace/app/sandbox.yaml"
#define DECLARED_FILE_ABOVE "workspace/sandbox.yaml"

/* Row first, then the file's; a name declared in both is the row's. -1: the file is wrong, the
 * message names the line, and *ret has the row's services alone. Caller services_release()s. */
int declared_read(struct core *c, const struct sandbox *s, struct services *ret, struct err *err);
/* Those of the row alone. */
int declared_read_row(const struct sandbox *s, struct services *ret, struct err *err);
/* There is no room for one more. */
int declared_full(struct err *err);
/* Puts one into the row, in the place of one of that name; it is not stopped by hand any more. */
int declared_add(struct core *c, const struct sandbox *s, const struct service *spec,
                 struct err *err);
/* Notes in the row that somebody stopped the service of that name, or started it again. */
int declared_stop(struct core *c, const struct sandbox *s, const char *name, bool stopped,
                  struct err *err);
/* Takes it out of the row. false: it was not there. */
int declared_remove(struct core *c, const struct sandbox *s, const char *name, bool *ret_was,
                    struct err *err);
/* Does the workspace's sandbox.yaml declare it? One that is wrong declares nothing. */
bool declared_in_file(struct core *c, const struct sandbox *s, const char *name);
bool declared_stopped(const struct services *list, const char *name);
/* As JSON text for the row; caller frees. Names are checked to be different, ERR_INVALID. stopped:
 * may be NULL. */
int declared_to_json(const struct service *items, size_t count, const struct strv *stopped,
                     char **ret, struct err *err);
void declared_copy(struct service *to, const struct service *from);

#endif
