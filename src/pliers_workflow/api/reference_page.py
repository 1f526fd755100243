"""The reference to read in a browser: the OpenAPI document as one page, without scripts and without the network.

Tools take `/openapi.json`; people who only want to look something up take this, also where nothing outside can be reached.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from typing import Any, Final

from .examples import curl

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b2330; --soft: #5b6675; --line: #dfe4ea; --paper: #fff; --tint: #f5f7fa;
  --get: #0b6e4f; --post: #1c54b2; --put: #8a5a00; --patch: #6b3fa0; --delete: #a4262c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9f0; --soft: #9aa7b8; --line: #2c3542; --paper: #141a22; --tint: #1b232d;
  --get: #4cc79a; --post: #7fb0ff; --put: #e0b050; --patch: #c09bf0; --delete: #ff8a8f; } }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
.page { display: grid; grid-template-columns: 19rem minmax(0, 1fr); }
a { color: var(--post); }
a:focus-visible, summary:focus-visible, input:focus-visible + label { outline: 2px solid var(--post); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -99rem; } .skip:focus { left: 1rem; top: .5rem; z-index: 1; background: var(--paper); padding: .3rem .6rem; }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.25rem 1rem; border-right: 1px solid var(--line);
  background: var(--tint); font-size: 13px; }
nav h2 { font-size: 12px; margin: 1.1rem 0 .3rem; color: var(--soft); text-transform: uppercase; letter-spacing: .05em; }
nav h2 a { display: block; padding: 0; }
.toggle, nav label { position: absolute; left: -99rem; }
nav .ends { display: inline; }
nav .ends:hover { text-decoration: underline; }
nav a { display: grid; grid-template-columns: 3.6rem 1fr; align-items: baseline; color: inherit; text-decoration: none; padding: .12rem .3rem; border-radius: 4px; }
nav a:hover, nav a:focus-visible { background: var(--line); }
main { padding: 2rem 2.5rem 5rem; max-width: 64rem; }
h1 { font-size: 1.7rem; margin: 0 0 .5rem; } h2.tag { margin: 3rem 0 .2rem; font-size: 1.35rem; }
section { border-top: 1px solid var(--line); padding: 1.4rem 0 .6rem; scroll-margin-top: 1rem; }
h3 a { color: inherit; text-decoration: none; } h3 a:hover::after { content: " #"; color: var(--soft); }
section:target { border-top-color: var(--post); }
h3 { margin: 0 0 .3rem; font-size: 1.05rem; } h4 { margin: 1rem 0 .3rem; font-size: .85rem; color: var(--soft); }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .88em; }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; }
.address { font-size: .95em; } .verb { font-weight: 700; font-size: .78em; letter-spacing: .03em; }
.get { color: var(--get); } .post { color: var(--post); } .put { color: var(--put); } .patch { color: var(--patch); }
.delete { color: var(--delete); }
table { border-collapse: collapse; width: 100%; font-size: .92em; }
td, th { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); font-size: .85em; } td:first-child { white-space: nowrap; }
details { margin: .3rem 0; } summary { cursor: pointer; color: var(--soft); } .soft { color: var(--soft); }
details details { margin-left: 1.2rem; }
.address code { overflow-wrap: anywhere; }
@media (max-width: 60rem) {
  .page { grid-template-columns: minmax(0, 1fr); }
  nav { position: static; height: auto; border-right: 0; border-bottom: 1px solid var(--line); }
  nav label { position: static; display: inline-block; cursor: pointer; padding: .35rem .8rem; border: 1px solid var(--line);
    border-radius: 6px; background: var(--paper); font-size: 14px; }
  .index { display: none; } .toggle:checked ~ .index { display: block; }
  nav a { padding: .35rem .3rem; }
  main { padding: 1.25rem 1rem 4rem; }
  details details { margin-left: .5rem; }
}
@media (max-width: 40rem) {
  tr:has(> th) { display: none; } tr { display: block; padding: .35rem 0; border-bottom: 1px solid var(--line); }
  td, td:first-child { display: inline-block; padding: 0 .5rem 0 0; border: 0; white-space: normal; overflow-wrap: anywhere; }
  td:last-child { display: block; }
}
@media print { nav { display: none; } .page { display: block; } }
"""


