"""The command `pliers`.

Here is only what typer needs to know: names, options, help. Each command imports what it runs when it runs, so that
`pliers --help` stays quick. Whatever goes wrong is a sentence on standard error and an exit status, never a traceback:
1 when the answer is no (findings, differences), 2 when the question could not be understood, 3 when the database or
the server cannot be used, 70 for a bug of ours.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pliers_workflow import __version__

app = typer.Typer(
    name="pliers",
    help="Workflows for form submissions and approvals, described in JSON, kept in PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
token_app = typer.Typer(help="Bearer tokens.", no_args_is_help=True, rich_markup_mode=None)
tenant_app = typer.Typer(help="Tenants.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(token_app, name="token")
app.add_typer(tenant_app, name="tenant")


class NodeRole(StrEnum):
    """Roles of a node, as `settings.NodeSettings` has them."""

    API = "api"
    WORKER = "worker"
    ALL = "all"


DatabaseUrl = Annotated[
    str,
    typer.Option(
        "--database-url",
        help="A PostgreSQL DSN. Default: the setting PLIERS_DATABASE__URL, else the embedded PostgreSQL.",
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the embedded PostgreSQL. Default: your data folder for `pliers`."),
]


# -- authors -----------------------------------------------------------------------------------------------------------


@app.command()
def validate(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A definition in JSON; `-` reads standard input.")],
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a definition: all findings at once. Exit status 1 when there is an error."""
    from .authoring import validate

    raise typer.Exit(validate(file, as_json=json))


@app.command()
def simulate(
    definition: Annotated[str, typer.Argument(metavar="DEFINITION", help="A definition in JSON.")],
    events: Annotated[
        str,
        typer.Argument(
            metavar="EVENTS",
            help='A JSON list of {"after"?: ms, "trigger": name, "data"?: {}, "user"?: id}; `-` reads standard input.',
        ),
    ],
    data: Annotated[str, typer.Option("--data", help="The instance data at the start: JSON, or @FILE.")] = "{}",
    user: Annotated[
        str,
        typer.Option("--user", help="Who starts it and is its requester. Default: whoever first fires a trigger."),
    ] = "",
    directory: Annotated[
        str,
        typer.Option(
            "--directory", help='Who there is: JSON or @FILE, {"users": [..], "roles": {..}, "groups": {..}}.'
        ),
    ] = "",
    steps: Annotated[
        str,
        typer.Option(
            "--steps", help='What steps give: JSON or @FILE, {"STEP": {"output": ..} or {"fail": "CODE"} or "wait"}.'
        ),
    ] = "",
) -> None:
    """Run a definition on a hand-moved clock: one line of JSON after the start and after each event.

    Triggers called approve, reject, request_changes and delegate are decisions while a stage is open, unless a
    transition of the chart takes a trigger of that name; complete, fail, receive, retry, skip and give_up tell of
    steps. An empty trigger only lets time pass.
    """
    from .authoring import simulate

    raise typer.Exit(simulate(definition, events, data=data, user=user, directory=directory, steps=steps))


@app.command()
def diagram(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A definition in JSON; `-` reads standard input.")],
) -> None:
    """Draw a definition's statechart in Mermaid."""
    from .authoring import diagram

    raise typer.Exit(diagram(file))


