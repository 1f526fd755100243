"""What the author of a plugin needs, and nothing of the engine's inside.

A plugin is a function, or a class with a method `run`, that is declared with an id and found by the engine through an entry
point of the group `pliers.plugins` whose name is that id. A step of the type `plugin` calls it.

    from pliers_workflow.plugins import Configuration, Context, Permanent, plugin

    class Limits(Configuration):
        countries: list[str] = []

    @plugin("acme.iban", title="Check an IBAN", version="1.0.0", timeout=5)
    def check(configuration: Limits, input: Account, context: Context) -> Checked: ...

What is here keeps its meaning within a major version of the engine. Source: the specification's "Plugin System
Integration", which names the step and leaves the plugin open.
"""

from __future__ import annotations

from .context import Context
from .declaring import GROUP, Configuration, DeclarationError, Isolation, Plugin, plugin
from .errors import Cancelled, Permanent, PluginFailure, Retryable

__all__ = [
    "GROUP",
    "Cancelled",
    "Configuration",
    "Context",
    "DeclarationError",
    "Isolation",
    "Permanent",
    "Plugin",
    "PluginFailure",
    "Retryable",
    "plugin",
]
