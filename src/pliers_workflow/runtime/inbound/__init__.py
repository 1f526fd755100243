"""Events from outside: each is kept, acts where it should, once, and waits for those who are not ready for it yet.

**Kept.** An event is a row before anybody answers for it (`inbox`), and its source and id are known from then on: what
comes again is a duplicate. A row that is still `received` when its node has died is taken up by another one.

**Matched.** What definitions listen for are rows too, written when a version is published (`listening`, `rules`); an event
finds them by its type, however many there are. Filters, conditions and keys are pure functions of the event (`matching`),
so whoever does it again comes to the same.

**Acts once.** A started instance has an id that follows from the event and the trigger; a command to a living instance
carries an idempotency key made of event, instance and trigger into its own commit (`delivering`). So everything here may
be repeated, by the same node or another, and nothing is done twice.

**Too early.** What no instance could take is written down under the key it carries (`waiting`). Whoever sends and whoever
begins to wait each look for the other *after* their own commit, so at least one of them sees the other; a slow sweep finds
what both have missed. Of several instances that begin to wait for such an event, one gets it.
"""