_BEGIN: Final = """\
<h2 class=tag id=begin>Try it</h2>
<p>Each endpoint below comes with a command. They need two words; the token was printed when the server was first started,
and <code>pliers token create</code> makes others. Where a command says <code>$INSTANCE</code> or the like, put the id
from an earlier answer.</p>
<pre>URL=http://127.0.0.1:8080      # where this page comes from
TOKEN=pliers_…
curl -H "Authorization: Bearer $TOKEN" $URL/api/v1/me</pre>
<p>The definition in <code>expense_report.json</code> is one of the examples that come with the engine.</p>
"""


def reference_page(document: Mapping[str, Any]) -> str:
    """The whole page as HTML."""
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = document["components"]["schemas"]
    navigation: list[str] = []
    content: list[str] = []
    for tag in document["tags"]:
        own = [each for each in operations if tag["name"] in each[2]["tags"]]
        anchor = tag["name"].lower().replace(" ", "-")
        navigation.append(f'<h2><a href="#{anchor}">{escape(tag["name"])}</a></h2>')
        content.append(
            f'<h2 class=tag id="{anchor}">{escape(tag["name"])}</h2><p class=soft>{escape(tag["description"])}</p>'
        )
        for path, method, operation in own:
            navigation.append(
                f'<a href="#{operation["operationId"]}"><span class="verb {method}">{method.upper()}</span>'
                f"<span>{escape(operation['summary'])}</span></a>"
            )
            content.append(_operation(path, method, operation, document, schemas))
    info = document["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}: API reference</title><style>{_STYLE}</style></head><body><div class=page>"
        '<a class=skip href="#start">To the text</a>'
        f'<nav aria-label="Endpoints"><strong>{escape(info["title"])}</strong>'
        f'<p class=soft>{escape(info["version"])} · <a class=ends href="/openapi.json">openapi.json</a></p>'
        # a box to tick, because a page without scripts has no other way to fold the index on a telephone
        "<input type=checkbox id=toggle class=toggle><label for=toggle>Index of endpoints</label>"
        f"<div class=index>{''.join(navigation)}</div></nav>"
        f"<main id=start><h1>API reference</h1>{_text(info['description'])}{_BEGIN}{''.join(content)}</main>"
        "</div></body></html>"
    )


def _operation(
    path: str, method: str, operation: Mapping[str, Any], document: Mapping[str, Any], schemas: Mapping[str, Any]
) -> str:
    parts = [
        f'<section id="{operation["operationId"]}"><h3><a href="#{operation["operationId"]}">{escape(operation["summary"])}</a></h3>'
        f'<p class=address><span class="verb {method}">{method.upper()}</span> <code>{escape(path)}</code></p>',
        _text(operation["description"]),
        f"<pre>{escape(curl(path, method, operation), quote=False)}</pre>",
    ]
    parameters = [_resolved(parameter, document) for parameter in operation.get("parameters", ())]
    if parameters:
        rows = "".join(
            f"<tr><td><code>{escape(each['name'])}</code></td><td class=soft>{each['in']}</td>"
            f"<td>{_kind(each['schema'])}</td><td>{_inline(each.get('description', ''))}</td></tr>"
            for each in parameters
        )
        parts.append(f"<h4>Parameters</h4><table><tr><th>Name<th>In<th>Value<th>Meaning</tr>{rows}</table>")
    body = operation.get("requestBody")
    if body:
        schema = next(iter(body["content"].values()))["schema"]
        parts.append(f"<h4>Body{'' if body['required'] else ' (may be left out)'}</h4>{_schema(schema, schemas)}")
    for status, response in operation["responses"].items():
        if status.startswith("2") and "application/json" in response.get("content", {}):
            schema = response["content"]["application/json"]["schema"]
            parts.append(f"<details><summary>Answer {status}</summary>{_schema(schema, schemas)}</details>")
        elif status.startswith("2"):
            parts.append(f"<p class=soft>Answer {status}: no content.</p>")
        elif status.startswith("3"):
            parts.append(f"<p class=soft>Answer {status}: {_inline(response['description'])}</p>")
    problems = "".join(
        f"<tr><td>{status}</td><td>{_list(response['description'])}</td></tr>"
        for status, response in operation["responses"].items()
        if status[0] in "45"
    )
    parts.append(
        f"<details><summary>Problems</summary><table><tr><th>Status<th>Codes</tr>{problems}</table></details></section>"
    )
    return "".join(parts)


