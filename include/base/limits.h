/* Every ceiling, timeout and bound of the program, with its unit and its reason. Facing a peer or
 * sized by one: it is here. Settings that an operator may change live in config.def instead. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#define KIB 1024u
#define MIB (1024u * 1024u)

/* --- HTTP API --- */
#define HTTP_HEADER_MAX (8 * KIB)      /* request line and headers together */
#define HTTP_HEADERS_MAX 100           /* header lines */
#define HTTP_CONN_MEMORY (32 * KIB)    /* libmicrohttpd's pool for one connection */
#define HTTP_BODY_JSON_MAX (1 * MIB)   /* any JSON body: far above the largest legal create */
#define HTTP_IDLE_TIMEOUT_S 60         /* keep-alive without a request */
#define HTTP_STREAM_WINDOW (256 * KIB) /* bytes of one body in memory, each direction */
#define HTTP_STALL_MS 30000            /* a peer that takes or gives nothing for so long is cut */
#define API_THREADS_MAX 256      /* handlers at once; each blocks on Docker, disk or a sandbox */
#define API_BACKLOG_MAX 1024     /* handlers waiting for a thread; beyond: 503 */
#define THREAD_STACK (256 * KIB) /* of every thread of ours */

/* --- JSON --- */
#define JSON_DEPTH_MAX 32
#define JSON_ENGINE_MAX (8 * MIB) /* one reply of the Engine */

/* --- sandboxes --- */
#define SANDBOX_PORTS_MAX 32
#define SANDBOX_ENV_MAX 100 /* variables */
#define SANDBOX_ENV_BYTES_MAX \
    (128 * KIB)                 /* names and values together; below the kernel's ARG_MAX */
#define SANDBOX_METADATA_MAX 64 /* pairs */
#define SANDBOX_METADATA_BYTES_MAX (16 * KIB)
#define EXTERNAL_ID_MAX 256 /* bytes; the reference's bound */
#define IDEMPOTENCY_KEY_MAX 255
#define PAGE_LIMIT_MAX 1000
#define PAGE_LIMIT_DEFAULT 100

/* --- exec --- */
#define EXEC_ARGS_MAX 1024
#define EXEC_SPEC_MAX (512 * KIB) /* argv, env and cwd of one command on the wire to the agent */
#define EXEC_STDIN_MAX (1 * MIB)  /* in a JSON body */
#define EXEC_OUTPUT_KEEP \
    (1 * MIB) /* of each of stdout and stderr in a whole reply; the rest is counted */
#define EXEC_TIMEOUT_MAX_MS (24 * 3600 * 1000)
#define EXEC_PER_SANDBOX_MAX 64 /* at once */
#define EXEC_KILL_GRACE_MS 2000 /* TERM, then KILL */

/* --- the agents' link --- */
#define FRAME_PAYLOAD_MAX (EXEC_SPEC_MAX + 4 * KIB)
#define LINK_HELLO_MS 5000  /* a connection that does not introduce itself is closed */
#define LINK_STREAM_MS 5000 /* agent's time to open a requested stream */
#define LINK_PENDING_MAX 64 /* connections of one sandbox that have not said who they are */

/* --- files --- */
#define PATH_BYTES_MAX 4096
#define PATH_DEPTH_MAX 128
#define FILE_LIST_MAX 100000    /* entries of one listing */
#define FILE_JSON_MAX (1 * MIB) /* content given inside JSON */
#define FILE_CHUNK (256 * KIB)  /* copy unit */

/* --- Engine --- */
#define ENGINE_CONNECT_MS 1000
#define ENGINE_HANDLES_MAX 32   /* kept-open connections */
#define ENGINE_STARTS_AT_ONCE 4 /* two cores saturate at about four starts a second */

#endif
