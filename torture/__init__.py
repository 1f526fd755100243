"""The torture test: whether the engine keeps its promise while everything around it breaks.

`make torture SEEDS="1 2" SECONDS_EACH=60`. Each seed gets a PostgreSQL of its own (the embedded one, in a folder and on a
port of its own), three nodes (`pliers serve`, a process each), and a load of workflows through REST. While the load runs,
nodes are killed, frozen, drained and started again, connections are cut and PostgreSQL is shut down at once; whoever gets
no answer asks again, at any node, under the same `Idempotency-Key`. Then everything is brought up, the instances come to
rest, and what stands in the database is held against what was acknowledged and against a model.

| file | its job |
| --- | --- |
| `cluster` | PostgreSQL and the nodes: up, down, killed |
| `chaos` | what breaks, and when |
| `caller` | calls that are repeated until they are answered, and the record of them |
| `outside` | a web service that steps call, and that cannot be relied on |
| `workflows/` | one file a workflow: its document, its model, and what its people do |
| `model` | what every model shares: clocks, suspending, cancelling |
| `histories` | reading what the database says happened |
| `laws` | what must hold whatever the workflow: chains, folding, jobs, work items |
| `review` | all of it, instance by instance, and what shows only in the whole |
| `judge` | one instance's history against its model and against the answers its callers got |
| `logs` | what the nodes said, and which of it may not be said |
| `run` | one seed from start to verdict |

Every choice comes from the seed: load and chaos draw from generators of their own, and each caller from its own, so what
a workflow does depends on the seed and its number alone. Timing is real, so two runs of a seed are alike and not equal.
All traffic stays on 127.0.0.1, and what was started is stopped, by its process id.
"""