@app.command()
def plugins(
    id: Annotated[str, typer.Argument(metavar="[ID]", help="One plugin, with all that it says of itself.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the plugins that are installed on this machine. Exit status 1 when one is broken, or ID is not there.

    This is what a node that is started here would have; GET /api/v1/plugins tells of all nodes.
    """
    from .plugins import plugins

    raise typer.Exit(plugins(id, as_json=json))


# -- operators ---------------------------------------------------------------------------------------------------------


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on. Default: the setting PLIERS_SERVER__HOST.")] = "",
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one. Default: PLIERS_SERVER__PORT.", min=0, max=65535)
    ] = None,
    role: Annotated[
        NodeRole | None,
        typer.Option(
            help="What this node does: answer requests, do what is due, or both. Default: PLIERS_NODE__ROLE, else all."
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            help="Nodes on this one address, each a process of its own. Default: PLIERS_SERVER__PROCESSES, else 1.",
            min=1,
            max=64,
        ),
    ] = None,
    database_url: DatabaseUrl = "",
    data: DataFolder = None,
    migrate: Annotated[bool, typer.Option(help="Bring the schema up to date first.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but problems.")] = False,
) -> None:
    """Run a node, or several, until told to stop: finish what has begun first, or, told twice, stop at once."""
    from .serving import serve

    raise typer.Exit(
        serve(
            host=host,
            port=port,
            role=role.value if role else None,
            processes=processes,
            database_url=database_url,
            data=data,
            migrate=migrate,
            quiet=quiet,
        )
    )


@app.command()
def migrate(
    database_url: DatabaseUrl = "",
    data: DataFolder = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be applied.")] = False,
) -> None:
    """Bring the database's schema up to date."""
    from .serving import migrate

    raise typer.Exit(migrate(database_url=database_url, data=data, dry_run=dry_run))


@token_app.command("create")
def token_create(
    user: Annotated[str, typer.Option("--user", help="Username; made if there is none.")],
    permission: Annotated[
        list[str] | None,
        typer.Option(
            "--permission", help="author, publisher, operator, auditor, events, worker or admin; may be repeated."
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What the token is for.")] = "made on the command line",
    tenant: Annotated[str, typer.Option("--tenant")] = "default",
    expires_days: Annotated[int, typer.Option("--expires-days", help="0: never.")] = 0,
    database_url: DatabaseUrl = "",
    data: DataFolder = None,
) -> None:
    """Make a bearer token and print it; it is not shown again."""
    from .serving import create_token

    raise typer.Exit(
        create_token(
            user=user, permissions=permission or [], name=name, tenant=tenant, expires_days=expires_days,
            database_url=database_url, data=data,
        )
    )  # fmt: skip


@tenant_app.command("create")
def tenant_create(
    tenant: Annotated[str, typer.Argument(metavar="ID", help="Lower-case letters, digits, `-` and `_`.")],
    name: Annotated[str, typer.Option("--name", help="Its name for people. Default: the id.")] = "",
    virtual: Annotated[bool, typer.Option("--virtual", help="Its clock is moved through the API, for tests.")] = False,
    database_url: DatabaseUrl = "",
    data: DataFolder = None,
) -> None:
    """Make a tenant and print a token for its first administrator; it is not shown again."""
    from .serving import create_tenant

    raise typer.Exit(
        create_tenant(tenant=tenant, name=name or tenant, virtual=virtual, database_url=database_url, data=data)
    )


# -- everybody ---------------------------------------------------------------------------------------------------------


@app.command()
def demo(
    exit: Annotated[bool, typer.Option("--exit", help="Stop everything when the summary has been printed.")] = False,
    submissions: Annotated[
        int, typer.Option("--submissions", min=1, max=100_000, help="How many to push through.")
    ] = 300,
    port: Annotated[
        int, typer.Option("--port", help="Where to listen; the next free port if it is busy.", min=0, max=65535)
    ] = 8080,
    database_url: DatabaseUrl = "",
    data: Annotated[Path, typer.Option("--data", help="Where the demo keeps its database.")] = Path(".pliers"),
) -> None:
    """Everything at once: PostgreSQL, examples, people, approvals; then a server to look around in."""
    from pliers_workflow.demo import demo

    raise typer.Exit(demo(exit_after=exit, submissions=submissions, port=port, database_url=database_url, folder=data))


@app.command()
def replay(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Cases as JSON lines, gzipped or not.")],
    expected: Annotated[Path, typer.Option("--expected", help="The table and the outcomes, in JSON.")],
    url: Annotated[str, typer.Option("--url", help="A running server; default: one is started for this.")] = "",
    token: Annotated[str, typer.Option("--token", help="With --url: a token with the permission admin.")] = "",
    callers: Annotated[int, typer.Option("--callers", min=1, max=512, help="Cases replayed at the same time.")] = 24,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Only so many cases; 0: all.")] = 0,
    kill_every: Annotated[
        float, typer.Option("--kill-every", min=0, help="kill -9 the server every so many seconds, and start it again.")
    ] = 0,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare every case's history with what was acknowledged.")
    ] = False,
    whole_cases: Annotated[
        bool,
        typer.Option(
            "--whole-cases",
            help="Trip, permit and declaration of each case together, on a virtual clock, instead of each document alone.",
        ),
    ] = False,
    database_url: DatabaseUrl = "",
) -> None:
    """Replay real cases through REST, every decision by a user with that role, and compare each outcome."""
    from pliers_workflow.replay.command import replay

    raise typer.Exit(
        replay(
            log, expected, url=url, token=token, callers=callers, limit=limit, kill_every=kill_every,
            verify=verify or kill_every > 0, whole=whole_cases, database_url=database_url,
        )
    )  # fmt: skip


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if show_version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> NoReturn:
    """The entry point: run a command, and say in a sentence what went wrong."""
    from .problems import Problem, explain

    try:
        try:
            app(standalone_mode=True)
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # typer makes a 1 of it
                raise end.__context__ from None
            raise
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a reader who has gone is no trouble
    except Problem as problem:
        print(f"pliers: {problem}", file=sys.stderr)
        sys.exit(problem.status)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read us (`| head`) has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if os.environ.get("PLIERS_DEBUG"):
            raise
        sentence, status = explain(error)
        print(f"pliers: {sentence}", file=sys.stderr)
        sys.exit(status)
    sys.exit(0)
