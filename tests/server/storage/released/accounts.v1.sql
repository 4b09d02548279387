BEGIN TRANSACTION;
CREATE TABLE keys (
                name TEXT PRIMARY KEY,   -- for ever: usage is counted by it
                created REAL NOT NULL,   -- seconds since 1970, as all times
                revoked REAL,            -- NULL: it is in force
                models TEXT,             -- JSON list; NULL: any
                requests_per_minute INTEGER,
                tokens_per_minute INTEGER,
                concurrent_requests INTEGER,
                tokens_per_day INTEGER,
                priority TEXT
            );
INSERT INTO "keys" VALUES('law-office',10.0,NULL,'["coe", "law"]',5,100,2,1000,'low');
INSERT INTO "keys" VALUES('any',11.0,20.0,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE secrets (
                digest BLOB PRIMARY KEY, -- SHA-256
                key TEXT NOT NULL REFERENCES keys (name),
                shown TEXT NOT NULL,     -- its beginning
                created REAL NOT NULL,
                expires REAL             -- NULL: never
            );
INSERT INTO "secrets" VALUES(X'3FA357E377C98713BAC7B236993AD5E17D9307451E50939C46A15B3057067A2E','law-office','sk-coe-01234567',10.0,NULL);
CREATE TABLE usage (
                day INTEGER NOT NULL,    -- days since 1970, of UTC
                key TEXT NOT NULL,
                expert TEXT NOT NULL,
                requests INTEGER NOT NULL,
                errors INTEGER NOT NULL,
                prompt_tokens INTEGER NOT NULL,
                completion_tokens INTEGER NOT NULL,
                cached_tokens INTEGER NOT NULL,
                PRIMARY KEY (day, key, expert)
            ) WITHOUT ROWID;
INSERT INTO "usage" VALUES(20000,'law-office','law',3,1,30,15,6);
COMMIT;
PRAGMA application_id = 1131365697;
PRAGMA user_version = 1;
