"""The pragmas of Vitis HLS, and a check of sources against them.

Names and options are those of UG1399 (2023.2, "HLS Pragmas"), written down by hand and compared
with the option definitions of the vendor's open clang (Xilinx/hls-llvm-project,
XlxPragmaOption.td). What is checked beyond them, from the same pages: which block a pragma may
stand in, that a variable is declared before its pragma and in scope, dimensions, and the rules of
ports. It reads the project's own style of C++ and no other: one statement a line or more, blocks in
braces. Macros are replaced before, as the compiler does it, so that a pragma which stands in one
(hls/src/pragmas.hpp) is read where it is used, with the numbers that it gets there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# Kinds of values.
INTEGER = r"\d+"
NUMBER = r"\d+(\.\d+)?"
NAME = r"\w+"
VARIABLE = r"[A-Za-z_]\w*"


def one_of(*values: str) -> str:
    """An enumeration; the tool takes either case."""
    return "(?i:" + "|".join(values) + ")"


@dataclass(frozen=True)
class Pragma:
    """What UG1399 says of one pragma.

    ``places`` are the blocks that it may stand in directly: "function", "loop", "region" (any other
    block). A pragma with ``first`` governs its block and stands before its statements.
    """

    places: frozenset[str]
    options: dict[str, str] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    first: bool = False


def _pragma(
    places: str, required: str = "", flags: str = "", first: bool = False, **options: str
) -> Pragma:
    return Pragma(
        frozenset(places.split()), options, frozenset(flags.split()), frozenset(required.split()),
        first,
    )  # fmt: skip


_ANY = "function loop region"
_PARTITIONS = ("block", "cyclic", "complete")
_STORAGE = one_of(
    "fifo", "ram_1p", "ram_1wnr", "ram_2p", "ram_s2p", "ram_t2p", "rom_1p", "rom_2p", "rom_np"
)
_IMPLEMENTATION = one_of(
    "bram", "bram_ecc", "lutram", "uram", "uram_ecc", "srl", "memory", "auto"
)  # fmt: skip

PRAGMAS: dict[str, Pragma] = {
    "aggregate": _pragma(
        _ANY, "variable", variable=VARIABLE, compact=one_of("bit", "byte", "none", "auto")
    ),
    "alias": _pragma("function", "ports", ports=r"[\w,]+", offset=r"[\w,]+", distance=NAME),
    "allocation": _pragma(
        _ANY, "instances limit", "function operation", instances=r"[\w,]+", limit=INTEGER,
        type=one_of("function", "operation"),
    ),
    "array_partition": _pragma(
        _ANY, "variable", "block cyclic complete", variable=VARIABLE, type=one_of(*_PARTITIONS),
        factor=INTEGER, dim=INTEGER,
    ),
    "array_reshape": _pragma(
        _ANY, "variable", "block cyclic complete object", variable=VARIABLE,
        type=one_of(*_PARTITIONS), factor=INTEGER, dim=INTEGER,
    ),
    "bind_op": _pragma(_ANY, "variable op", variable=VARIABLE, op=NAME, impl=NAME, latency=INTEGER),
    "bind_storage": _pragma(
        _ANY, "variable type", variable=VARIABLE, type=_STORAGE, impl=_IMPLEMENTATION,
        latency=INTEGER,
    ),
    "cache": _pragma("function", "port", port=VARIABLE, lines=INTEGER, depth=INTEGER),
    "dataflow": _pragma("function loop", flags="disable_start_propagation", first=True),
    "dependence": _pragma(
        _ANY, "", "array pointer intra inter raw war waw true false", variable=VARIABLE,
        **{"class": one_of("array", "pointer")}, type=one_of("intra", "inter"),
        direction=one_of("raw", "war", "waw"), distance=INTEGER,
        dependent=one_of("true", "false"),
    ),
    "disaggregate": _pragma(_ANY, "variable", variable=VARIABLE),
    "expression_balance": _pragma(_ANY, flags="off"),
    "function_instantiate": _pragma("function", "variable", variable=VARIABLE),
    "inline": _pragma("function", flags="off recursive", first=True),
    "interface": _pragma("function", "port mode", first=True),  # options depend on the mode
    "latency": _pragma(_ANY, min=INTEGER, max=INTEGER),
    "loop_flatten": _pragma("loop", flags="off", first=True),
    "loop_merge": _pragma(_ANY, flags="force", first=True),
    "loop_tripcount": _pragma("loop", "max", min=INTEGER, max=INTEGER, avg=INTEGER, first=True),
    "occurrence": _pragma("region", cycle=INTEGER),
    "performance": _pragma(
        "function loop", target_ti=NUMBER, target_tl=NUMBER, unit=one_of("cycle", "sec"), first=True
    ),
    "pipeline": _pragma(
        "function loop", flags="off rewind", ii=INTEGER, style=one_of("stp", "flp", "frp"),
        first=True,
    ),
    "protocol": _pragma(
        _ANY, flags="floating fixed", mode=one_of("floating", "fixed"), first=True
    ),
    "reset": _pragma(_ANY, "variable", "off", variable=VARIABLE),
    "stable": _pragma(_ANY, "variable", variable=VARIABLE),
    "stream": _pragma(
        _ANY, "variable", variable=VARIABLE, depth=INTEGER,
        type=one_of("fifo", "pipo", "shared", "unsync"),
    ),
    "top": _pragma("function", name=NAME, first=True),
    "unroll": _pragma(
        "loop", flags="skip_exit_check", factor=INTEGER, off=one_of("true", "false"), first=True
    ),
}  # fmt: skip

_SCALAR = {"register": "", "depth": INTEGER, "latency": INTEGER}
#: Options of INTERFACE by its mode, beside ``mode``, ``port`` and ``name``.
INTERFACE: dict[str, dict[str, str]] = {
    "m_axi": {
        "bundle": NAME,
        "depth": INTEGER,
        "offset": one_of("off", "direct", "slave"),
        "latency": INTEGER,
        "num_read_outstanding": INTEGER,
        "num_write_outstanding": INTEGER,
        "max_read_burst_length": INTEGER,
        "max_write_burst_length": INTEGER,
        "max_widen_bitwidth": INTEGER,
        "channel": INTEGER,
    },
    "s_axilite": {"bundle": NAME, "offset": r"\w+", "clock": NAME, "storage_impl": NAME},
    "axis": {"register": "", "register_mode": NAME, "depth": INTEGER},
    "ap_memory": {"depth": INTEGER, "latency": INTEGER, "storage_type": NAME},
    "bram": {"depth": INTEGER, "latency": INTEGER, "storage_type": NAME},
    **{mode: _SCALAR for mode in ("ap_none", "ap_fifo", "ap_ack", "ap_vld", "ap_stable")},
    **{mode: {**_SCALAR, "interrupt": INTEGER} for mode in ("ap_hs", "ap_ovld")},
    **{mode: {} for mode in ("ap_ctrl_none", "ap_ctrl_hs", "ap_ctrl_chain")},
}

# ---- Reading -----------------------------------------------------------------------------------


@dataclass
class Block:
    """A block of C++: what stands before its brace, and its statements so far."""

    kind: str  # "function", "loop", "region", or "other": no code of a function's body
    header: str
    statements: list[str] = field(default_factory=list)
    pragmas: list[Use] = field(default_factory=list)


@dataclass
class Use:
    """A pragma in a source."""

    line: int
    name: str
    options: dict[str, str]
    flags: list[str]
    blocks: list[Block]  # outermost first
    seen: list[int]  # statements before it in each of them

    @property
    def block(self) -> Block:
        return self.blocks[-1] if self.blocks else Block("other", "")

    @property
    def first(self) -> bool:
        """Whether no statement of its block stands before it."""
        return not self.seen or self.seen[-1] == 0

    @property
    def function(self) -> Block | None:
        functions = [block for block in self.blocks if block.kind == "function"]
        return functions[-1] if functions else None

    def __str__(self) -> str:
        return f"line {self.line}: {self.name}"


def _kind(header: str, inside: bool) -> str:
    header = re.sub(r"^(\w+:)?\s*", "", header)
    if re.match(r"(for|while)\b", header):
        return "loop"
    if inside:
        return "region"
    if header.endswith((")", ") const")) and not re.match(
        r"(namespace|struct|enum|class)\b", header
    ):
        return "function"
    return "other"


def _without_comments(text: str) -> str:
    """The same lines without comments and strings; continued lines joined, and made up for."""
    text = re.sub(
        r"//[^\n]*|/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.DOTALL
    )
    text = re.sub(r'"[^"\n]*"', '""', text)
    return re.sub(
        r"(?:[^\n]*\\\n)+[^\n]*",
        lambda m: m.group().replace("\\\n", " ") + "\n" * m.group().count("\n"),
        text,
    )


@dataclass(frozen=True)
class Macro:
    """A macro: its parameters, None where it takes no parentheses, and its text."""

    parameters: list[str] | None
    text: str


def macros(*texts: str) -> dict[str, Macro]:
    """The macros that sources define, by their names."""
    found = {}
    for line in "\n".join(_without_comments(text) for text in texts).split("\n"):
        match = re.match(r"\s*#\s*define\s+(\w+)(\(([^)]*)\))?(.*)", line)
        if match:
            name, call, parameters, body = match.groups()
            names = re.findall(r"\w+", parameters.replace("...", "__VA_ARGS__")) if call else None
            found[name] = Macro(names, body.strip())
    return found


def _arguments(text: str, start: int) -> tuple[list[str], int]:
    """The arguments in the parentheses that open at ``start``, and the place behind them."""
    found, depth = [""], 0
    for place in range(start, len(text)):
        character = text[place]
        depth += (character in "([") - (character in ")]")
        if depth == 0:
            return [" ".join(argument.split()) for argument in found], place + 1
        if character == "," and depth == 1:
            found.append("")
        elif place != start:
            found[-1] += character
    raise ValueError(f"parentheses are not closed behind {text[start - 30 : start + 30]!r}")


def _filled(macro: Macro, values: dict[str, str], known: dict[str, Macro]) -> str:
    """A macro's text with its arguments: as text behind a #, else without their macros."""
    full = {name: _replaced(value, known) for name, value in values.items()}
    full |= {f"#{name}": f'"{value}"' for name, value in values.items()}
    return re.sub(r"#?\b[A-Za-z_]\w*", lambda m: full.get(m.group(), m.group()), macro.text)


