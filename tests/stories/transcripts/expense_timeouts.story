# A manager who says nothing for two days is replaced; a review that nobody ends expires after two weeks.
chart   expense_report
person  ada     manager=bruno
person  bruno
person  dora    role:department_head
person  fatima  role:finance

2026-03-02T09:00Z  ada     start amount=1800 currency=EUR purpose="training course"  -> draft, due 2026-05-31T09:00Z
2026-03-02T09:00Z  ada     submit                   -> review, asks bruno, due 2026-03-04T09:00Z
2026-03-04T08:59Z  clock                            -> review, asks bruno
2026-03-04T09:00Z  clock                            -> review, asks department_head
2026-03-04T11:00Z  bruno   approve                  -> rejected not_an_approver
2026-03-04T11:30Z  dora    approve                  -> review, asks finance, due 2026-03-16T09:00Z
2026-03-16T09:00Z  clock                            -> expired, completed, asks nobody
2026-03-16T09:01Z  fatima  approve                  -> rejected instance_ended
