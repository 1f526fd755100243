# One rejection ends both reviews; what the other side was asked is taken back.
chart   purchase_order
person  lena    manager=carla
person  carla
person  ivo     group:legal
person  kofi    role:purchasing
person  helena  role:controller

2026-03-02T09:00Z  lena    start supplier="Soluna Systems" amount=900 currency=EUR contract="liability unlimited"  -> draft
2026-03-02T09:05Z  lena    submit                   -> review, in legal_review+budget_review, asks carla+legal
2026-03-12T09:05Z  clock                            -> review, asks carla+legal
2026-03-12T10:00Z  ivo     reject "unlimited liability"  -> state rejected, completed, asks nobody
2026-03-12T10:01Z  carla   approve                  -> rejected instance_ended
