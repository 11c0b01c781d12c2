/* The route table: dispatch, ceilings, help and the README's list are all read off it. */
#include "base/limits.h"
#include "base/str.h"
#include "handlers.h"
#include "openapi.h"
#include "server.h"
#include "shapes.h"

#define BODY(s, type) .shape = &(s), .object_size = sizeof(type), .body_max = HTTP_BODY_JSON_MAX
#define NO_BODY .body_max = 64 * KIB
#define NO_BODY_OF(bytes) .body_max = (bytes)
#define L ROUTE_LEGACY

const struct route routes[] = {
    { "POST", "/sandbox", L | ROUTE_EMPTY, BODY(shape_create_legacy, struct create_body),
      .status = 201, .handle = legacy_create, .reply = "SandboxRow", .heads = "Idempotency-Key",
      .also = "200", .help = "Create a sandbox and wait until it runs." },
    { "GET", "/sandboxes", L | ROUTE_FAST, NO_BODY, .status = 200, .handle = legacy_list,
      .reply = "SandboxRows", .params = "external_user_id external_project_id",
      .help = "All sandboxes, newest first; ?external_user_id= and ?external_project_id=." },
    { "GET", "/sandbox/{id}", L, NO_BODY, .status = 200, .handle = legacy_get,
      .reply = "SandboxView", .help = "One sandbox with the engine's view of its container." },
    { "POST", "/sandbox/{id}/exec", L, BODY(shape_exec_legacy, struct exec_body), .status = 200,
      .handle = exec_run, .reply = "ExecResult text/plain text/event-stream application/x-ndjson",
      .help = "Run a command; wakes a stopped sandbox." },
    { "POST", "/sandbox/{id}/keepalive", L | ROUTE_EMPTY,
      BODY(shape_keepalive_legacy, struct keepalive_body), .status = 200,
      .handle = legacy_keepalive, .reply = "KeptAlive",
      .help = "Keep it awake {until} a time in Unix seconds (default: an hour on)." },
    { "DELETE", "/sandbox/{id}", L, NO_BODY, .status = 204, .handle = legacy_delete,
      .help = "Remove the sandbox, keep its workspace for a new one of the same id." },
    { "POST", "/sandbox/{id}/purge", L, NO_BODY, .status = 200, .handle = legacy_purge,
      .reply = "Purged", .help = "Remove the sandbox and its workspace." },
    { "POST", "/wake/{id}", L, NO_BODY, .status = 200, .handle = legacy_wake, .reply = "Woken",
      .help = "Start a stopped sandbox." },

    { "POST", "/v1/sandboxes", ROUTE_EMPTY, BODY(shape_create, struct create_body), .status = 201,
      .handle = v1_create, .reply = "Sandbox", .heads = "Idempotency-Key", .also = "200",
      .help = "Create a sandbox and wait until it runs." },
    { "GET", "/v1/sandboxes", ROUTE_FAST, NO_BODY, .status = 200, .handle = v1_list,
      .reply = "SandboxList",
      .params = "limit cursor status external_user_id external_project_id metadata.*",
      .help = "A page of sandboxes: ?limit= ?cursor= ?status= ?external_user_id= "
              "?external_project_id= ?metadata.<name>=." },
    { "GET", "/v1/sandboxes/{id}", ROUTE_FAST, NO_BODY, .status = 200, .handle = v1_get,
      .reply = "Sandbox", .help = "One sandbox." },
    { "PATCH", "/v1/sandboxes/{id}", 0, BODY(shape_patch, struct patch_body), .status = 200,
      .handle = v1_patch, .reply = "Sandbox",
      .help = "Change its visibility; strangers' open connections are cut." },
    { "DELETE", "/v1/sandboxes/{id}", 0, NO_BODY, .status = 204, .handle = v1_delete,
      .help = "Remove the sandbox and its workspace." },
    { "POST", "/v1/sandboxes/{id}/start", 0, NO_BODY, .status = 200, .handle = v1_start,
      .reply = "Sandbox", .help = "Start it; running already is success." },
    { "POST", "/v1/sandboxes/{id}/stop", 0, NO_BODY, .status = 200, .handle = v1_stop,
      .reply = "Sandbox", .help = "Stop it; stopped already is success." },
    { "POST", "/v1/sandboxes/{id}/pause", 0, NO_BODY, .status = 200, .handle = v1_pause,
      .reply = "Sandbox",
      .help = "Freeze it: memory is kept, the next use thaws it in milliseconds." },
    { "GET", "/v1/sandboxes/{id}/why", ROUTE_FAST, NO_BODY, .status = 200, .handle = v1_why,
      .reply = "Why",
      .help = "Why it is awake, asleep or dead, and what its last start spent where." },
    { "POST", "/v1/sandboxes/{id}/exec", 0, BODY(shape_exec, struct exec_body), .status = 200,
      .handle = exec_run, .reply = "ExecResult text/plain text/event-stream application/x-ndjson",
      .help = "Run a command; Accept: text/event-stream or application/x-ndjson streams." },
    { "POST", "/v1/sandboxes/{id}/keepalive", ROUTE_EMPTY,
      BODY(shape_keepalive, struct keepalive_body), .status = 200, .handle = v1_keepalive,
      .reply = "Sandbox",
      .help = "Keep it awake {until} a time in Unix seconds (default: an hour on)." },
    { "POST", "/v1/sandboxes/{id}/shares", ROUTE_EMPTY, BODY(shape_share, struct share_body),
      .status = 201, .handle = share_create, .reply = "Share",
      .help = "A link that opens its private previews: {ttl_s, once, port}." },
    { "GET", "/v1/sandboxes/{id}/shares", ROUTE_FAST, NO_BODY, .status = 200, .handle = share_list,
      .reply = "ShareList", .help = "Its live share links." },
    { "DELETE", "/v1/sandboxes/{id}/shares/{share}", 0, NO_BODY, .status = 204,
      .handle = share_revoke, .help = "End a share link and what it opened." },
    { "POST", "/v1/sandboxes/{id}/processes", 0, BODY(shape_process, struct process_body),
      .status = 201, .handle = process_start, .reply = "Process",
      .help =
          "Start a process that outlives this call, the connection and the daemon; with an Accept "
          "of events it is followed at once." },
    { "GET", "/v1/sandboxes/{id}/processes", ROUTE_FAST, NO_BODY, .status = 200,
      .handle = process_list, .reply = "ProcessList",
      .help = "Its processes, newest first, ended ones too." },
    { "GET", "/v1/sandboxes/{id}/processes/{process}", ROUTE_FAST, NO_BODY, .status = 200,
      .handle = process_get, .reply = "Process", .help = "One process." },
    { "DELETE", "/v1/sandboxes/{id}/processes/{process}", 0, NO_BODY, .status = 204,
      .handle = process_remove, .help = "End it if it runs, and forget it with its output." },
    { "GET", "/v1/sandboxes/{id}/processes/{process}/output", 0, NO_BODY, .status = 200,
      .handle = process_output,
      .reply = "application/octet-stream text/plain text/event-stream application/x-ndjson",
      .params = "offset follow hold", .heads = "Last-Event-ID",
      .help =
          "Its output from ?offset=: raw, or events by Accept; ?follow=true goes on to its end, "
          "&hold=true makes it wait for this reader." },
    { "POST", "/v1/sandboxes/{id}/processes/{process}/signal", 0,
      BODY(shape_signal, struct signal_body), .status = 202, .handle = process_signal,
      .help = "Send a signal to its group, or to all its descendants ({\"tree\": true})." },
    { "POST", "/v1/sandboxes/{id}/processes/{process}/stdin", 0, NO_BODY_OF(1 * MIB), .status = 200,
      .handle = process_stdin, .reply = "Taken", .params = "eof",
      .help = "Raw bytes for its stdin or terminal; ?eof=true closes it." },
    { "POST", "/v1/sandboxes/{id}/processes/{process}/resize", 0,
      BODY(shape_resize, struct resize_body), .status = 204, .handle = process_resize,
      .help = "New size of its terminal." },
    { "GET", "/v1/sandboxes/{id}/terminal", 0, NO_BODY, .status = 101, .handle = terminal_open,
      .params = "cols rows process",
      .heads = "Upgrade! Connection! Sec-WebSocket-Version! Sec-WebSocket-Key!",
      .help = "A terminal over WebSocket; ?process= attaches to one that runs." },
    { "GET", "/v1/sandboxes/{id}/services", 0, NO_BODY, .status = 200, .handle = service_list,
      .reply = "ServiceList", .help = "Declared services and how they do." },
    { "GET", "/v1/sandboxes/{id}/services/{service}/logs", 0, NO_BODY, .status = 200,
      .handle = service_logs, .reply = "text/plain text/event-stream application/x-ndjson",
      .params = "follow tail",
      .help = "Its output over restarts, a time on each line; ?tail=lines, ?follow=true." },
    { "POST", "/v1/sandboxes/{id}/services/{service}/start", 0, NO_BODY, .status = 200,
      .handle = service_start, .reply = "ServiceList",
      .help = "Start it; running already is success." },
    { "POST", "/v1/sandboxes/{id}/services/{service}/stop", 0, NO_BODY, .status = 200,
      .handle = service_stop, .reply = "ServiceList",
      .help = "Stop it until it is started by hand; it stays stopped over sleep and restarts." },
    { "POST", "/v1/sandboxes/{id}/services/{service}/restart", 0, NO_BODY, .status = 200,
      .handle = service_restart, .reply = "ServiceList", .help = "End it and start it anew." },
    { "DELETE", "/v1/sandboxes/{id}/services/{service}", 0, NO_BODY, .status = 204,
      .handle = service_remove,
      .help = "End it if it runs, and declare it no more; 409 for one of sandbox.yaml." },
    { "GET", "/v1/sandboxes/{id}/files", 0, NO_BODY, .status = 200, .handle = files_list,
      .reply = "FileList", .params = "path recursive all depth limit cursor",
      .help = "List a directory: ?path= ?recursive=true ?all=true; in pages with ?depth= ?limit= "
              "?cursor=." },
    { "PUT", "/v1/sandboxes/{id}/files", ROUTE_RAW, .status = 200, .handle = files_put,
      .reply = "File", .params = "path append", .heads = "If-Match If-None-Match",

      .help = "Write a file: raw body with ?path= (&append=true), or JSON {path, content, "
              "append}." },
    { "DELETE", "/v1/sandboxes/{id}/files", 0, NO_BODY, .status = 204, .handle = files_delete,
      .params = "path! recursive", .heads = "If-Match",
      .help = "Remove ?path=; ?recursive=true for a directory." },
    { "GET", "/v1/sandboxes/{id}/files/content", 0, NO_BODY, .status = 200, .handle = files_content,
      .reply = "application/octet-stream text/plain", .params = "path!",
      .heads = "Range If-Range If-Match If-None-Match", .also = "206 304-",
      .help = "Bytes of the file ?path=; Range, If-Range and If-None-Match are heeded." },
    { "PATCH", "/v1/sandboxes/{id}/files", ROUTE_RAW, .status = 200, .handle = files_patch,
      .reply = "File", .params = "path!", .heads = "If-Match If-None-Match",
      .help = "Append the raw body to ?path=, all or nothing." },
    { "GET", "/v1/sandboxes/{id}/files/stat", 0, NO_BODY, .status = 200, .handle = files_stat,
      .reply = "File", .params = "path!",
      .help = "What ?path= is; its etag serves If-Match on writes." },
    { "POST", "/v1/sandboxes/{id}/files/move", 0, BODY(shape_file_pair, struct file_pair_body),
      .status = 200, .handle = files_move, .reply = "File", .heads = "If-Match",
      .help = "Give a file, directory or link another name." },
    { "POST", "/v1/sandboxes/{id}/files/copy", 0, BODY(shape_file_pair, struct file_pair_body),
      .status = 200, .handle = files_copy, .reply = "File",
      .help = "Copy a file or a whole directory." },
    { "POST", "/v1/sandboxes/{id}/files/mkdir", 0, BODY(shape_file_mkdir, struct file_mkdir_body),
      .status = 201, .handle = files_mkdir, .reply = "File", .also = "200",
      .help = "Make a directory and its parents; 200 when it is there already." },
    { "POST", "/v1/sandboxes/{id}/files/chmod", 0, BODY(shape_file_chmod, struct file_chmod_body),
      .status = 200, .handle = files_chmod, .reply = "File",
      .help = "Permission bits of a file or directory." },
    { "POST", "/v1/sandboxes/{id}/files/batch", 0, BODY(shape_file_batch, struct file_batch_body),
      .status = 200, .handle = files_batch, .reply = "FileBatch",
      .help = "Write several files, each whole or not at all." },
    { "GET", "/v1/sandboxes/{id}/files/search", 0, NO_BODY, .status = 200, .handle = files_search,
      .reply = "FileMatches text/event-stream application/x-ndjson",
      .params = "path q name regex case limit all",
      .help = "Find files by ?name= (glob) and lines by ?q= (?regex=true, ?case=false), below a "
              "directory or in one file; events by Accept." },
    { "GET", "/v1/sandboxes/{id}/files/watch", 0, NO_BODY, .status = 200, .handle = files_watch,
      .reply = "text/event-stream application/x-ndjson", .params = "path recursive all",
      .help = "Changes below ?path= as events, also while it sleeps." },
    { "GET", "/v1/sandboxes/{id}/files/export", 0, NO_BODY, .status = 200, .handle = files_export,
      .reply = "application/zstd application/zip application/x-tar", .params = "path format all",
      .help = "A directory as an archive: ?format=tar.zst (default), zip or tar." },
    { "POST", "/v1/sandboxes/{id}/files/import", ROUTE_RAW, .status = 200, .handle = files_import,
      .reply = "FileImport", .params = "path format",
      .help = "Unpack a tar (plain, gzip, zstd) or zip into ?path=, all or nothing." },
    { "GET", "/v1/sandboxes/{id}/export", 0, NO_BODY, .status = 200, .handle = v1_export,
      .reply = "application/zip application/zstd application/x-tar", .params = "path format all",
      .help = "As files/export, zip by default." },

    { "GET", "/preview-auth", L | ROUTE_OPEN, NO_BODY, .status = 302, .handle = preview_auth,
      .params = "token return", .error = "PlainError",
      .help = "For a proxy of your own: ?token= becomes a cookie, then to ?return=." },
    { "GET", "/forward-auth", L | ROUTE_OPEN | ROUTE_PROXY, NO_BODY, .status = 200,
      .handle = forward_auth, .reply = "text/plain", .error = "PlainError",
      .help = "For a proxy of your own: may the request of X-Forwarded-Host pass?" },
    { "GET", "/healthz", L | ROUTE_OPEN | ROUTE_FAST, NO_BODY, .status = 200,
      .handle = system_health, .reply = "text/plain", .help = "The daemon answers." },
    { "GET", "/readyz", L | ROUTE_OPEN, NO_BODY, .status = 200, .handle = system_ready,
      .reply = "text/plain", .help = "It can serve; else 503 with the cause." },
    { "GET", "/openapi.yaml", L | ROUTE_OPEN, NO_BODY, .status = 200, .handle = system_openapi,
      .reply = "application/yaml", .help = "This API as an OpenAPI document." },
    { "GET", "/metrics", L | ROUTE_FAST, NO_BODY, .status = 200, .handle = system_metrics,
      .reply = "text/plain", .help = "Counters as Prometheus text." },
};
const size_t n_routes = sizeof(routes) / sizeof(routes[0]);
_Static_assert(sizeof(routes) / sizeof(routes[0]) < METRICS_ROUTES, "a counter for each route");

