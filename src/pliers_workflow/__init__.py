"""The Pliers Workflow Engine: statecharts with approvals, kept in PostgreSQL.

*What* a workflow is (`definition`), *how* it moves (`interpreter`), *where* it is kept (`storage`), *when* it happens
(`runtime`), *who* may ask (`api`). Imports point up this list, never down.
"""

__version__ = "0.1.0"
