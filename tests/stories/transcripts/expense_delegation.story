# An approver passes the item on; the delegate decides in their place, and cannot pass it back.
chart   expense_report
person  ada     manager=bruno
person  bruno
person  carla
person  fatima  role:finance

2026-03-02T09:00Z  ada     start amount=400 currency=EUR purpose="client dinner"  -> draft
2026-03-02T09:05Z  ada     submit                   -> review, asks bruno
2026-03-02T09:30Z  bruno   delegate to=carla "on holiday"  -> review, asks carla
2026-03-02T09:31Z  bruno   approve                  -> rejected already_decided
2026-03-02T10:00Z  carla   delegate to=bruno        -> rejected delegation_loop
2026-03-02T10:30Z  carla   reject "no receipt"      -> state rejected, completed
