"""Texts with expressions in them: `https://api.example.com/orders/{data.order}`.

What stands in braces is CEL; a brace that is meant as such is doubled. Braces inside the expression itself (maps) and
in its string literals are taken for what they are.
"""

from __future__ import annotations

from collections.abc import Iterator


def split_template(template: str) -> list[tuple[int, str]]:
    """
    Split a template into texts and expressions, in turn, each with its position. Raises `ValueError` with a sentence.

    >>> split_template("a{{b}} {data.x['}']} c")
    [(0, 'a{b} '), (8, "data.x['}']"), (20, ' c')]
    """
    parts: list[tuple[int, str]] = []
    text: list[str] = []
    began = position = 0
    while position < len(template):
        char = template[position]
        if char in "{}" and template[position : position + 2] == char * 2:
            text.append(char)
            position += 2
        elif char == "}":
            raise ValueError("The braces do not pair; write `}}` for a brace that is meant as such.")
        elif char == "{":
            end = _end(template, position + 1)
            parts += [(began, "".join(text)), (position + 1, template[position + 1 : end])]
            text = []
            position = began = end + 1
        else:
            text.append(char)
            position += 1
    parts.append((began, "".join(text)))
    return parts


def expressions_in(template: str) -> Iterator[str]:
    """Give the expressions of a template. Raises as `split_template`."""
    return (source for number, (_, source) in enumerate(split_template(template)) if number % 2)


def _end(template: str, position: int) -> int:
    """The position of the brace that ends an expression."""
    depth, quote = 0, ""
    while position < len(template):
        char = template[position]
        if quote:
            if char == "\\":
                position += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char == "{":
            depth += 1
        elif char == "}":
            if depth == 0:
                return position
            depth -= 1
        position += 1
    raise ValueError("The braces do not pair; write `{{` for a brace that is meant as such.")
