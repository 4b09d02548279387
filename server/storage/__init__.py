"""SQLite files of ours: opened, brought to the newest version, used.

May import nothing else of the server.
"""
