/* Host tool: turns files into C at build time.
 *
 *   embed blob SYMBOL FILE OUT.c        bytes as `const unsigned char SYMBOL[]` and `SYMBOL_len`
 *   embed sql OUT QUERIES.sql MIGRATION.sql...
 *       OUT.h: enum of the queries' names (each begins with a line "-- :name"), counts,
 * declarations; OUT.c: their texts, and the migrations with number and name from "NNNN_name.sql".
 * Fails with a message and status 1; never leaves a half-written output in place. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what, const char *which)
{
    fprintf(stderr, "embed: %s: %s\n", what, which);
    exit(1);
}

static char *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        die("cannot open", path);
    char *data = NULL;
    *len = 0;
    for (;;) {
        data = realloc(data, *len + 65536 + 1);
        if (!data)
            die("no memory for", path);
        size_t n = fread(data + *len, 1, 65536, f);
        *len += n;
        if (n == 0)
            break;
    }
    if (ferror(f))
        die("cannot read", path);
    fclose(f);
    data[*len] = 0;
    return data;
}

static FILE *out_open(const char *path)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        die("cannot write", path);
    return f;
}

static void out_close(FILE *f, const char *path)
{
    if (ferror(f) || fclose(f) != 0) {
        remove(path);
        die("cannot write", path);
    }
}

static void blob(const char *symbol, const char *in, const char *out)
{
    size_t len;
    unsigned char *data = (unsigned char *)read_file(in, &len);
    FILE *f = out_open(out);
    fprintf(f,
            "#include <stddef.h>\nextern const unsigned char %s[];\nextern const size_t %s_len;\n",
            symbol, symbol);
    fprintf(f, "const size_t %s_len = %zu;\nconst unsigned char %s[] = {", symbol, len, symbol);
    for (size_t i = 0; i < len; i++)
        fprintf(f, "%s%u,", i % 24 == 0 ? "\n" : "", data[i]);
    fprintf(f, "\n};\n");
    out_close(f, out);
    free(data);
}

/* A C string literal, one source line a line of text. */
static void literal(FILE *f, const char *text, size_t len)
{
    fputc('"', f);
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '\n')
            fputs("\\n\"\n\"", f);
        else if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else
            fputc(c, f);
    }
    fputc('"', f);
}

static void sql(const char *stem, char **files, int count)
{
    char path[4096];
    size_t len;
    char *text = read_file(files[0], &len);
    snprintf(path, sizeof path, "%s.h", stem);
    FILE *h = out_open(path);
    char cpath[4096];
    snprintf(cpath, sizeof cpath, "%s.c", stem);
    FILE *c = out_open(cpath);
    fprintf(h,
            "/* Generated from %s. */\n#ifndef STORE_SQL_H\n#define STORE_SQL_H\n"
            "#include <stddef.h>\nenum query {\n",
            files[0]);
    fprintf(c, "#include \"store_sql.h\"\nconst struct sql_query sql_queries[QUERY_COUNT] = {\n");
    int queries = 0;
    for (char *at = strstr(text, "-- :"); at; queries++) {
        if (at != text && at[-1] != '\n')
            die("a query's name must begin its line", at);
        char *name = at + 4;
        size_t n = strcspn(name, " \t\n");
        char *body = strchr(name, '\n');
        if (n == 0 || !body)
            die("a query without name or text in", files[0]);
        char *next = strstr(body, "\n-- :");
        size_t body_len = next ? (size_t)(next - body) : strlen(body);
        fprintf(h, "    Q_");
        for (size_t i = 0; i < n; i++)
            fputc(toupper((unsigned char)name[i]), h);
        fprintf(h, ",\n");
        fprintf(c, "{ \"%.*s\", ", (int)n, name);
        literal(c, body + 1, body_len - 1);
        fprintf(c, " },\n");
        at = next ? next + 1 : NULL;
    }
    fprintf(h,
            "    QUERY_COUNT\n};\nstruct sql_query { const char *name, *text; };\n"
            "extern const struct sql_query sql_queries[QUERY_COUNT];\n"
            "struct sql_migration { int number; const char *name, *text; };\n"
            "#define MIGRATION_COUNT %d\n"
            "extern const struct sql_migration sql_migrations[MIGRATION_COUNT];\n#endif\n",
            count - 1);
    fprintf(c, "};\nconst struct sql_migration sql_migrations[MIGRATION_COUNT] = {\n");
    for (int i = 1; i < count; i++) {
        const char *base = strrchr(files[i], '/');
        base = base ? base + 1 : files[i];
        char *end;
        long number = strtol(base, &end, 10);
        if (end != base + 4 || number != i)
            die("migrations must be numbered 0001, 0002, … without a gap", files[i]);
        char *m = read_file(files[i], &len);
        fprintf(c, "{ %ld, \"%.*s\", ", number, (int)strcspn(base, "."), base);
        literal(c, m, len);
        fprintf(c, " },\n");
        free(m);
    }
    fprintf(c, "};\n");
    out_close(h, path);
    out_close(c, cpath);
    free(text);
    if (queries == 0)
        die("no query in", files[0]);
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "blob") == 0)
        blob(argv[2], argv[3], argv[4]);
    else if (argc >= 5 && strcmp(argv[1], "sql") == 0)
        sql(argv[2], argv + 3, argc - 3);
    else
        die("usage", "embed blob SYMBOL FILE OUT.c | embed sql OUT QUERIES.sql MIGRATION.sql...");
    return 0;
}
