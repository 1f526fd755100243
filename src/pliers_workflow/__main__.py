"""`python -m pliers_workflow` is the command `pliers`."""

from pliers_workflow.cli import main

if __name__ == "__main__":
    main()
