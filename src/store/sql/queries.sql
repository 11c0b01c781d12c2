-- Every statement of the program, each below a line with its name: (parameters) -> result.

-- :begin
BEGIN IMMEDIATE;
-- :commit
COMMIT;
-- :rollback
ROLLBACK;
-- :savepoint  () one request inside the batch
SAVEPOINT job;
-- :savepoint_release
RELEASE job;
-- :savepoint_undo
ROLLBACK TO job;

-- :migration_note  (number, name, now_ms)
INSERT INTO migration (number, name, applied_at_ms) VALUES (:number, :name, :now_ms);
-- :meta_get  (name) -> value
SELECT value FROM meta WHERE name = :name;
-- :sandbox_insert  (one parameter a column)
INSERT INTO sandbox (
    id, state, secret, tenant, node, purge, image, image_digest, container_id, epoch, memory_mib,
    cpu_milli, pids, disk_mib, nofile, memory_high, visibility, idle_policy, ports, env, metadata,
    external_user, external_project, external_workspace, error_message, created_at_ms,
    updated_at_ms, last_active_at_ms, stopped_at_ms, keepalive_until_ms,
    idle_timeout_ms, stop_timeout_ms, ttl_s, services)
VALUES (
    :id, :state, :secret, :tenant, :node, :purge, :image, :image_digest, :container_id, :epoch,
    :memory_mib, :cpu_milli, :pids, :disk_mib, :nofile, :memory_high, :visibility, :idle_policy,
    :ports, :env, :metadata, :external_user, :external_project, :external_workspace,
    :error_message, :created_at_ms, :updated_at_ms, :last_active_at_ms, :stopped_at_ms,
    :keepalive_until_ms, :idle_timeout_ms, :stop_timeout_ms, :ttl_s, :services);

-- :sandbox_load  () -> rows; columns in the order of the row table in rows.c (checked at open)
SELECT id, state, secret, tenant, node, purge, image, image_digest, container_id, epoch, memory_mib,
    cpu_milli, pids, disk_mib, nofile, memory_high, visibility, idle_policy, ports, env, metadata,
    external_user, external_project, external_workspace, error_message, created_at_ms,
    updated_at_ms, last_active_at_ms, stopped_at_ms, keepalive_until_ms,
    idle_timeout_ms, stop_timeout_ms, ttl_s, services
FROM sandbox ORDER BY created_at_ms, id;

-- :sandbox_exists  (id) -> 1
SELECT 1 FROM sandbox WHERE id = :id;
-- :sandbox_count  (tenant) -> count
SELECT count(*) FROM sandbox WHERE tenant = :tenant;
-- :sandbox_of_project  (tenant, project) -> id
SELECT id FROM sandbox
WHERE tenant = :tenant AND external_project = :project AND state NOT IN ('ERROR', 'DELETING')
ORDER BY created_at_ms, id LIMIT 1;

-- :sandbox_move  (id, from, to, now_ms, …) -> changed rows; NULL leaves a column, '' clears it
UPDATE sandbox SET
    state = :to,
    updated_at_ms = :now_ms,
    stopped_at_ms = CASE :to WHEN 'STOPPED' THEN :now_ms WHEN 'RUNNING' THEN 0
                    ELSE stopped_at_ms END,
    last_active_at_ms = CASE :to WHEN 'RUNNING' THEN max(last_active_at_ms, :now_ms)
                        ELSE last_active_at_ms END,
    purge = purge OR :purge,
    container_id = CASE WHEN :container_id IS NULL THEN container_id
                   ELSE nullif(:container_id, '') END,
    image_digest = CASE WHEN :image_digest IS NULL THEN image_digest
                   ELSE nullif(:image_digest, '') END,
    error_message = CASE WHEN :error_message IS NULL THEN error_message
                    ELSE nullif(:error_message, '') END,
    nofile = CASE WHEN :nofile = 0 THEN nofile ELSE :nofile END,
    epoch = epoch + (:secret IS NOT NULL),
    secret = coalesce(:secret, secret)
WHERE id = :id AND state = :from AND (:if_epoch = 0 OR epoch = :if_epoch);

-- :sandbox_set_keepalive  (id, until_ms) -> changed rows
UPDATE sandbox SET keepalive_until_ms = :until_ms WHERE id = :id;

-- :sandbox_set_services  (id, services) -> changed rows
UPDATE sandbox SET services = :services WHERE id = :id;

-- :sandbox_touch  (id, at_ms) -> changed rows; never backwards
UPDATE sandbox SET last_active_at_ms = :at_ms WHERE id = :id AND last_active_at_ms < :at_ms;

-- :sandbox_remove  (id) -> changed rows
DELETE FROM sandbox WHERE id = :id AND state = 'DELETING';

