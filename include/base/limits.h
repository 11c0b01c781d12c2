/* Every ceiling, timeout and bound of the program, with its unit and its reason. Facing a peer or
 * sized by one: it is here. Settings that an operator may change live in config.def instead. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#define KIB 1024u
#define MIB (1024u * 1024u)

/* --- HTTP API --- */
#define HTTP_HEADER_MAX (8 * KIB)    /* request line and headers together */
#define HTTP_HEADERS_MAX 100         /* header lines */
#define HTTP_CONN_MEMORY (20 * KIB)  /* libmicrohttpd's pool of a connection, all resident */
#define HTTP_BODY_JSON_MAX (1 * MIB) /* any JSON body: far above the largest legal create */
#define HTTP_IN_WINDOW (256 * KIB)   /* bytes of one body that came and are not taken yet */
#define HTTP_OUT_WINDOW (16 * KIB)   /* of an answer that are not sent yet; a slow reader's cost */
#define HTTP_OUT_PIECE (8 * KIB)     /* of a process's output that is taken for it at once */
#define PEER_UNSENT_MAX (64 * KIB)   /* more in the kernel, which else takes up to 4 MiB of it */
#define HTTP_BODY_RATE 1024          /* bytes a second of a body, on average */
#define HTTP_DISCARD_MAX \
    (64 * MIB) /* of a refused body: read and dropped, so that the refusal arrives */
#define HTTP_CONNECTIONS_MAX 16384 /* or what RLIMIT_NOFILE allows */
#define HTTP_OPERATOR_RESERVE 64   /* connections that only this machine itself may take */
#define HTTP_FD_RESERVE 512        /* descriptors kept for all the rest */
#define HTTP_FOLLOW_LOOK_MS 1000   /* at TERM a follower who takes nothing for so long is cut */
#define HTTP_LAST_WORD_MS 3000     /* at TERM, for a follower to take the end of its answer */
#define HTTP_SSE_COMMENT_MS 15000  /* keep-alive of event streams: below usual proxy timeouts */
#define HTTP_SLOW_MS 2000          /* an answer that took so long is told in the log */
#define HTTP_LOG_LINES 200 /* failed requests in the log, a second: more tells nothing new */
#define HTTP_LIST_FLUSH (64 * KIB) /* a listing longer than this is streamed */
#define API_THREAD_IDLE_MS 10000   /* a handler thread without work ends */
#define API_THREADS_MAX 512        /* handlers at once; each blocks on Docker, disk or a peer */
#define API_TENANT_THREADS_MAX 384 /* of those, one tenant's: others and probes go on */
#define API_BACKLOG_MAX 1024       /* handlers waiting for a thread; beyond: 503 */
#define THREAD_STACK (256 * KIB)   /* of every thread of ours */

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
#define EXEC_ENV_MAX 256          /* variables of one command: the sandbox's, the request's, ours */
#define EXEC_SPEC_MAX (512 * KIB) /* argv, env and cwd of one command on the wire to the agent */
#define EXEC_STDIN_MAX (1 * MIB)  /* in a JSON body */
#define EXEC_OUTPUT_KEEP \
    (1 * MIB) /* of each of stdout and stderr in a whole reply; the rest is counted */
#define EXEC_TIMEOUT_MAX_MS (24 * 3600 * 1000)
#define EXEC_PER_SANDBOX_MAX 64 /* at once */
#define EXEC_KILL_GRACE_MS 2000 /* TERM, then KILL */

/* --- processes --- */
#define PROCESS_OUTPUT_KEEP (1 * MIB) /* of each, both streams together */
#define PROCESS_TIME_STEP_MS 100      /* output that comes closer together shares a time */
#define SERVICE_ENDED_MAX 10          /* of those, records of one service: its log's depth */
#define PROCESS_ENDED_MAX 100         /* records of ended ones a sandbox keeps; the oldest go */
#define PROCESS_RUNNING_MAX 64        /* at once in a sandbox: what its agent keeps */
#define PROCESS_HOLD_MS 10000         /* one waits so long for a reader that is to come */
#define PROCESS_FOLLOW_MS 10000       /* a tied process that nobody has followed yet */
#define PROCESS_REFOLLOW_MS 2000      /* and one whose last follower has left: it may redial */
#define PROCESS_FEED_MS 30000         /* a process that reads no stdin for so long */
#define PROCESS_FEED_PIECE (32 * KIB) /* of stdin: taken whole or not at all */

