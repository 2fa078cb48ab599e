"""Scripts that complete words of `proxypool` in a shell, from the tree of commands. Pure: text from values.

Everything that is known beforehand is in the script, so that it is there at once. Names of subnets, pairs, nodes and
hosts are asked of the pool when they are wanted, for three seconds at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from proxypool.cli.tree import Command, Parameter

NAMES = ("SUBNET", "PAIR", "NODE", "HOST")
"""Metavars whose values can be asked of the pool."""
FILES = "FILE"
_METAVAR = re.compile(r"[A-Z]+")
HEAD = "# Completion of proxypool; written by `proxypool completion {}`."
_ASK = """\
_proxypool_names() {
    case $1 in
        SUBNET) timeout 3 proxypool subnet list ;;
        PAIR) timeout 3 proxypool pair list "$2" | awk '{ print $2 }' ;;
        NODE) timeout 3 proxypool node list ;;
        HOST) timeout 3 proxypool host list ;;
    esac < /dev/null 2> /dev/null | awk 'NR > 1 { print $1 }'
}
"""
_BASH = """\
_proxypool_has() { [[ " $1 " == *" $2 "* ]]; }

_proxypool() {
    local REPLY current=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]} path="" skip="" word kind="" i
    local -a given=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == "=" ]]; then skip=1; continue; fi
        if [[ -n $skip ]]; then skip=""; continue; fi
        if [[ $word == -* ]]; then
            _proxypool_data "valued:$path"
            if _proxypool_has "$REPLY" "$word"; then skip=1; fi
            continue
        fi
        _proxypool_data "commands:$path"
        if _proxypool_has "$REPLY" "$word"; then path="${path:+$path }$word"; else given+=("$word"); fi
    done
    if [[ $option == "=" ]]; then option=${COMP_WORDS[COMP_CWORD - 2]}; fi
    if [[ $current == "=" ]]; then current=""; fi
    _proxypool_data "valued:$path"
    if [[ $option == -* ]] && _proxypool_has "$REPLY" "$option"; then
        _proxypool_data "values:$path $option"
        kind=$REPLY
    elif [[ $current == -* ]]; then
        _proxypool_data "options:$path"
        COMPREPLY=($(compgen -W "$REPLY" -- "$current"))
        return
    else
        _proxypool_data "commands:$path"
        if [[ -n $REPLY ]]; then
            COMPREPLY=($(compgen -W "$REPLY" -- "$current"))
            return
        fi
        _proxypool_data "arguments:$path"
        local -a wanted=($REPLY)
        kind=${wanted[${#given[@]}]-}
    fi
    case $kind in
        "" | -) ;;
        FILE) compopt -o default 2> /dev/null; COMPREPLY=($(compgen -f -- "$current")) ;;
        SUBNET | PAIR | NODE | HOST)
            COMPREPLY=($(compgen -W "$(_proxypool_names "$kind" "${given[0]-}")" -- "$current")) ;;
        *) COMPREPLY=($(compgen -W "${kind//|/ }" -- "$current")) ;;
    esac
}

complete -F _proxypool proxypool
"""
_ZSH = """\
_proxypool() {
    emulate -L zsh
    local REPLY current=${words[CURRENT]} option=${words[CURRENT - 1]} found_path="" skip="" word kind="" i
    local -a given described
    for ((i = 2; i < CURRENT; i++)); do
        word=${words[i]}
        if [[ -n $skip ]]; then skip=""; continue; fi
        if [[ $word == -* ]]; then
            _proxypool_data "valued:$found_path"
            [[ " $REPLY " == *" $word "* ]] && skip=1
            continue
        fi
        _proxypool_data "commands:$found_path"
        if [[ " $REPLY " == *" $word "* ]]; then
            found_path="${found_path:+$found_path }$word"
        else
            given+=("$word")
        fi
    done
    _proxypool_data "valued:$found_path"
    if [[ $option == -* && " $REPLY " == *" $option "* ]]; then
        _proxypool_data "values:$found_path $option"
        kind=$REPLY
    elif [[ $current == -* ]]; then
        _proxypool_describe "options:$found_path"
        described=("${(@f)REPLY}")
        _describe option described
        return
    else
        _proxypool_describe "commands:$found_path"
        if [[ -n $REPLY ]]; then
            described=("${(@f)REPLY}")
            _describe command described
            return
        fi
        _proxypool_data "arguments:$found_path"
        local -a wanted=(${=REPLY})
        kind=${wanted[$#given + 1]-}
    fi
    case $kind in
        "" | -) return 1 ;;
        FILE) _files ;;
        SUBNET | PAIR | NODE | HOST) compadd -- ${(f)"$(_proxypool_names $kind ${given[1]-})"} ;;
        *) compadd -- ${(s:|:)kind} ;;
    esac
}

if [[ ${funcstack[1]-} == _proxypool ]]; then _proxypool "$@"; else compdef _proxypool proxypool; fi
"""
_FISH = """\
function __proxypool_words --description 'Commands, then a dash, then arguments, of the line so far'
    set -l path
    set -l given
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if string match -q -- '-*' $word
            if contains -- $word $__proxypool_valued
                set skip 1
            end
        else if contains -- (string join ' ' -- $path $word) $__proxypool_paths
            set -a path $word
        else
            set -a given $word
        end
    end
    printf '%s\\n' (string join ' ' -- $path) $given
end

