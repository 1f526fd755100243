"""Work that is due later or done elsewhere: rows of `workflow_jobs`, claimed under a lease and settled in a commit.

A job is written with the batch that owes it, and dropped with the batch that applies what came of it. In between somebody
claims it: for so long (`lease_until`) it is theirs, and the fencing token tells their claim from all others. No claim
changes an indexed column, and every claim begins at a watermark, so that claims cost the same after a million jobs.

- `payloads`: what the rows say.
- `service`: `JobService`, for jobs that the engine serves itself, by kind: `timers`, `orders` and starts of sub-workflows,
  many `incidents` resolved at once, `departures` of people who are asked.
- `lanes`, `claims`: steps, claimed by queue; tenants take turns, and within a tenant definitions do.
"""
