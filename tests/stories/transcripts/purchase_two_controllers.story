# A large sum needs two different controllers, none of whom has decided before; no contract, nothing for legal to read.
chart   purchase_order
person  lena    manager=carla
person  carla   role:controller
person  helena  role:controller
person  gustav  role:controller
person  kofi    role:purchasing

2026-03-02T09:00Z  lena    start supplier="Copperfield Ltd" amount=65000 currency=EUR  -> draft
2026-03-02T09:05Z  lena    submit                   -> review, in legal_cleared+budget_review, asks carla
2026-03-02T10:00Z  carla   approve                  -> review, asks controller
2026-03-02T10:30Z  carla   approve                  -> rejected decided_in_other_stage
2026-03-02T11:00Z  helena  approve                  -> review, asks controller
2026-03-02T11:30Z  helena  approve                  -> rejected already_decided
2026-03-02T12:00Z  gustav  approve                  -> ordering