def _replaced(text: str, known: dict[str, Macro]) -> str:
    """A text without its macros: arguments first, then what comes out once more, as C has it.

    Lines stay, whatever is in them: a call over several lines leaves as many behind it.
    """
    pieces, behind = [], 0
    for match in re.finditer(r'"[^"]*"|[A-Za-z_]\w*', text):
        macro, place = known.get(match.group()), match.end()
        if match.start() < behind or macro is None:
            continue
        values: dict[str, str] = {}
        if macro.parameters is not None:
            opening = re.compile(r"\s*(?=\()").match(text, place)
            if opening is None:
                continue  # its name alone, for another macro to call
            arguments, place = _arguments(text, opening.end())
            if "__VA_ARGS__" in macro.parameters:
                fixed = len(macro.parameters) - 1
                arguments[fixed:] = [", ".join(arguments[fixed:])]
            values = dict(zip(macro.parameters, arguments, strict=True))
        others = {name: other for name, other in known.items() if name != match.group()}
        lines = "\n" * text.count("\n", match.start(), place)
        body = _replaced(_filled(macro, values, known), others)
        pieces += [text[behind : match.start()], body, lines]
        behind = place
    return "".join([*pieces, text[behind:]])


def _lines(text: str, known: dict[str, Macro]) -> Iterator[tuple[int, str]]:
    """The lines of a source without comments and macros, a pragma a line, with their numbers."""
    # lines of the preprocessor are every second part, and stay
    parts = re.split(r"(?m)^(\s*#[^\n]*)$", _without_comments(text))
    parts[::2] = [_replaced(part, known) for part in parts[::2]]
    whole = re.sub(r'_Pragma\("([^"]*)"\)', "\0#pragma \\1\0", "".join(parts))
    for number, line in enumerate(whole.split("\n"), start=1):
        for piece in line.split("\0"):
            yield number, piece