def _resolved(value: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in value:
        return value
    found: Any = document
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    resolved: Mapping[str, Any] = found
    return resolved


def _schema(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> str:
    """A schema as a table of its fields; parts that are objects open on demand, four levels deep."""
    if "anyOf" in schema:
        kinds = [branch for branch in schema["anyOf"] if _has_fields(branch, schemas)]
        if len(kinds) > 1:
            return "".join(f"<p>{_kind(branch)}:</p>{_schema(branch, schemas, depth)}" for branch in kinds)
        return "".join(_schema(branch, schemas, depth) for branch in kinds)
    name = ""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        schema = schemas[name]
    if schema.get("type") == "array":
        return _schema(schema.get("items", {}), schemas, depth)
    fields = schema.get("properties")
    if not fields:
        return f"<p>{_kind(schema)}</p>" if depth == 0 else ""
    required = schema.get("required", ())
    rows = []
    for field, part in fields.items():
        inside = _schema(part, schemas, depth + 1) if depth < 3 and _has_fields(part, schemas) else ""
        meaning = _inline(part.get("description", ""))
        if inside:
            meaning += f"<details><summary>fields</summary>{inside}</details>"
        mark = " <span class=soft>required</span>" if field in required and "default" not in part and depth >= 0 else ""
        rows.append(f"<tr><td><code>{escape(field)}</code></td><td>{_kind(part)}{mark}</td><td>{meaning}</td></tr>")
    about = f"<p class=soft>{_inline(schema.get('description', '').splitlines()[0] if schema.get('description') else '')}</p>"
    return f"{about}<table><tr><th>Field<th>Value<th>Meaning</tr>{''.join(rows)}</table>"


def _has_fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> bool:
    for branch in schema.get("anyOf", (schema,)):
        target = schemas[branch["$ref"].rsplit("/", 1)[1]] if "$ref" in branch else branch
        if target.get("properties"):
            return True
        if target.get("type") == "array" and _has_fields(target.get("items", {}), schemas):
            return True
    return False


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in a word or two."""
    if "anyOf" in schema or "oneOf" in schema:
        branches = schema.get("anyOf") or schema["oneOf"]
        return " or ".join(dict.fromkeys(_kind(branch) for branch in branches))
    if "$ref" in schema:
        return f"<em>{escape(schema['$ref'].rsplit('/', 1)[1].removeprefix('WorkflowDefinition.'))}</em>"
    if "enum" in schema:
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    word = str(schema.get("format") or kind)
    limits = [
        f"{sign} {schema[name]}"
        for name, sign in (("minimum", "≥"), ("maximum", "≤"), ("maxLength", "at most"), ("maxItems", "at most"))
        if name in schema
    ]
    default = (
        f", default <code>{escape(json.dumps(schema['default']))}</code>" if schema.get("default") is not None else ""
    )
    return escape(word) + (f" <span class=soft>{escape(', '.join(limits))}</span>" if limits else "") + default


def _text(markdown: str) -> str:
    return "".join(f"<p>{_inline(paragraph)}</p>" for paragraph in markdown.strip().split("\n\n"))


def _list(markdown: str) -> str:
    return "<br>".join(_inline(line.removeprefix("- ")) for line in markdown.splitlines())


def _inline(text: str) -> str:
    """The little Markdown that descriptions use: code and strong."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", marked)
