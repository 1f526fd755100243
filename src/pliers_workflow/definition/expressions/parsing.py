"""From text to syntax tree: the grammar of `cel.lark`, and one callback for each of its rules.

lark's LALR parser and its non-recursive transformer keep their own stacks, so no input, however deep, makes Python
recurse here; depth is counted as nodes are made and refused beyond `DEPTH_MAX`, which protects everyone who walks the
tree.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any, Final, NoReturn

from lark import Lark, Token, UnexpectedCharacters, UnexpectedInput, UnexpectedToken, v_args
from lark.exceptions import VisitError
from lark.tree import Meta
from lark.visitors import Transformer_NonRecursive

from .errors import ExpressionSyntaxError
from .syntax import (
    Binary,
    Bind,
    Call,
    Comprehension,
    Conditional,
    Element,
    Has,
    Identifier,
    Index,
    ListLiteral,
    Literal,
    Logic,
    MapLiteral,
    Negate,
    Node,
    Not,
    OptionalMap,
    Select,
)
from .values import INT_MAX, UInt

#: Characters; the document says the same of its expressions.
SOURCE_MAX: Final = 4_000
#: Levels. Python's recursion limit is 1000, and callers need their share.
DEPTH_MAX: Final = 100

_RESERVED: Final = frozenset(
    "as break const continue else for function if import let loop namespace package return var void while".split()  # reads as CEL's page does
)
_COMPREHENSIONS: Final = frozenset({"all", "exists", "exists_one", "existsOne", "filter", "map"})

#: What people wrote, and what they get told.
_HINTS: Final = {
    "=": "write == to compare",
    "&": "write && for and",
    "|": "write || for or",
    "and": "write && for and",
    "or": "write || for or",
    "not": "write ! for not",
    "is": "write == to compare",
}


def parse(source: str) -> Node:
    """The syntax tree of `source`; raises `ExpressionSyntaxError`, and nothing else, for text that has none."""
    if len(source) > SOURCE_MAX:
        raise ExpressionSyntaxError(
            f"the expression has {len(source)} characters, at most {SOURCE_MAX} are allowed; split it up"
        )
    if not source.strip():
        raise ExpressionSyntaxError("the expression is empty")
    try:
        tree = _BUILDER.transform(_parser().parse(source))
    except UnexpectedInput as error:
        raise _explained(error, source) from None
    except VisitError as error:
        refused = error.orig_exc
        if not isinstance(refused, ExpressionSyntaxError):
            raise refused from error
        raise ExpressionSyntaxError(str(refused), refused.position, source) from None
    assert isinstance(tree, Node)
    return tree


def _explained(error: UnexpectedInput, source: str) -> ExpressionSyntaxError:
    position = error.pos_in_stream if error.pos_in_stream is not None else len(source)
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        found = str(error.token)
        if error.token.type == "IDENT" and found in _HINTS:
            return ExpressionSyntaxError(f"unexpected {found!r}; {_HINTS[found]}", position, source)
        return ExpressionSyntaxError(f"unexpected {found!r}", position, source)
    if isinstance(error, UnexpectedCharacters) and position < len(source):
        found = source[position]
        if found in "\"'`":
            return ExpressionSyntaxError(f"the text that begins with {found} is not closed", position, source)
        hint = f"; {_HINTS[found]}" if found in _HINTS else ""
        return ExpressionSyntaxError(f"unexpected {found!r}{hint}", position, source)
    return ExpressionSyntaxError("the expression ends too early", len(source), source)


def _refuse(message: str, position: int) -> NoReturn:
    raise ExpressionSyntaxError(message, position)


@v_args(meta=True, inline=True)
class Builder(Transformer_NonRecursive[Token, Node]):
    """One method for each alias of the grammar; each makes one node."""

    def _node(self, kind: type[Node], meta: Meta, below: tuple[Node, ...], *fields: Any) -> Node:
        return self._place(kind, meta.start_pos, meta.end_pos, below, *fields)

    def _place(self, kind: type[Node], start: int, end: int, below: tuple[Node, ...], *fields: Any) -> Node:
        depth = 1
        for node in below:
            if node.depth >= depth:
                depth = node.depth + 1
        if depth > DEPTH_MAX:
            _refuse(f"the expression is nested more than {DEPTH_MAX} levels deep; split it up", start)
        return kind(start, end, depth, *fields)

    # -- literals ------------------------------------------------------------------------------------------------------

    def int(self, meta: Meta, token: Token) -> Node:
        value = _integer(token, meta.start_pos)
        # one more than fits: the operand of `-9223372036854775808`; the compiler refuses it anywhere else
        if value > INT_MAX + 1:
            _refuse(f"the integer {token} does not fit into 64 bits", meta.start_pos)
        return self._node(Literal, meta, (), value)

    def uint(self, meta: Meta, token: Token) -> Node:
        value = _integer(token[:-1], meta.start_pos)
        if value >= 2**64:
            _refuse(f"the unsigned integer {token} does not fit into 64 bits", meta.start_pos)
        return self._node(Literal, meta, (), UInt(value))

    def float(self, meta: Meta, token: Token) -> Node:
        value = Decimal(token)
        if len(value.as_tuple().digits) > 60 or not -6000 < value.adjusted() < 6000:
            _refuse(f"the number {token[:40]}… has too many digits", meta.start_pos)
        return self._node(Literal, meta, (), value)

    def string(self, meta: Meta, token: Token) -> Node:
        return self._node(Literal, meta, (), _unquote(str(token), meta.start_pos))

    def bytes(self, meta: Meta, token: Token) -> Node:
        return self._node(Literal, meta, (), _unquote_bytes(str(token), meta.start_pos))

    def true(self, meta: Meta, token: Token) -> Node:
        return self._node(Literal, meta, (), True)

    def false(self, meta: Meta, token: Token) -> Node:
        return self._node(Literal, meta, (), False)

    def null(self, meta: Meta, token: Token) -> Node:
        return self._node(Literal, meta, (), None)

    # -- operators -----------------------------------------------------------------------------------------------------

    def conditional(self, meta: Meta, condition: Node, then: Node, otherwise: Node) -> Node:
        return self._node(Conditional, meta, (condition, then, otherwise), condition, then, otherwise)

    def disjunction(self, meta: Meta, left: Node, right: Node) -> Node:
        return self._logic(meta, "||", left, right)

    def conjunction(self, meta: Meta, left: Node, right: Node) -> Node:
        return self._logic(meta, "&&", left, right)

    def _logic(self, meta: Meta, operator: str, left: Node, right: Node) -> Node:
        if isinstance(left, Logic) and left.operator == operator:
            depth = max(left.depth, right.depth + 1)
            if depth > DEPTH_MAX:
                _refuse(f"the expression is nested more than {DEPTH_MAX} levels deep; split it up", meta.start_pos)
            return Logic(meta.start_pos, meta.end_pos, depth, left.operator, (*left.operands, right))
        return self._node(Logic, meta, (left, right), operator, (left, right))

    def binary(self, meta: Meta, left: Node, operator: Token, right: Node) -> Node:
        return self._node(Binary, meta, (left, right), str(operator), left, right)

    def negation(self, meta: Meta, operator: Token, operand: Node) -> Node:
        return self._node(Not, meta, (operand,), operand)

    def minus(self, meta: Meta, operator: Token, operand: Node) -> Node:
        if isinstance(operand, Literal) and type(operand.value) in (int, Decimal) and operand.value > 0:
            value = operand.value
            return self._node(Literal, meta, (), value.copy_negate() if type(value) is Decimal else -value)
        return self._node(Negate, meta, (operand,), operand)

    # -- members -------------------------------------------------------------------------------------------------------

    def select(self, meta: Meta, operand: Node, field: Token) -> Node:
        return self._node(Select, meta, (operand,), operand, field.strip("`"))

    def optional_select(self, meta: Meta, operand: Node, dot: Token, field: Token) -> Node:
        return self._node(Select, meta, (operand,), operand, field.strip("`"), True)

    def index(self, meta: Meta, operand: Node, key: Node) -> Node:
        return self._node(Index, meta, (operand, key), operand, key)

    def optional_index(self, meta: Meta, operand: Node, key: Node) -> Node:
        return self._node(Index, meta, (operand, key), operand, key, True)

    def identifier(self, meta: Meta, name: Token) -> Node:
        self._name(name, meta)
        return self._node(Identifier, meta, (), str(name))

    def absolute_identifier(self, meta: Meta, name: Token) -> Node:
        self._name(name, meta)
        return self._node(Identifier, meta, (), str(name), True)

    def _name(self, name: Token, meta: Meta) -> None:
        if name in _RESERVED:
            _refuse(f"{str(name)!r} is a reserved word", meta.start_pos)

    def parenthesized(self, meta: Meta, inner: Node) -> Node:
        return inner

    def message(self, meta: Meta, *rest: Any) -> Node:
        _refuse("there are no message types here; write a map: {'key': value}", meta.start_pos)

    # -- collections ---------------------------------------------------------------------------------------------------

    def arguments(self, meta: Meta, *items: Node) -> Any:
        return items

    elements = entries = arguments

    def optional_element(self, meta: Meta, value: Node) -> Node:
        return self._node(Element, meta, (value,), value)

    def entry(self, meta: Meta, key: Node, value: Node) -> Any:
        return key, value, False

    def optional_entry(self, meta: Meta, key: Node, value: Node) -> Any:
        return key, value, True

    def list(self, meta: Meta, items: tuple[Node, ...] | None = None) -> Node:
        items = items or ()
        optional = frozenset(index for index, item in enumerate(items) if isinstance(item, Element))
        plain = tuple(item.value if isinstance(item, Element) else item for item in items)
        return self._node(ListLiteral, meta, plain, plain, optional)

    def map(self, meta: Meta, entries: tuple[tuple[Node, Node, bool], ...] | None = None) -> Node:
        entries = entries or ()
        optional = frozenset(index for index, entry in enumerate(entries) if entry[2])
        pairs = tuple((key, value) for key, value, _ in entries)
        return self._node(MapLiteral, meta, tuple(node for pair in pairs for node in pair), pairs, optional)

    # -- calls and macros ----------------------------------------------------------------------------------------------

    def function(self, meta: Meta, name: Token, arguments: tuple[Node, ...] | None) -> Node:
        self._name(name, meta)
        arguments = arguments or ()
        if name == "has":
            if len(arguments) != 1 or not isinstance(arguments[0], Select) or arguments[0].optional:
                _refuse("has() takes a field, as in has(data.amount)", meta.start_pos)
            return self._node(Has, meta, arguments, arguments[0])
        return self._node(Call, meta, arguments, str(name), None, arguments)

    def method(self, meta: Meta, target: Node, name: Token, arguments: tuple[Node, ...] | None) -> Node:
        arguments = arguments or ()
        if name in _COMPREHENSIONS and len(arguments) in (2, 3):
            return self._comprehension(meta, target, str(name), arguments)
        if name == "bind" and isinstance(target, Identifier) and target.name == "cel":
            if len(arguments) != 3:
                _refuse("cel.bind() takes a name, its value and an expression", meta.start_pos)
            variable = self._variable(arguments[0], "cel.bind()")
            return self._node(Bind, meta, arguments, variable, arguments[1], arguments[2])
        if name in ("optMap", "optFlatMap") and len(arguments) == 2:
            variable = self._variable(arguments[0], f"{name}()")
            flat = name == "optFlatMap"
            return self._node(OptionalMap, meta, (target, *arguments), target, variable, arguments[1], flat)
        return self._node(Call, meta, (target, *arguments), str(name), target, arguments)

    def _comprehension(self, meta: Meta, target: Node, name: str, arguments: tuple[Node, ...]) -> Node:
        variable = self._variable(arguments[0], f"{name}()")
        kind = "exists_one" if name == "existsOne" else name
        predicate: Node | None = arguments[1]
        transform: Node | None = None
        if kind == "map":
            predicate = arguments[1] if len(arguments) == 3 else None
            transform = arguments[-1]
        elif len(arguments) == 3:
            _refuse(f"{name}() takes a name and a condition", meta.start_pos)
        return self._node(Comprehension, meta, (target, *arguments), kind, target, variable, predicate, transform)

    def _variable(self, node: Node, where: str) -> str:
        if not isinstance(node, Identifier) or node.absolute:
            _refuse(f"the first argument of {where} is a plain name", node.start)
        return node.name


# -- text literals -----------------------------------------------------------------------------------------------------


def _integer(text: str, position: int) -> int:
    if len(text) > 40:
        _refuse(f"the number {text[:40]}… is too long", position)
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


_ESCAPE: Final = re.compile(r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|([\s\S]?))")
_PLAIN_ESCAPES: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip


def _body(text: str) -> tuple[str, bool]:
    """What stands between the quotes, and whether it is raw."""
    raw = False
    while text[0] not in "\"'":
        raw = raw or text[0] in "rR"
        text = text[1:]
    width = 3 if text[:3] in ('"""', "'''") and len(text) >= 6 else 1
    return text[width:-width], raw


