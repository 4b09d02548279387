BEGIN TRANSACTION;
CREATE TABLE batches (
                number INTEGER PRIMARY KEY AUTOINCREMENT,
                id TEXT NOT NULL UNIQUE,
                owner TEXT NOT NULL,
                input_file_id TEXT NOT NULL,
                ended_at INTEGER,              -- NULL until it has ended
                record TEXT NOT NULL           -- a BatchRecord, JSON
            );
INSERT INTO "batches" VALUES(1,'batch_1','key app','file-in',NULL,'{"id":"batch_1","owner":"key app","key":"app","endpoint":"/v1/chat/completions","input_file_id":"file-in","created_at":1000,"expires_at":87400,"answers_id":"file-answers","failures_id":"file-failures","keep_answers_s":2592000,"metadata":{"a":"b"},"status":"in_progress","in_progress_at":1001,"finalizing_at":null,"completed_at":null,"failed_at":null,"expired_at":null,"cancelling_at":null,"cancelled_at":null,"output_file_id":null,"error_file_id":null,"errors":[],"model":"law","counts":{"total":3,"completed":1,"failed":1,"tokens":{"input":7,"cached":1,"output":5,"reasoning":0}}}');
CREATE TABLE files (
                number INTEGER PRIMARY KEY AUTOINCREMENT,
                id TEXT NOT NULL UNIQUE,
                owner TEXT NOT NULL,           -- see owner_of
                filename TEXT NOT NULL,
                purpose TEXT NOT NULL,
                bytes INTEGER NOT NULL,
                created_at INTEGER NOT NULL,   -- seconds since 1970
                expires_at INTEGER NOT NULL
            );
INSERT INTO "files" VALUES(1,'file-in','key app','in.jsonl','batch',7,1000,100000000000);
INSERT INTO "files" VALUES(2,'file-out','key app','out.jsonl','batch',7,1000,100000000000);
CREATE INDEX files_of ON files (owner, number);
CREATE INDEX batches_of ON batches (owner, number);
CREATE INDEX unfinished ON batches (number) WHERE ended_at IS NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('files',2);
INSERT INTO "sqlite_sequence" VALUES('batches',1);
COMMIT;
PRAGMA application_id = 1131365698;
PRAGMA user_version = 1;
