"""The control-flow patterns of the Workflow Patterns initiative (van der Aalst, ter Hofstede, Russell et al.), as tests.

Each test's docstring begins with the pattern's number and name, says what the pattern is, and the body is a small workflow
that has it. `docs/reference/control-flow-patterns.md` tells how each is written; a test holds the two in step.
"""
