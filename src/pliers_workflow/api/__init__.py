"""Who may ask: HTTP in front of the engine.

One mechanism carries every route: an endpoint is declared once (`endpoint.Routes`), with the types of its body, its query
and its answer and the permissions it wants; the dispatcher serves it and `openapi` describes it from that declaration,
so that the two cannot differ. Nothing in here decides anything about workflows: requests become commands or calls of a
service, and answers become JSON.
"""