/* --- health of services --- */
/* One look: an app may compile before it answers for the first time. */
#define HEALTH_PROBE_MS 5000
#define HEALTH_DIAL_MS 2000 /* an agent's connection, or the Engine's word about the address */
#define HEALTH_AGE_SHARE 16 /* between two looks: this part of the time since its start ... */
#define HEALTH_PAUSE_MIN_MS 2
#define HEALTH_PAUSE_MAX_MS 2000
#define HEALTH_DIALS_MAX 64 /* agents asked at once */
#define HEALTH_BACKLOG_MAX 1024
#define HEALTH_WHY_MAX 200 /* bytes of what is said about it, with NUL */

/* --- the agents' link --- */
#define FRAME_PAYLOAD_MAX (EXEC_SPEC_MAX + 4 * KIB)
#define LINK_HELLO_MS 5000     /* a connection that does not introduce itself is closed */
#define LINK_STREAM_MS 5000    /* agent's time to open a requested stream */
#define LINK_BACKLOG 256       /* connections of one sandbox that wait in the kernel */
#define LINK_OUT_MAX (4 * MIB) /* requests an agent has not taken yet; beyond: unavailable */
#define LINK_PENDING_MAX 64    /* connections of one sandbox that have not said who they are */

#define LINK_PORTS_MAX 256  /* listening TCP ports that are told of one sandbox */
#define LINK_KEPT_MAX 64    /* processes of one sandbox that outlive their streams */
#define LINK_RING (1 * MIB) /* of their output: what can still be attached to */

/* --- the agent --- */
#define AGENT_DIAL_MIN_MS 10 /* first pause between two dials, doubled up to ... */
#define AGENT_DIAL_MAX_MS                                                                         \
    500                        /* ... so long: a restarted daemon has its agents back in a second \
                                */
#define AGENT_MONITORS_MAX 256 /* commands at once, detached ones too */
#define AGENT_FDS_MAX 65536    /* descriptors looked at to learn whether a command listens */
#define AGENT_LISTENERS_MAX 1024  /* listening sockets looked at in one pass */
#define AGENT_ERRANDS_MAX 256     /* connects under way at once */
#define AGENT_PORTS_FAST_MS 20    /* between two looks at the listening ports ... */
#define AGENT_PORTS_BUSY_MS 10000 /* ... so long after a start or a spawn; else ... */
#define AGENT_PORTS_SLOW_MS 500
#define AGENT_PORTS_AGE_SHARE 16 /* while a kept process is young: after this part of its age */
#define AGENT_PORTS_SHARE \
    20                    /* a look that takes long is followed by a pause so many times as long */
#define AGENT_ENV_MAX 512 /* variables of the image and of the command together */
#define AGENT_PROCS_MAX 4096 /* processes looked at in one pass; the next pass sees the rest */
#define AGENT_TERM_MS 200    /* from TERM to KILL for what outlives its command */
#define AGENT_KILL_MS 5000   /* what resists KILL for so long is reported and left to PID 1 */
#define AGENT_STOP_MS                                                          \
    4500 /* from the Engine's TERM to our exit; below the default grace of 5 s \
          */

/* --- files --- */
#define PATH_BYTES_MAX 4096
#define PATH_DEPTH_MAX 128
#define FILE_LIST_MAX 100000 /* entries of one listing */
#define FILE_LIST_BYTES_MAX \
    (16 * MIB)             /* of the names in one listing; a hostile tree may have only long ones */
#define FILE_REMOVE_MS 500 /* of removing a tree before the answer; the rest follows it */
#define FILE_REMOVE_FULL_MS 60000 /* of doing so in place, where a disk is too full to rename */
#define TRASH_ROUND_MS 100        /* of removing in the background, then as long a pause */
#define FILE_JSON_MAX (1 * MIB)   /* content given inside JSON */
#define FILE_CHUNK (256 * KIB)    /* copy unit */
#define FILE_HAND_OVER \
    (8 * MIB)               /* of a long upload: the disk begins with it while the rest comes in */
#define FILE_COPY_MS 600000 /* a recursive copy ends here */
#define FILE_COPY_ENTRIES_MAX 250000u /* some ten seconds of work */
#define FILE_PAGE_LIMIT_MAX \
    1000                  /* entries of one page; at worst 128 times their names are in memory */