def expanded(text: str, known: dict[str, Macro]) -> str:
    """A source as it is read."""
    return "\n".join(line for _, line in _lines(text, known))


def uses(text: str, known: dict[str, Macro] | None = None) -> list[Use]:
    """Every HLS pragma of a source, with the blocks around it.

    ``known``: macros, its own and those of what it includes.
    """
    found: list[Use] = []
    blocks: list[Block] = []
    pending, depth = "", 0
    for number, line in _lines(text, known or {}):
        if line.lstrip().startswith("#"):
            match = re.match(r"\s*#\s*pragma\s+HLS\s+(\w+)(.*)", line)
            if match:
                words = re.sub(r"\s*=\s*", "=", match.group(2)).split()
                options = dict(word.split("=", 1) for word in words if "=" in word)
                flags = [word.lower() for word in words if "=" not in word]
                lowered = {key.lower(): value for key, value in options.items()}
                seen = [len(block.statements) for block in blocks]
                use = Use(number, match.group(1).lower(), lowered, flags, list(blocks), seen)
                if len(lowered) + len(flags) != len(words):
                    use.flags.append("(an option twice)")
                found.append(use)
                if blocks:
                    blocks[-1].pragmas.append(use)
            continue
        for character in line + " ":
            if character in "([":
                depth += 1
            elif character in ")]":
                depth -= 1
            if character == "{":
                inside = any(block.kind in ("function", "loop", "region") for block in blocks)
                blocks.append(Block(_kind(" ".join(pending.split()), inside), pending.strip()))
                pending = ""
            elif character == "}":
                closed = blocks.pop()
                if blocks:
                    blocks[-1].statements.append(closed.header or "{}")
                pending = ""
            elif character == ";" and depth == 0:
                if blocks and pending.strip():
                    blocks[-1].statements.append(" ".join(pending.split()))
                pending = ""
            else:
                pending += character
    return found