/* A segment of {…} is kept as it came: letters and digits need no escapes, and whatever else is
 * there cannot be an id. Too long ones are cut, which no id survives either. */
static bool path_match(const char *pattern, const char *path, struct route_args *ret)
{
    *ret = (struct route_args){ 0 };
    while (*pattern) {
        if (*pattern == '{') {
            char *to = str_starts(pattern, "{id}") ? ret->id : ret->sub;
            size_t len = strcspn(path, "/");
            if (len == 0)
                return false;
            size_t kept = len < 63 ? len : 63;
            memcpy(to, path, kept);
            path += len;
            pattern += strcspn(pattern, "}") + 1;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

enum route_match route_find(const char *method, const char *path, const struct route **ret,
                            struct route_args *ret_args, char allow[64])
{
    enum route_match match = ROUTE_NO_PATH;
    size_t used = 0;
    allow[0] = '\0';
    for (size_t i = 0; i < n_routes; i++) {
        const struct route *t = &routes[i];
        if (!path_match(t->path, path, ret_args))
            continue;
        bool get = str_eq(t->method, "GET");
        if (str_eq(method, t->method) || (get && str_eq(method, "HEAD"))) {
            *ret = t;
            return ROUTE_FOUND;
        }
        match = ROUTE_NO_METHOD;
        used += (size_t)snprintf(allow + used, 64 - used, "%s%s%s", used ? ", " : "", t->method,
                                 get ? ", HEAD" : "");
    }
    return match;
}

void api_print_routes(FILE *out, bool markdown)
{
    if (markdown)
        (void)fprintf(out, "| method | path | success | |\n|---|---|---|---|\n");
    for (size_t i = 0; i < n_routes; i++) {
        const struct route *t = &routes[i];
        (void)fprintf(out, markdown ? "| %s | `%s` | %d | %s |\n" : "%-7s %-36s %d  %s\n",
                      t->method, t->path, t->status, t->help);
    }
}

void api_print_openapi(FILE *out)
{
    struct buf b = BUF_INIT(1 * MIB);
    openapi_render(&b);
    (void)fwrite(buf_str(&b), 1, b.len, out); /* the caller looks at the stream */
    buf_release(&b);
}