def _unquote(text: str, position: int) -> str:
    body, raw = _body(text)
    if raw or "\\" not in body:
        return body

    def character(match: re.Match[str]) -> str:
        hexadecimal = match[1] or match[2] or match[3]
        if hexadecimal or match[4]:
            code = int(hexadecimal, 16) if hexadecimal else int(match[4], 8)
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                _refuse(f"{match[0]} is no character", position)
            return chr(code)
        if match[5] not in _PLAIN_ESCAPES:
            _refuse(f"{match[0]} is no escape; write \\\\ for a backslash, or r'…' for raw text", position)
        return _PLAIN_ESCAPES[match[5]]

    return _ESCAPE.sub(character, body)


def _unquote_bytes(text: str, position: int) -> bytes:
    body, raw = _body(text)
    if raw or "\\" not in body:
        return body.encode("utf-8", "surrogatepass")
    parts: list[bytes] = []
    last = 0
    for match in _ESCAPE.finditer(body):
        parts.append(body[last : match.start()].encode("utf-8", "surrogatepass"))
        last = match.end()
        if match[1] or match[4]:
            parts.append(bytes([int(match[1], 16) if match[1] else int(match[4], 8)]))
        elif match[5] and match[5] in _PLAIN_ESCAPES:
            parts.append(_PLAIN_ESCAPES[match[5]].encode())
        else:
            _refuse(f"{match[0]} is no escape of a byte", position)
    parts.append(body[last:].encode("utf-8", "surrogatepass"))
    return b"".join(parts)


@cache
def _parser() -> Lark:
    """Made with the first expression: its tables take a tenth of a second that `pliers --help` should not."""
    return Lark(
        resources.files(__package__).joinpath("cel.lark").read_text("utf-8"),
        parser="lalr",
        propagate_positions=True,
        maybe_placeholders=True,
    )


_BUILDER: Final = Builder()
