-- A process that is tied ends when nobody follows it any longer.
ALTER TABLE process ADD COLUMN tied INTEGER NOT NULL DEFAULT 0 CHECK (tied IN (0, 1));
