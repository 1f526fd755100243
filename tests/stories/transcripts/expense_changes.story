# Finance wants something changed; afterwards only those are asked again whose fields have changed.
chart   expense_report
person  ada     manager=bruno
person  bruno
person  dora    role:department_head
person  fatima  role:finance

2026-03-02T09:00Z  ada     start amount=1800 currency=EUR purpose="conference in Lyon" cost_center=CC-1  -> draft
2026-03-02T09:05Z  ada     submit                   -> review, asks bruno
2026-03-02T09:06Z  ada     edit amount=1            -> rejected data_locked
2026-03-02T10:00Z  bruno   approve                  -> review, asks finance
2026-03-02T11:00Z  fatima  request_changes "wrong cost center"  -> changes, waiting, asks nobody
2026-03-03T08:00Z  fatima  edit cost_center=CC-9    -> rejected not_allowed
2026-03-03T08:30Z  ada     edit cost_center=CC-2    -> changes
2026-03-03T08:31Z  ada     submit                   -> review, asks finance
2026-03-03T09:00Z  fatima  request_changes "and the amount is gross"  -> changes
2026-03-03T09:30Z  ada     edit amount=1500         -> changes, data amount=1500
2026-03-03T09:31Z  ada     submit                   -> review, asks bruno
2026-03-03T10:00Z  bruno   approve                  -> review, asks finance
2026-03-03T11:00Z  fatima  approve                  -> paid, completed
