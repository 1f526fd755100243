# While an instance is suspended its clocks stand still.
chart   expense_report
person  ada     manager=bruno
person  bruno
person  dora    role:department_head

2026-03-02T09:00Z  ada       start amount=90 currency=EUR purpose="books"  -> draft
2026-03-02T09:00Z  ada       submit                 -> review, asks bruno, due 2026-03-04T09:00Z
2026-03-03T09:00Z  operator  suspend                -> review, suspended
2026-03-03T10:00Z  bruno     approve                -> rejected suspended
2026-03-10T09:00Z  clock                            -> review, suspended, asks bruno
2026-03-10T09:00Z  operator  resume                 -> review, waiting, due 2026-03-11T09:00Z
2026-03-11T09:00Z  clock                            -> review, asks department_head
2026-03-11T10:00Z  ada       withdraw               -> withdrawn, completed, asks nobody
