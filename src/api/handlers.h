/* The handlers that the route table names. One file a family. */
#ifndef HANDLERS_H
#define HANDLERS_H

#include "req.h"

void legacy_create(struct req *r);
void legacy_list(struct req *r);
void legacy_get(struct req *r);
void legacy_keepalive(struct req *r);
void legacy_delete(struct req *r);
void legacy_purge(struct req *r);
void legacy_wake(struct req *r);

void v1_create(struct req *r);
void v1_list(struct req *r);
void v1_get(struct req *r);
void v1_delete(struct req *r);
void v1_start(struct req *r);
void v1_stop(struct req *r);
void v1_pause(struct req *r);
void v1_why(struct req *r);
void v1_keepalive(struct req *r);

void v1_patch(struct req *r);

void share_create(struct req *r);
void share_list(struct req *r);
void share_revoke(struct req *r);

void exec_run(struct req *r);

void process_start(struct req *r);
void process_list(struct req *r);
void process_get(struct req *r);
void process_remove(struct req *r);
void process_output(struct req *r);
void process_signal(struct req *r);
void process_stdin(struct req *r);
void process_resize(struct req *r);

void terminal_open(struct req *r);

void service_list(struct req *r);
void service_logs(struct req *r);
void service_start(struct req *r);
void service_stop(struct req *r);
void service_restart(struct req *r);
void service_remove(struct req *r);

void files_list(struct req *r);
void files_content(struct req *r);
void files_put(struct req *r);
void files_delete(struct req *r);
void files_patch(struct req *r);
void files_stat(struct req *r);
void files_move(struct req *r);
void files_copy(struct req *r);
void files_mkdir(struct req *r);
void files_chmod(struct req *r);
void files_batch(struct req *r);
void files_export(struct req *r);
void v1_export(struct req *r);
void files_import(struct req *r);
void files_search(struct req *r);
void files_watch(struct req *r);

void preview_auth(struct req *r);
void forward_auth(struct req *r);

void system_health(struct req *r);
void system_ready(struct req *r);
void system_metrics(struct req *r);
void system_openapi(struct req *r);

#endif
