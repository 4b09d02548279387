BEGIN TRANSACTION;
CREATE TABLE decisions (
                id TEXT NOT NULL,          -- of the request, as x-request-id says it
                client BLOB NOT NULL,      -- keyed hash of its owner: the name of the API key it came with
                at REAL NOT NULL,          -- seconds since 1970
                composition TEXT NOT NULL,
                category TEXT NOT NULL,
                cluster TEXT NOT NULL,
                confidence REAL NOT NULL,
                uncertain INTEGER NOT NULL,
                expert TEXT NOT NULL,
                prompt TEXT,               -- redacted; NULL where feedback.prompts is hash
                digest BLOB NOT NULL,      -- keyed hash of the redacted prompt
                outcome TEXT,              -- HTTP status or client_left; NULL until it ended
                score REAL,
                correction TEXT,
                PRIMARY KEY (client, id)
            );
INSERT INTO "decisions" VALUES('r',X'5FB2E7D4A2B447A6FAAA266738DCCD05B524C0FE4C03E263B0CF8E0F61309CB0',1000.0,'coe','law','law/2',0.9,0,'law','what is a tort',X'E8ABE38253C3946CDAA2B2BE0E64871F8E179B14683483F90E0AC3C08D404054',NULL,0.5,'math');
CREATE TABLE salt (value BLOB NOT NULL);
INSERT INTO "salt" VALUES(X'43104809233470CC17CE163E53EDC5090C934C20577E6FF84DB592DE0C04F1FE');
CREATE INDEX by_time ON decisions (at);
COMMIT;
PRAGMA application_id = 1131365702;
PRAGMA user_version = 1;
