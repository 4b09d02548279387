"""Leaves out of a person's turn what programs wrote into it (coding harnesses, chat interfaces).

Seen in what Claude Code, Codex, Cline and Roo, Cursor, Copilot, aider and Open WebUI send as role ``user``.
Only names that people do not write themselves are listed: a ``<context>`` may well be the person's own.
"""

import re

_LEFT_OUT = (
    # Claude Code
    "system-reminder", "command-name", "command-message", "local-command-stdout", "local-command-stderr",
    "local-command-caveat", "bash-input", "bash-stdout", "bash-stderr", "task-notification",
    "user-prompt-submit-hook", "ide_opened_file", "ide_selection", "ide_diagnostics",
    # Codex
    "environment_context", "user_instructions", "INSTRUCTIONS", "turn_aborted", "subagent_notification",
    "user_shell_command", "collaboration_mode", "personality_spec", "recommended_plugins",
    # Cline and Roo
    "environment_details", "file_content", "final_file_content", "folder_content", "url_content",
    "workspace_diagnostics", "git_working_state", "git_commit", "terminal_output", "explicit_instructions",
    # Cursor
    "additional_data", "user_info", "timestamp", "attached_files", "open_and_recently_viewed_files",
    "project_layout", "git_status", "system_notification",
    # Copilot
    "environment_info", "workspace_info", "editorContext", "reminderInstructions", "repoContext",
    # Open WebUI, and tool results of any of them
    "chat_history", "tool_result", "tool_response", "function_results",
)  # fmt: skip
_ONLY = ("user_query", "userRequest")
"""Where one of these is, nothing outside of it is the person's."""
_FRAMES = ("task", "feedback", "user_message", "answer", "command-args")
"""Around what the person wrote: Cline's, and the arguments of a command of Claude Code."""
_TAG = re.compile(
    rf"<(?:(?P<block>{'|'.join(map(re.escape, _LEFT_OUT))})(?:\s[^<>]{{0,300}})?|/?(?:{'|'.join(_FRAMES)}))>"
)
_RESULT = re.compile(r"\[\w{1,100}(?: for '[^'\n]{0,500}')?\] Result:")
"""How Cline begins a turn that has the result of a tool."""
_WHOLE_TURNS = (
    "I have *added these files to the chat*",
    "Here are summaries of some files present in my git repo",
    "Here are some READ ONLY files, provided for your reference",
    "[ERROR] You did not use a tool in your previous response",
)
"""Beginnings of turns of which nothing is the person's (aider, Cline)."""
_AGENTS_FILE = re.compile(r"\A\s*# AGENTS\.md instructions for [^\n]*")
_REQUEST = "## My request for Codex:"
"""The person's text comes after it (Codex in an editor)."""
_RETRIEVED = re.compile(r"### Task:\s{1,100}Respond to the user query using the provided context")
"""How Open WebUI begins a turn with what it retrieved, which ends with ``</context>``."""


MOST_MARKS = 50_000
"""Characters ``<`` that are looked at, each of which takes a fifth of a microsecond: as many as a megabyte of
HTML has."""


def without_harness(text: str, marks: int = MOST_MARKS) -> str:
    """The person's part of a user turn, or "" when a program wrote all of it. Linear in the text's length.
    What comes after ``marks`` characters ``<`` stays as it is."""
    text = text.strip()
    for tag in _ONLY:
        asked = _inside(text, tag)
        if asked:
            return asked
    if text.startswith(_WHOLE_TURNS):
        return ""
    if _RESULT.match(text):
        return "\n".join(filter(None, (_inside(text, tag) for tag in ("feedback", "user_message", "answer"))))
    if _RETRIEVED.match(text):
        text = text.rpartition("</context>")[2]
    text = text.rpartition(_REQUEST)[2]
    return _AGENTS_FILE.sub("", _without_tags(text, marks), count=1).strip()


def _inside(text: str, tag: str) -> str:
    """Returns the text in the first block of this name."""
    after = text.partition(f"<{tag}>")[2]
    inside, closing, _ = after.partition(f"</{tag}>")
    return inside.strip() if closing else ""


def _without_tags(text: str, marks: int) -> str:
    """Without the blocks, and without the frames around what stays. Blocks that are not closed stay: the
    person may have written about them. It goes from one ``<`` to the next, so other threads come in
    between."""
    kept: list[str] = []
    begin = 0
    unclosed: set[str] = set()
    at = text.find("<")
    while at >= 0 and marks:
        marks -= 1
        tag = _TAG.match(text, at)
        end = at + 1 if tag is None else _end_of(tag, unclosed)
        if tag is not None and end > at + 1:
            kept.append(text[begin:at])
            begin = end
        at = text.find("<", end)
    return "".join([*kept, text[begin:]])


def _end_of(tag: re.Match[str], unclosed: set[str]) -> int:
    """Finds the end of what is left out with ``tag``; the tag's first character where it stays."""
    if tag["block"] is None:
        return tag.end()
    closing = f"</{tag['block']}>"
    end = -1 if closing in unclosed else tag.string.find(closing, tag.end())
    if end < 0:
        unclosed.add(closing)
        return tag.start() + 1
    return end + len(closing)
