# Changes leave both reviews; what legal has cleared is not asked again where nothing it watches has changed.
chart   purchase_order
person  lena    manager=carla
person  carla
person  ivo     group:legal
person  kofi    role:purchasing
person  helena  role:controller

2026-03-02T09:00Z  lena    start supplier="Atelier Blanc" amount=7000 currency=EUR contract="prepaid"  -> draft
2026-03-02T09:05Z  lena    submit                   -> review, asks carla+legal
2026-03-02T10:00Z  ivo     approve "fine"           -> review, in legal_cleared+budget_review, asks carla
2026-03-02T11:00Z  carla   request_changes "too much" -> changes, asks nobody
2026-03-02T12:00Z  lena    edit amount=5000         -> changes
2026-03-02T12:01Z  lena    submit                   -> review, asks carla+legal
2026-03-02T12:30Z  lena    withdraw                 -> withdrawn, completed