def dimensions(variable: str, use: Use) -> int | None:
    """Dimensions of a variable that is declared before a pragma and in scope; None if it is not."""
    for block, seen in zip(reversed(use.blocks), reversed(use.seen), strict=True):
        declared = [block.header] if block.kind in ("function", "loop") else []
        for statement in [*block.statements[:seen], *declared]:
            match = re.search(
                rf"(?:^|[(,]\s*|^.*,\s*)(?:const |constexpr |static |typename )*"
                rf"[A-Za-z_][\w:]*(?:<[^;]*?>)?(?:::\w+)*[\s*&]+(?:\w+[^;]*, )?{variable}\b"
                r"((?:\s*\[[^\]]*\])*)\s*(?:$|[,=)])",
                statement,
            )
            if match and not statement.startswith("return "):
                return len(re.findall(r"\[", match.group(1)))
        if block.kind == "function":
            break
    return None


def arguments_of(function: Block) -> dict[str, str]:
    """Arguments of a function: their types by their names."""
    inside = " ".join(function.header.split()).rpartition(")")[0].partition("(")[2]
    found = {}
    for argument in inside.split(","):
        match = re.fullmatch(r"\s*(.+?[\s*&])(\w+)\s*", argument)
        if match:
            found[match.group(2)] = match.group(1).strip()
    return found


# ---- Judging -----------------------------------------------------------------------------------


def problems(text: str, top: str = "", known: dict[str, Macro] | None = None) -> list[str]:
    """What is wrong with the pragmas of a source whose top function is ``top``, if it has one."""
    every = uses(text, known)
    found = [f"{use}: {what}" for use in every for what in _judge(use, top)]
    if top:
        found += _ports(every, top)
    return found


def _judge(use: Use, top: str) -> Iterator[str]:
    pragma = PRAGMAS.get(use.name)
    if pragma is None:
        yield "there is no such pragma"
        return
    options, required = dict(pragma.options), pragma.required
    if use.name == "interface":
        mode = use.options.get("mode", "")
        if mode not in INTERFACE:
            yield f"there is no mode {mode!r}"
            return
        options = {**INTERFACE[mode], "mode": NAME, "port": VARIABLE, "name": NAME}
    flags = pragma.flags | {name for name, value in options.items() if not value}
    for name, value in use.options.items():
        if name not in options:
            yield f"there is no option {name}"
        elif not re.fullmatch(options[name], value):
            yield f"{name} was {value!r}"
    for flag in use.flags:
        if flag not in flags:
            yield f"there is no option {flag}"
    for name in required - set(use.options):
        yield f"{name} is missing"
    if use.block.kind not in pragma.places:
        yield f"stands in a {use.block.kind}, not in a {' or a '.join(sorted(pragma.places))}"
    elif pragma.first and not use.first:
        yield "stands behind a statement of the block that it governs"
    yield from _variables(use, top)
    yield from _rules(use)


