# Who is in the role that is asked still cannot decide on their own request, neither themselves nor as a delegate.
chart   expense_report
person  bruno   manager=dora role:finance
person  dora
person  fatima  role:finance

2026-03-02T09:00Z  bruno   start amount=1800 currency=EUR purpose="new laptop"  -> draft
2026-03-02T09:05Z  bruno   submit                   -> review, asks dora
2026-03-02T09:30Z  dora    delegate to=bruno        -> rejected self_approval_forbidden
2026-03-02T10:00Z  dora    approve                  -> review, asks finance
2026-03-02T10:30Z  bruno   approve                  -> rejected self_approval_forbidden
2026-03-02T11:00Z  fatima  approve                  -> paid, completed
