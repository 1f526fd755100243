"""Diagrams: everything is drawn, and nothing in a document can break out of its label."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliers_workflow.definition.diagram import mermaid
from pliers_workflow.definition.reading import read
from tests.charts import NAMES, definition
from tests.definition.documents import document

ID = r"(?:\[\*\]|[A-Za-z][A-Za-z0-9_]*)"
TEXT = r"(?:[^\x00-\x1f:;\"{}<%`\\#]|#\d+;)*"
#: every line that a diagram may consist of
LINES = re.compile(
    rf"stateDiagram-v2|\s*(?:state {ID} <<choice>>|state \"{TEXT}\" as {ID}|state {ID} \{{|\}}|--"
    rf"|{ID} --> {ID}(?: : {TEXT})?|note right of {ID}|end note|{TEXT})"
)


def drawn(made: dict[str, Any]) -> str:
    reading = read(made)
    assert reading.definition is not None, reading.findings
    return mermaid(reading.definition)


def sound(text: str) -> None:
    """The text has only lines of the known forms, and its blocks close."""
    for line in text.splitlines():
        assert LINES.fullmatch(line), line
    lines = [line.strip() for line in text.splitlines()]
    assert sum(line.endswith(" {") for line in lines) == lines.count("}")
    assert sum(line.startswith("note right of ") for line in lines) == lines.count("end note")


@pytest.mark.parametrize("name", NAMES)
def test_named_charts(name: str) -> None:
    """Every named chart gives a sound diagram in which each of its states appears."""
    text = mermaid(definition(name))
    sound(text)
    for state in definition(name).state_machine.states:
        assert re.search(rf"\b{state}\b|\"{state}\"", text)


def test_what_is_drawn() -> None:
    """Nesting, regions, choices, memories, ends, triggers with conditions, approval chains and clocks."""
    expense = mermaid(definition("expense_report"))
    assert "    draft --> manager_review : submit [data.amount > 0]\n" in expense
    assert "    [*] --> draft\n" in expense
    assert "    paid --> [*]\n" in expense
    assert "2. Finance#58; role finance if data.amount > 1000" in expense
    assert "after 2880 min" in expense
    assert mermaid(definition("parallel_review")).count("        --\n") == 1
    assert "state counting <<choice>>" in mermaid(definition("turnstile"))
    history = mermaid(definition("nested_history"))
    assert 'state "H*" as deep_memory' in history
    assert "working --> finished : finish from second_half" in history


def test_words_of_mermaid_and_odd_ids_get_an_alias() -> None:
    """Ids that Mermaid would misread are drawn under another name and shown as they are."""
    text = drawn(
        document(
            {"end": {}, "note": {}, "a.b-c": {}, "A.b-c": {}, "Note": {}},
            [{"from": "end", "to": "note", "trigger": "x"}, {"from": "note", "to": "a.b-c", "trigger": "x"}],
            initial="end",
        )
    )
    sound(text)
    assert 'state "end" as s0\n' in text
    assert "s0 --> s1 : x" in text
    assert 'state "a.b-c" as s2\n' in text


@settings(max_examples=60, deadline=None)
@given(
    st.text(min_size=1, max_size=40).filter(lambda text: "\x00" not in text and not re.search("[\ud800-\udfff]", text))
)
def test_no_text_breaks_out(text: str) -> None:
    """Whatever a name or condition holds stays inside its label."""
    made = document({"a": {"name": text}, "z": "final"}, [{"from": "a", "to": "z", "trigger": "go"}])
    made["stateMachine"]["transitions"][0]["condition"] = {
        "type": "simple", "field": "x", "operator": "equals", "value": text,
    }  # fmt: skip
    sound(drawn(made))


def test_a_note_cannot_be_ended_from_inside() -> None:
    """The words `end note` in a text are written so that Mermaid only shows them."""
    text = drawn(
        document(
            {"a": {"timeouts": [{"afterMinutes": "data.x == 'end note' ? 1 : 2"}]}, "z": "final"},
            [{"from": "a", "to": "z", "trigger": "timeout"}],
        )
    )
    assert text.lower().count("end note") == 1
