"""Documentation that cannot rot: pages are compared with the code, and what they tell people to run is run."""
