# Whatever was begun and never handed in expires after ninety days; what is handed in can be withdrawn.
chart   expense_report
person  ada     manager=bruno
person  bruno
person  fatima  role:finance

2026-03-02T09:00Z  ada     start amount=20 currency=EUR purpose="parking"  -> draft
2026-05-31T08:59Z  clock                            -> draft, waiting
2026-05-31T09:00Z  clock                            -> expired, completed
