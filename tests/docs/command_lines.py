"""Shell text as a reader would type it, taken apart into single commands.

for line, words in commands("make demo && cd runs  # look"):
    print(words)
"""

import re
import shlex

__all__ = ["commands"]

_KEYWORDS = {"if", "then", "else", "elif", "while", "until", "do", "!", "{", "time"}
_NO_COMMANDS = {"for", "done", "fi", "case", "esac", "}", "function"}
_PROMPT = re.compile(r"^\s*\$\s+")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


def commands(text: str, *, prompted: bool = False) -> list[tuple[int, list[str]]]:
    """The words of each command, and the line (from 0) on which it begins.

    Args:
        text: lines of a shell; joined by `\\`, and by `&&`, `|`, `;` into several commands.
        prompted: only lines that begin with `$ ` are commands, the others are their output.

    Raises:
        ValueError: a quote is not closed.
    """
    found: list[tuple[int, list[str]]] = []
    lines = iter(enumerate(text.splitlines()))
    for number, line in lines:
        if prompted and not _PROMPT.match(line):
            continue
        whole = _PROMPT.sub("", line)
        while whole.rstrip().endswith("\\"):
            whole = whole.rstrip()[:-1] + " " + next(lines, (0, ""))[1].strip()
        here = re.search(r"<<-?\s*['\"]?(\w+)", whole)
        found += [(number, words) for words in _simple_commands(whole)]
        if here:
            for _, inner in lines:
                if inner.strip() == here.group(1):
                    break
    return found


def _simple_commands(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    for word in lexer:
        if word.startswith("#"):
            break
        words.append(word)
    found: list[list[str]] = [[]]
    skip = False
    for word in words:
        if skip:
            skip = False
        elif set(word) <= set("<>&") and set(word) & set("<>"):
            skip = True
            if found[-1] and found[-1][-1] in {"1", "2"}:
                found[-1].pop()
        elif word and set(word) <= set("|&;()"):
            found.append([])
        else:
            found[-1].append(word)
    stripped = [_without_preamble(part) for part in found]
    return [part for part in stripped if part and part[0] not in _NO_COMMANDS]


def _without_preamble(words: list[str]) -> list[str]:
    while words and (words[0] in _KEYWORDS or _ASSIGNMENT.fullmatch(words[0])):
        words = words[1:]
    return words
