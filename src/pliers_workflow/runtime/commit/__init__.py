"""The commit of batches: commands that arrive together are interpreted together and written in one statement.

`pipeline` is the loop, `queue` what waits for it; `fold` is one instance with its commands of a batch, `recent` those that this
node left as they still are. What a batch needs besides is in `sources` and `facts`; what is too much for it goes `aside`, and is
interpreted `solo` in a process of its own. `history` is the chained record of every command. `collector` sets Python's
garbage collector for all of it.
"""