#define FILE_PAGE_MS 1500 /* a page that took so long ends early: an answer within 2 s */
#define FILE_WALKS_MAX \
    16 /* exports, imports, searches and copies at once; each holds up to 129 descriptors */
#define FILE_EXPORT_BYTES_MAX \
    (256ull << 30) /* read for one archive: a sparse file may claim exabytes */
#define FILE_IMPORT_BYTES_MAX (16ull << 30) /* of one archive, unpacked */
#define FILE_IMPORT_ENTRIES_MAX 500000u
#define FILE_IMPORT_RATIO_MAX \
    100u /* unpacked bytes for each that came, behind the first FILE_IMPORT_FREE */
#define FILE_IMPORT_FREE (32ull * MIB)
#define FILE_IMPORT_MS 900000
#define FILE_SEARCH_LIMIT_MAX 10000
#define FILE_SEARCH_MS 30000
#define FILE_SEARCH_PATTERN_MAX 1024
#define FILE_SEARCH_STEPS_MAX 1000000u /* of one match: some 10 ms */
#define FILE_SEARCH_LINE_MAX 512       /* of a line, told */
#define FILE_WATCHES_MAX 64            /* of the kernel's 128 instances a user */
#define FILE_WATCH_DIRS_MAX 8192       /* of one watch */
#define FILE_WATCH_GAP_MS 20           /* changes that come together are told together */
#define FILE_BATCH_MAX 1000            /* files of one batch */

/* --- workspaces --- */
#define GOLDEN_BYTES_MAX (4096ull * MIB) /* an image's home directory, as archive and unpacked */
#define GOLDEN_ENTRIES_MAX 500000u
#define USAGE_SLOTS_MAX 65536     /* workspaces whose usage is remembered; far above one host's */
#define USAGE_ROUND_ENTRIES 4096  /* looked at in one round: about 10 ms of one core */
#define USAGE_STACK_MAX (4 * MIB) /* names of directories still to visit */
#define USAGE_GAP_MS 5000         /* between two measurements of one busy workspace */

/* --- store --- */
#define STORE_BATCH_MAX 256  /* writes of one transaction */
#define STORE_QUEUE_MAX 1024 /* writes waiting; each blocks a thread, so this is never reached */
#define STORE_READERS 2      /* READONLY connections */
#define STORE_CHECKPOINT_PAGES 1000 /* WAL growth (4 KiB pages) between passive checkpoints */
#define STORE_WAL_TRUNCATE_PAGES \
    4096                      /* 16 MiB: with the largest batch the WAL stays below 64 MiB */
#define STORE_REFILL_MS 10000 /* between attempts to set the reserve aside again */
#define STORE_STUCK_MS 10000  /* a commit that takes longer is reported by /readyz */

/* --- Engine --- */
#define ENGINE_CONNECT_MS 1000
#define ENGINE_HANDLES_MAX 32   /* kept-open connections */
#define ENGINE_STARTS_AT_ONCE 4 /* two cores saturate at about four starts a second */
#define ENGINE_PATIENCE_MS \
    500 /* a silent call asks /_ping by then: 0.5 s + ping is below the 2 s promised */
#define ENGINE_PING_MS 1350         /* answered in well under 1 ms, but by a busy machine */
#define ENGINE_STEP_MS 50           /* a ping's waiting that takes twice as long: we stood still */
#define ENGINE_STANDSTILL_MS 5000   /* so much longer it is waited for at most, then */
#define ENGINE_URL_MAX (16 * KIB)   /* a path inside an image, percent-encoded, at most triples */
#define ENGINE_EVENT_MAX (64 * KIB) /* one event; a container's labels are the bulk of it */
#define ENGINE_TEXT_MAX 1024        /* of an Engine's error message, kept in the log */
#define ENGINE_BACKOFF_MIN_MS                                           \
    50 /* event stream: first wait before dialling again, doubled up to \
        */
#define ENGINE_BACKOFF_MAX_MS 2000

/* --- the process --- */
#define FIREWALL_CHECK_MS 5000 /* rules that somebody removed are back by then */
#define SHUTDOWN_SLACK_S 8     /* after the grace: rooms close in well under that, or never */

