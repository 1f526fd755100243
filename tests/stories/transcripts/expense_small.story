# A small expense needs the manager alone, and nobody decides on their own.
chart   expense_report
person  ada     manager=bruno
person  bruno   role:department_head
person  dora    role:department_head role:director
person  fatima  role:finance

2026-03-02T09:00Z  ada     start amount=180 currency=EUR purpose="train to Vienna"  -> draft, waiting
2026-03-02T09:01Z  fatima  submit                   -> rejected not_allowed
2026-03-02T09:02Z  ada     approve                  -> rejected nothing_to_decide
2026-03-02T09:05Z  ada     submit                   -> review, asks bruno, due 2026-03-04T09:05Z
2026-03-02T10:30Z  ada     approve                  -> rejected not_an_approver
2026-03-02T10:31Z  fatima  approve                  -> rejected not_an_approver
2026-03-02T11:00Z  bruno   approve "fine by me"     -> paid, completed, asks nobody
2026-03-02T11:01Z  bruno   approve                  -> rejected instance_ended
