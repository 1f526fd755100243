# Legal and finance look at it side by side; when both are through, purchasing places the order.
chart   purchase_order
person  lena    manager=carla
person  carla
person  ivo     group:legal
person  jana    group:legal
person  kofi    role:purchasing
person  helena  role:controller

2026-03-02T09:00Z  lena    start supplier="Nordlicht GmbH" amount=4200 currency=EUR contract="net 60 days" budget_owner=carla  -> draft
2026-03-02T09:05Z  lena    submit                   -> review, in legal_review+budget_review, asks carla+legal
2026-03-02T10:00Z  ivo     approve                  -> rejected comments_required
2026-03-02T10:01Z  ivo     approve "standard enough"  -> review, in legal_cleared+budget_review, asks carla
2026-03-02T10:30Z  kofi    order order_number=PO-1  -> rejected not_allowed
2026-03-02T11:00Z  carla   approve                  -> ordering, waiting, asks nobody
2026-03-02T11:30Z  lena    order order_number=PO-1  -> rejected not_allowed
2026-03-02T11:45Z  kofi    order                    -> rejected guard_failed
2026-03-02T12:00Z  kofi    order order_number=PO-1  -> ordered, completed, data order_number=PO-1
