-- An account may own keys. One that is removed leaves its keys, revoked, without an owner.
ALTER TABLE keys ADD COLUMN account INTEGER REFERENCES accounts (id) ON DELETE SET NULL;
CREATE INDEX keys_by_account ON keys (account, id);