function __proxypool_at --description 'Whether the line is at this command, with so many arguments if that is said'
    set -l found (__proxypool_words)
    test "$found[1]" = "$argv[1]"
    and begin
        test (count $argv) = 1
        or test (math (count $found) - 1) = $argv[2]
    end
end

function __proxypool_names
    switch $argv[1]
        case SUBNET
            timeout 3 proxypool subnet list 2> /dev/null < /dev/null | awk 'NR > 1 { print $1 }'
        case PAIR
            set -l found (__proxypool_words)
            timeout 3 proxypool pair list $found[2] 2> /dev/null < /dev/null | awk 'NR > 1 { print $2 }'
        case NODE
            timeout 3 proxypool node list 2> /dev/null < /dev/null | awk 'NR > 1 { print $1 }'
        case HOST
            timeout 3 proxypool host list 2> /dev/null < /dev/null | awk 'NR > 1 { print $1 }'
    end
end

complete -c proxypool -f
"""


def kind_of(parameter: Parameter) -> str:
    """What completes a value: a name of `NAMES`, `FILE`, choices as `a|b`, or nothing."""
    if parameter.choices:
        return "|".join(parameter.choices)
    if parameter.is_file:
        return FILES
    word = _METAVAR.match(parameter.metavar)
    return word[0] if word is not None and word[0] in NAMES else ""


def bash(root: Command) -> str:
    """For bash 4 or newer."""
    return "\n".join((HEAD.format("bash"), "", _data(root), _ASK, _BASH))


def zsh(root: Command) -> str:
    """For zsh, in a directory of `$fpath` as `_proxypool`, or read by `source`."""
    return "\n".join(("#compdef proxypool", HEAD.format("zsh"), "", _data(root), _described(root), _ASK, _ZSH))


def fish(root: Command) -> str:
    """For fish."""
    paths = [" ".join(command.path) for command in root.walk() if command.path]
    valued = sorted({name for command in root.walk() for one in command.options if one.metavar for name in one.names})
    head = [
        HEAD.format("fish"),
        "",
        f"set -g __proxypool_paths {' '.join(map(_quoted, paths))}",
        f"set -g __proxypool_valued {' '.join(valued)}",
        "",
    ]
    return "\n".join((*head, _FISH, *_fish_lines(root), ""))


def _fish_lines(root: Command) -> Iterator[str]:
    for command in root.walk():
        at = f"-n \"__proxypool_at '{' '.join(command.path)}'\""
        for below in command.commands:
            yield f"complete -c proxypool {at} -a {below.path[-1]} -d {_quoted(below.summary)}"
        for option in (*command.options, _HELP):
            yield f"complete -c proxypool {at} {_fish_option(option)} -d {_quoted(option.help)}"
        for place, argument in enumerate(command.arguments):
            words = _fish_words(kind_of(argument))
            if words:
                there = f"-n \"__proxypool_at '{' '.join(command.path)}' {place}\""
                yield f"complete -c proxypool {there} {words}"


def _fish_option(option: Parameter) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    if not option.metavar:
        return names
    kind = kind_of(option)
    return f"{names} -r -F" if kind == FILES else f"{names} -x {_fish_words(kind)}".rstrip()


def _fish_words(kind: str) -> str:
    if not kind:
        return ""
    if kind == FILES:
        return "-F"
    return f"-a '(__proxypool_names {kind})'" if kind in NAMES else f"-a {_quoted(kind.replace('|', ' '))}"


_HELP = Parameter(
    names=("--help", "-h"), metavar="", help="Show this.", is_option=True, is_required=False, is_repeatable=False
)


def _data(root: Command) -> str:
    """A function of what is known: it sets REPLY to words."""
    return _function("_proxypool_data", _data_cases(root))


def _data_cases(root: Command) -> Iterator[tuple[str, str]]:
    for command in root.walk():
        path = " ".join(command.path)
        yield f"commands:{path}", " ".join(below.path[-1] for below in command.commands)
        yield f"options:{path}", " ".join(name for one in (*command.options, _HELP) for name in one.names)
        yield f"valued:{path}", " ".join(name for one in command.options if one.metavar for name in one.names)
        # A placeholder keeps the places of those that follow.
        yield f"arguments:{path}", " ".join(kind_of(one) or "-" for one in command.arguments)
        for option in command.options:
            for name in option.names:
                yield f"values:{path} {name}", kind_of(option) if option.metavar else ""


def _described(root: Command) -> str:
    """The same with descriptions, `name:text` on each line."""
    return _function("_proxypool_describe", _described_cases(root))


def _described_cases(root: Command) -> Iterator[tuple[str, str]]:
    for command in root.walk():
        path = " ".join(command.path)
        yield f"commands:{path}", "\n".join(f"{one.path[-1]}:{one.summary}" for one in command.commands)
        options = (*command.options, _HELP)
        yield f"options:{path}", "\n".join(f"{name}:{one.help}" for one in options for name in one.names)


def _function(name: str, cases: Iterator[tuple[str, str]]) -> str:
    lines = [f"    {_quoted(key)}) REPLY={_quoted(value)} ;;" for key, value in cases if value]
    return "\n".join((f"{name}() {{", '    REPLY=""', "    case $1 in", *lines, "    esac", "}", ""))


def _quoted(text: str) -> str:
    """For any of the three shells."""
    return "'" + text.replace("'", "'\\''") + "'"