def _variables(use: Use, top: str) -> Iterator[str]:
    variable = use.options.get("variable")
    if variable is None or use.function is None:
        return
    size = dimensions(variable, use)
    if size is None:
        yield f"{variable} is not declared before it"
        return
    channel = use.options.get("type", "").lower() == "fifo"
    if (
        use.name in ("array_partition", "array_reshape", "bind_storage")
        and size == 0
        and not channel
    ):
        yield f"{variable} is no array"
    if int(use.options.get("dim", "0")) > size:
        yield f"{variable} has {size} dimensions, not {use.options['dim']}"
    if use.name == "bind_storage" and re.search(rf"\b{top}\(", use.function.header) and top:
        yield f"{variable} of the top function takes storage_type= of INTERFACE"


def _rules(use: Use) -> Iterator[str]:
    options = {name: value.lower() for name, value in use.options.items()}
    if use.name in ("array_partition", "array_reshape"):
        kind = options.get("type", next(iter(use.flags), "complete"))
        if (kind == "complete") == ("factor" in options):
            yield "block and cyclic need a factor, complete takes none"
    if use.name == "dependence":
        carried = options.get("type", "inter") == "inter"
        if not carried and ("direction" in options or "distance" in options):
            yield "direction and distance are for dependences between iterations"
        if "distance" in options and options.get("dependent") != "true":
            yield "distance is for dependent=true"
        if "variable" in options and "class" in options:
            yield "variable and class exclude each other"
    if use.name == "loop_tripcount" and int(options.get("min", 0)) > int(options.get("max", 0)):
        yield "min is more than max"
    if use.name == "unroll" and "skip_exit_check" in use.flags and "factor" not in options:
        yield "skip_exit_check needs a factor"
    if use.name == "dataflow":
        # the canonical form: declarations and calls, nothing else (message HLS 214-114)
        for statement in use.block.statements:
            if re.search(r"[^=!<>]=(?!=)|^(if|for|while|return|\{)|^(\w+:)(?!:)", statement):
                yield f"a dataflow region holds {statement.split('(')[0].strip()!r}"
    names = [other.name for other in use.block.pragmas]
    if use.name == "pipeline" and ("dataflow" in names or "unroll" in names):
        yield "a loop is pipelined, unrolled or a dataflow region"
    repeatable = use.name in ("interface", "dependence") or "variable" in options
    if names.count(use.name) > 1 and not repeatable:
        yield "stands twice in a block"


def _ports(every: list[Use], top: str) -> Iterator[str]:
    """The rules of INTERFACE, which is for the top function and for all of its arguments."""
    ports = [use for use in every if use.name == "interface"]
    functions = {id(use.function): use.function for use in ports if use.function is not None}
    for function in functions.values():
        if not re.search(rf"\b{top}\s*\(", function.header):
            yield f"INTERFACE stands in {function.header.split('(')[0]}, which is not the top"
    tops = [f for f in functions.values() if re.search(rf"\b{top}\s*\(", f.header)]
    if not tops:
        yield f"{top} has no INTERFACE"
        return
    arguments = {**arguments_of(tops[0]), "return": "void"}
    modes: dict[str, list[str]] = {name: [] for name in arguments}
    bundles: dict[str, set[str]] = {}
    for use in ports:
        port, mode = use.options.get("port", ""), use.options.get("mode", "")
        if port not in arguments:
            yield f"{use}: there is no argument {port}"
            continue
        modes[port].append(mode)
        if mode == "m_axi":
            if not arguments[port].endswith("*"):
                yield f"{use}: {port} is no pointer"
            if "depth" not in use.options:
                yield f"{use}: co-simulation needs a depth"
            element = re.sub(r"\bconst\b|\*|\bu(?=int)", "", arguments[port]).strip()
            bundles.setdefault(use.options.get("bundle", ""), set()).add(element)
            for option in ("max_read_burst_length", "max_write_burst_length"):
                length = int(use.options.get(option, "16"))
                # 512-bit words: a burst must not cross 4 KiB
                if length not in (2, 4, 8, 16, 32, 64):
                    yield f"{use}: {option} was {length}"
            if use.options.get("offset") != "slave":
                yield f"{use}: the address of {port} comes through no register"
    for bundle, elements in bundles.items():
        if len(elements) > 1:
            yield f"bundle {bundle} has elements of {sorted(elements)}"
    for port, given in modes.items():
        wanted = ["m_axi", "s_axilite"] if "m_axi" in given else ["s_axilite"]
        if sorted(given) != wanted:
            yield f"{port} has the modes {given}"
    control = {use.options.get("bundle") for use in ports if use.options["mode"] == "s_axilite"}
    if len(control) != 1:
        yield f"registers are in {len(control)} bundles"
