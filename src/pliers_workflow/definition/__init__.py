"""What a workflow is: the JSON document as frozen types; reading it, checking it, compiling it to a `Chart`."""
