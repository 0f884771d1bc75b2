"""What a pipelining tool would find in the kernels, by reading them: rules beside the pragmas'.

Three things that C simulation never shows. A process of a dataflow region that touches a memory of
its caller makes the region run by turns. What one pass of a pipelined loop hands to the next is due
in a cycle, so it is a counter, a flag or one addition, and no product. And an array of few entries
is taken apart into registers by the tool, whatever was meant (``complete_threshold``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.hls.pragmas import Block, Macro, arguments_of, expanded, uses

#: Arrays of at most so many entries become registers (UG1399, config_array_partition).
COMPLETE_THRESHOLD = 4


# ---- Processes ---------------------------------------------------------------------------------


def _calls(function: Block) -> Iterator[tuple[str, list[str]]]:
    """The calls of a block in their order: names, and names that stand in their arguments."""
    for statement in function.statements:
        match = re.fullmatch(r"(\w+)(?:<[^()]*>)?\s*\((.*)\)", statement)
        if match:
            yield match.group(1), re.findall(r"[A-Za-z_]\w*", match.group(2))


def region_problems(text: str, known: dict[str, Macro]) -> list[str]:
    """What is wrong with the dataflow regions of a source."""
    found = []
    for use in uses(text, known):
        if use.name != "dataflow":
            continue
        if use.block.kind == "loop":
            found.append("a dataflow region in a loop starts anew with every block")
            continue
        region = use.block
        header = " ".join(region.header.split())
        arrays = set(re.findall(r"(\w+)(?:\[[^\]]*\])+", header))
        # a port that a format may not have is a type of its own (hls/src/formats.hpp)
        ports = ("*", "_port_t")
        pointers = {n for n, kind in arguments_of(region).items() if kind.endswith(ports)}
        stable = {u.options["variable"] for u in region.pragmas if u.name == "stable"}
        values = {n for n, kind in arguments_of(region).items() if not kind.endswith((*ports, "&"))}
        channels = set(re.findall(r"hls::stream<[^;]*>\s+(\w+)", "; ".join(region.statements)))
        users: dict[str, list[str]] = {}
        for place, (name, arguments) in enumerate(_calls(region)):
            for argument in arguments:
                users.setdefault(argument, []).append(name)
                if argument in arrays and place > 0:
                    found.append(f"{name} touches {argument}, an array of the region's caller")
        for pointer in pointers:
            if len(users.get(pointer, [])) > 1:
                found.append(f"{pointer} is a port of {' and '.join(users[pointer])}")
        for channel in channels:
            if len(users.get(channel, [])) != 2:
                found.append(f"{channel} has the users {users.get(channel, [])}")
        found += [f"{value} is not stable" for value in sorted(values - stable - arrays)]
        if len(list(_calls(region))) < 2:
            found.append("the region has no processes")
    return found


# ---- What passes hand on -----------------------------------------------------------------------

#: Structs whose fields live from pass to pass of the training loop.
STATE = ("dot", "update", "turn", "slot", "fill", "counts", "counted")
#: Functions that run before the loop or behind it.
OUTSIDE = ("DotSideAt", "UpdateSideAt", "SlotAt", "CountsAt", "FillSideOf", "NoTurn",
           "LeavePosition")  # fmt: skip


def _functions(text: str) -> Iterator[tuple[str, str]]:
    """Functions of a source in the project's style: name and body."""
    for match in re.finditer(
        r"^[^\s#/}][^;{}=]*?\b(\w+)\([^{}]*?\)\s*\{\n(.*?)^\}", text, re.M | re.S
    ):
        yield match.group(1), match.group(2)


def recurrences(text: str, known: dict[str, Macro]) -> list[tuple[str, str, str]]:
    """What the passes of the training loop write to their state: function, field, what."""
    found = []
    for name, body in _functions(expanded(text, known)):
        if name in OUTSIDE:
            continue
        for statement in re.split(r"[;{}]", body):
            plain = " ".join(statement.split())
            write = re.search(
                rf"\b((?:{'|'.join(STATE)})\.\w+)(?:\[[^\]]*\])? ([-+|^&]?=)(?!=) (.*)$", plain
            )
            if write:
                found.append((name, write.group(1), write.group(3)))
    return found


