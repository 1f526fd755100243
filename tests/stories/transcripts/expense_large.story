# A large expense goes up to the director, who has to say why; whoever decided before does not decide again.
chart   expense_report
person  ada     manager=bruno
person  bruno   role:director
person  dora    role:director
person  fatima  role:finance

2026-03-02T09:00Z  ada     start amount=12500.50 currency=EUR purpose="trade fair stand"  -> draft
2026-03-02T09:05Z  ada     submit                   -> review, asks bruno
2026-03-02T10:00Z  bruno   approve                  -> review, asks finance
2026-03-02T11:00Z  fatima  approve                  -> review, asks director
2026-03-02T12:00Z  bruno   approve "agreed"         -> rejected decided_in_other_stage
2026-03-02T12:30Z  dora    approve                  -> rejected comments_required
2026-03-02T13:00Z  dora    approve "within the budget of the fair"  -> paid, completed
