"""SQLite files of ours: opened, brought to the newest version, used. Imports nothing else of the server."""
