"""How a workflow moves: a pure function of chart, instance, command, facts and time."""
