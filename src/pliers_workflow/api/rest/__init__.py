"""The REST endpoints, one module for each subject; `wire` holds what they read and answer."""