def recurrence_problems(text: str, known: dict[str, Macro]) -> list[str]:
    """Products, quotients and chains of additions between a pass and the next one."""
    found = []
    for function, name, value in recurrences(text, known):
        operators = re.sub(r"<[^<>]*>", "", value)  # template arguments
        if re.search(r"[*/%]", operators):
            found.append(f"{function}: {name} = {value} multiplies or divides between two passes")
        elif len(re.findall(r" [-+] ", operators)) > 2:
            found.append(f"{function}: {name} = {value} is a chain of additions")
    # a function that counts may be called many times a pass: what it adds to lives in the pass
    for function, body in _functions(expanded(text, known)):
        if function in OUTSIDE or not re.search(r"\bTRAIN:", body):
            continue
        loop = body[body.index("TRAIN:") :]
        for call in re.findall(r"\b\w+<Format>\([^;]*\bcounts\)", loop):
            found.append(f"{call.split('<')[0]} counts from one pass into the next")
    return found


# ---- Lanes -------------------------------------------------------------------------------------

#: Loops over lanes that work every cycle, and what all of their lanes may take as it is: a word, of
#: which each has bits for itself, and numbers that do not change.
LANE_LOOPS = ("DOT_LANES", "UPDATE_LANES", "TURN_ENTRIES")
OF_ALL_LANES = ("cell", "step.cell", "g.decoding", "kTurnLanes")
WORDS = ("const", "for", "if", "true", "false", "int", "int32_t", "int64_t", "uint32_t", "template")


def lane_problems(text: str) -> list[str]:
    """What goes to all lanes at once without copies (hls/src/spread.hpp), and null ports."""
    found = ["a null pointer is no port"] if re.search(r"\bnullptr\b", text) else []
    for function, body in _functions(text):
        lines = body.split("\n")
        for number, line in enumerate(lines):
            if line.strip(" :") not in LANE_LOOPS:
                continue
            indent = re.match(" *", lines[number + 1]).group()  # type: ignore[union-attr]
            ends = lines.index(f"{indent}}}", number)
            loop = [one for one in lines[number + 1 : ends] if "#pragma" not in one]
            inside = " ".join(loop)
            # arrays are read at a place of the lane's; what is made of that is the lane's
            own = re.findall(r"(?:[\w>*&] &?(?=\w+ =)|(?=\w+ \+=))(\w+) \+?= ", inside)
            copied = re.findall(r"(\w+) = copies\[", body)
            for name in re.findall(r"(?<![\w.:])[A-Za-z_][\w.]*(?![\w.]*[\[(<:])", inside):
                first = name.split(".")[0]
                if first in (*own, *copied, *WORDS, "lane", "k", "i") or name in OF_ALL_LANES:
                    continue
                if not re.match(r"[A-Z]|k[A-Z]", name) and name not in ("other", "new_model"):
                    found.append(f"{function}: all lanes take {name}")
    return found


# ---- Small arrays ------------------------------------------------------------------------------


def small_arrays(text: str, known: dict[str, Macro], constants: dict[str, int]) -> list[str]:
    """Arrays that the tool takes apart though no pragma says so."""
    source = expanded(text, known)
    partitioned = {
        u.options["variable"] for u in uses(text, known) if u.name == "array_partition"
    }  # fmt: skip
    found = []
    declared = r"^\s*(?!return)(?:const |constexpr )?[\w:]+(?:<[^;=()]*>)?(?:::\w+)? "
    for name, size in re.findall(
        declared + r"(\w+)\[([^\[\]]+)\](?=;| =)",
        source,
        re.M,
    ):
        count = constants.get(size.strip(), int(size) if size.strip().isdigit() else 1 << 30)
        if count <= COMPLETE_THRESHOLD and name not in partitioned:
            found.append(f"{name}[{size}] becomes registers")
    return found
