"""Plugins: found on this node, known of all nodes, and held against what a definition asks of them.

- `discovery`: what is installed here, and what of it is broken, with the reason.
- `registry`: `PluginRegistry`; every node says in the database which plugins it has, so that all know of all.
- `checking`: findings for a definition whose plugin steps cannot work.
- `calls`: running one in the event loop or in a thread.
- `process`: running a plugin in a process of its own.

Steps are run by `jobs.executors.plugin`. What authors use is `pliers_workflow.plugins`, which knows nothing of this.
"""
