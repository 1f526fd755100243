"""Speaking to a running engine from outside, as `pliers demo` and `pliers replay` do: over HTTP, with a token.

`http` is a lean keep-alive client on asyncio streams (a general one took more CPU than the server it was to drive),
`api` names the few calls needed and repeats them safely, `server` runs a server as a process of its own.
"""
