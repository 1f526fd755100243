"""Stories: transcripts that a process owner can check, told once to the bare interpreter and once to REST and PostgreSQL."""
