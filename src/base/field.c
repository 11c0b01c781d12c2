/* What all readers of field tables share: lists, maps, and freeing by table. */
#include "base/field.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

void strv_release(struct strv *v)
{
    for (size_t i = 0; i < v->count; i++)
        free(v->items[i]);
    free(v->items);
    *v = (struct strv){ 0 };
}

static char **grow(char **items, size_t count)
{
    char **bigger = reallocarray(items, count + 1, sizeof *items);
    if (!bigger)
        abort();
    return bigger;
}

void strv_add(struct strv *v, const char *text)
{
    v->items = grow(v->items, v->count);
    v->items[v->count++] = str_dup(text);
}

void strmap_release(struct strmap *m)
{
    for (size_t i = 0; i < m->count; i++) {
        free(m->names[i]);
        mem_erase(m->values[i], strlen(m->values[i])); /* may be a secret */
        free(m->values[i]);
    }
    free(m->names);
    free(m->values);
    *m = (struct strmap){ 0 };
}

void strmap_add(struct strmap *m, const char *name, const char *value)
{
    m->names = grow(m->names, m->count);
    m->values = grow(m->values, m->count);
    m->names[m->count] = str_dup(name);
    m->values[m->count++] = str_dup(value);
}

const char *strmap_get(const struct strmap *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->names[i], name) == 0)
            return m->values[i];
    return NULL;
}

void objv_release(const struct shape *shape, size_t size, struct objv *v)
{
    for (size_t i = 0; i < v->count; i++)
        shape_release(shape, (char *)v->items + i * size);
    free(v->items);
    *v = (struct objv){ 0 };
}

void shape_release(const struct shape *shape, void *obj)
{
    for (size_t i = 0; i < shape->count; i++) {
        const struct field *f = &shape->fields[i];
        char *at = (char *)obj + f->offset;
        switch (f->type) {
        case FIELD_TYPE_STR:
        case FIELD_TYPE_ANY: {
            char **text = (char **)(void *)at;
            free(*text);
            *text = NULL;
            break;
        }
        case FIELD_TYPE_STRV:
            strv_release((struct strv *)(void *)at);
            break;
        case FIELD_TYPE_MAP:
            strmap_release((struct strmap *)(void *)at);
            break;
        case FIELD_TYPE_OBJ:
            shape_release(f->shape, at);
            break;
        case FIELD_TYPE_LIST:
            objv_release(f->shape, (size_t)f->lo, (struct objv *)(void *)at);
            break;
        case FIELD_TYPE_U32:
        case FIELD_TYPE_I64:
        case FIELD_TYPE_BOOL:
        case FIELD_TYPE_ENUM:
        case FIELD_TYPE_U16V:
            break; /* no heap */
        }
    }
}