/* --- the preview edge --- */
#define EDGE_HEAD_MAX (16 * KIB)       /* start line and headers of one message, either way */
#define EDGE_LINES_MAX 100             /* header lines of one message */
#define EDGE_TARGET_MAX (8 * KIB)      /* of a request: path and query */
#define EDGE_TRAILER_MAX (8 * KIB)     /* trailer section of a chunked body */
#define EDGE_BUFFER (24 * KIB)         /* one buffer; a direction has two: as it came, as it goes */
#define EDGE_CHUNK_NOISE_MAX (4 * KIB) /* chunk extensions before a byte of body must come */
#define EDGE_INTERIM_MAX 32            /* 1xx answers before the real one */
#define EDGE_APP_HEADER_MS 10000       /* from the first byte of an app's head to its last */
#define EDGE_UPSTREAM_IDLE_MS 30000    /* a connection to an app without a request */
#define EDGE_UPSTREAM_IDLE_MAX 64      /* of those, one sandbox */
#define EDGE_CONNECT_MS 3000           /* to an app: the next hop is this machine's bridge */
#define EDGE_CONNECTS_MAX \
    8 /* through the agent at once, one sandbox: a silent agent blocks so many threads */
#define EDGE_FAILURE_MS 60000     /* why a wake failed is told for so long */
#define EDGE_HALF_CLOSED_MS 30000 /* silence after a client's last byte: it has left */
#define EDGE_LINGER_MS 2000       /* reading on after an early answer, so that it arrives */
#define EDGE_LINGER_MAX (4 * MIB)
#define EDGE_ATTEMPTS_MAX 6     /* looks for a sandbox that keeps stopping under one request */
#define EDGE_PORT_GRACE_MS 2000 /* a port may begin to listen so long after it was asked for */
#define EDGE_LAST_MS 1000       /* after the listener closed, who came last is served so long */
#define EDGE_TICK_MS 100        /* deadlines are looked at so often */
#define EDGE_REVIEW_MS 250   /* rights of open connections, too: revoked ones end within a second */
#define EDGE_THREADS_MAX 256 /* wakes and connects at once; each blocks on Docker or an agent */
#define EDGE_BACKLOG_MAX 4096   /* of those, waiting */
#define EDGE_VISITORS_MAX 65536 /* addresses whose requests are counted */
#define EDGE_LOG_LINES 200      /* requests in the log, a second: more tells nothing new */
#define EDGE_LOG_METHOD_MAX 16  /* bytes of a line's texts; what is longer is cut */
#define EDGE_LOG_HOST_MAX 128
#define EDGE_LOG_PATH_MAX 256
#define EDGE_FD_RESERVE 1024 /* descriptors kept for API, Engine and agents */

/* --- share links --- */
#define SHARE_TTL_MAX_S (90 * 24 * 3600) /* a link that lives longer is a public preview */
#define SHARE_ONCE_S 60                  /* a one-time link must be opened so soon */
#define SHARES_PER_SANDBOX_MAX 100

/* --- Traefik's Docker endpoint --- */
#define FRONT_HEAD_MAX (8 * KIB) /* one request's head; Traefik's have a few hundred bytes */
#define FRONT_LINES_MAX 32       /* header lines */
#define FRONT_CONNECTIONS_MAX 16 /* Traefik keeps two or three */
#define FRONT_HEAD_MS 5000       /* from a head's first byte to its last */
#define FRONT_IDLE_MS 60000      /* between two requests of a connection */
#define FRONT_SEND_MS 5000       /* a peer that takes nothing for so long is cut */
#define FRONT_ANSWER_MAX                                                                        \
    (64 * KIB)                     /* one container: 32 ports with the longest names are 30 KiB \
                                    */
#define FRONT_EVENT_GAP_MS 20      /* changes that come together are told together */
#define FRONT_THREAD_IDLE_MS 10000 /* a connection's thread without one ends */

/* --- settings --- */
#define CONFIG_FILE_MAX (64 * KIB) /* an env file, read in one piece on the stack */
#define CONFIG_VALUE_MAX (32 * KIB)
#define DATA_DIR_MAX 1024 /* bytes; leaves room for what lies below it in a path of 4096 */
#define IMAGE_NAME_MAX 255
#define TOKEN_NAME_MAX 64 /* it is the tenant's name, too */
#define TOKEN_SECRET_MIN 8
#define TOKEN_SECRET_MAX 256

#endif
