"""Many nodes on one database: who is there, how they wake each other, and what they do together.

`registrar` keeps the rows of nodes; `wakeups` tells who waits on this node, `messenger` those on the others; `services` is what a
node starts and closes, `housekeeping` the upkeep that one of them does for all, `database_check` whether the database answers.
"""