-- :workspace_get  (id) -> columns below
SELECT id, tenant, external_user, dev, ino, purging FROM workspace WHERE id = :id;
-- :workspace_list_purging  () -> as workspace_get
SELECT id, tenant, external_user, dev, ino, purging FROM workspace WHERE purging = 1 ORDER BY id;
-- :workspace_insert  (id, node, tenant, external_user, now_ms)
INSERT INTO workspace (id, node, tenant, external_user, made_at_ms)
VALUES (:id, :node, :tenant, :external_user, :now_ms);
-- :workspace_set_user  (id, external_user) -> changed rows
UPDATE workspace SET external_user = :external_user WHERE id = :id;
-- :workspace_made  (id, dev, ino) -> changed rows
UPDATE workspace SET dev = :dev, ino = :ino WHERE id = :id;
-- :workspace_purging  (id) -> changed rows; none while a sandbox stands on it
UPDATE workspace SET purging = 1
WHERE id = :id AND NOT EXISTS (SELECT 1 FROM sandbox WHERE sandbox.id = :id);
-- :workspace_remove  (id) -> changed rows
DELETE FROM workspace WHERE id = :id;

-- :process_insert  (…)
INSERT INTO process (id, sandbox, node, tenant, epoch, number, state, argv, cwd, service, pty, tied, started_at_ms)
VALUES (:id, :sandbox, :node, :tenant, :epoch, :number, :state, :argv, :cwd, :service, :pty, :tied,
    :started_at_ms);
-- :process_end  (id, state, exit_code, signal, timed_out, bytes, ended_at_ms) -> changed rows
UPDATE process SET state = :state, exit_code = :exit_code, signal = :signal, timed_out = :timed_out,
    bytes = :bytes, ended_at_ms = :ended_at_ms
WHERE id = :id AND ended_at_ms = 0;
-- :process_remove  (id) -> changed rows
DELETE FROM process WHERE id = :id;
-- :process_remove_all  (sandbox) -> changed rows
DELETE FROM process WHERE sandbox = :sandbox;
-- :process_load  () -> columns below; oldest first
SELECT id, sandbox, epoch, number, state, argv, cwd, service, pty, exit_code, signal, timed_out, bytes,
    started_at_ms, ended_at_ms, tied
FROM process ORDER BY id;

-- :sandbox_set_visibility  (id, visibility, now_ms) -> changed rows
UPDATE sandbox SET visibility = :visibility, updated_at_ms = :now_ms WHERE id = :id;
-- :share_count  (sandbox) -> count
SELECT count(*) FROM share WHERE sandbox = :sandbox;
-- :share_insert  (id, sandbox, once, created_at_ms, expires_at_ms) -> changed rows
INSERT INTO share (id, sandbox, node, tenant, once, created_at_ms, expires_at_ms)
SELECT :id, id, node, tenant, :once, :created_at_ms, :expires_at_ms
FROM sandbox WHERE id = :sandbox;
-- :share_use  (id) -> changed rows
UPDATE share SET used = 1 WHERE id = :id AND used = 0;
-- :share_remove  (id, sandbox) -> changed rows
DELETE FROM share WHERE id = :id AND sandbox = :sandbox;
-- :share_expire  (now_ms) -> changed rows
DELETE FROM share WHERE expires_at_ms <= :now_ms;
-- :share_load  () -> columns below; oldest first
SELECT id, sandbox, once, used, created_at_ms, expires_at_ms FROM share ORDER BY created_at_ms, id;

-- :idem_get  (tenant, key) -> hash, sandbox, status, body
SELECT hash, sandbox, status, body FROM idempotency WHERE tenant = :tenant AND key = :key;
-- :idem_insert  (tenant, key, node, hash, sandbox, now_ms)
INSERT INTO idempotency (tenant, key, node, hash, sandbox, at_ms)
VALUES (:tenant, :key, :node, :hash, :sandbox, :now_ms);
-- :idem_done  (tenant, key, status, body) -> changed rows
UPDATE idempotency SET status = :status, body = :body
WHERE tenant = :tenant AND key = :key AND status = 0;
-- :idem_drop  (tenant, key, sandbox) -> changed rows
DELETE FROM idempotency
WHERE tenant = :tenant AND key = :key AND sandbox = :sandbox AND status = 0;
-- :idem_expire  (before_ms) -> changed rows
DELETE FROM idempotency WHERE at_ms < :before_ms;

-- :audit_create  (id, actor, now_ms)
INSERT INTO audit (at_ms, node, tenant, actor, action, target, detail)
SELECT :now_ms, node, tenant, :actor, 'sandbox.create', id,
    json_object('image', image, 'visibility', visibility)
FROM sandbox WHERE id = :id;
-- :audit_move  (id, actor, action, from, to, now_ms)
INSERT INTO audit (at_ms, node, tenant, actor, action, target, detail)
SELECT :now_ms, node, tenant, :actor, :action, id,
    json_object('from', :from, 'to', :to, 'purge', purge)
FROM sandbox WHERE id = :id;
-- :audit_note  (id, actor, action, name, value, now_ms)
INSERT INTO audit (at_ms, node, tenant, actor, action, target, detail)
SELECT :now_ms, node, tenant, :actor, :action, id, json_object(:name, :value)
FROM sandbox WHERE id = :id;
-- :audit_process  (id, node, tenant, actor, action, process, remote, why, now_ms)
INSERT INTO audit (at_ms, node, tenant, actor, action, target, detail)
VALUES (:now_ms, :node, :tenant, :actor, :action, :id,
    json_object('process', :process, 'remote', :remote, 'why', :why));
