/* `sandboxd print-traefik`: the two files for Traefik. They need the installation's name, which is
 * made with the database: beside a running daemon it is only read, otherwise the database is opened
 * (and made) as the daemon would. */
#include "commands.h"

#include <stdio.h>

#include "base/limits.h"
#include "base/str.h"
#include "config/config.h"
#include "front/traefik.h"
#include "store/store.h"

static int instance_of(const char *data_dir, char ret[17], struct err *err)
{
    struct store *store = NULL;
    if (store_open(data_dir, &store, err) < 0)
        return err->code == ERR_CONFLICT ? store_peek_instance(data_dir, ret, err) : -1;
    bool fits = str_copy(ret, 17, store_instance(store));
    store_close(store);
    return fits ? 0 : err_set(err, ERR_INTERNAL, "the database's name is malformed");
}

int print_traefik(const char *env_file, const char *dir)
{
    struct config c = { 0 };
    struct err err;
    char instance[17], standard[DATA_DIR_MAX + 16];
    if (config_load(env_file, &c, &err) < 0) {
        (void)fprintf(stderr, "sandboxd: %s%s%s\n", err.msg, err.remedy[0] ? "; " : "", err.remedy);
        return 2;
    }
    (void)snprintf(standard, sizeof standard, "%s/traefik", c.data_dir); /* always fits */
    if (!dir)
        dir = standard;
    int rc = instance_of(c.data_dir, instance, &err);
    if (rc == 0)
        rc = traefik_write(&c, instance, dir, &err);
    config_release(&c);
    if (rc < 0) {
        (void)fprintf(stderr, "sandboxd: %s\n", err.msg);
        return 1;
    }
    (void)printf("%s/traefik.yml\n%s/dynamic/sandboxd.yml\n", dir, dir);
    return 0;
}
