# bash completion for podium: verbs and options are read off --help, so they are always those of the
# binary that is installed.
_podium() {
    local word=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} words
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="help $(podium --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }')"
    elif [[ $word == -* ]]; then
        words="--help $(podium "$verb" --help 2>/dev/null | grep -oE '^  --(\[no-\])?[a-z0-9-]+' | sed -E 's/^  //; s/\[no-\]//')"
    else
        COMPREPLY=()
        compopt -o default
        return
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _podium podium
