"""Bank account numbers as steps of a Pliers workflow."""
