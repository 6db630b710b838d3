#!/bin/sh
# stage.sh NAME COMMAND...: runs one stage and says how long it took, also in the
# file that STAGES names.
set -u
name=$1
shift

printf '==> %s\n' "$name"
begin=$(date +%s)
"$@"
status=$?
took=$(($(date +%s) - begin))

verdict=ok
[ "$status" -eq 0 ] || verdict=FAILED
printf '<== %s: %s after %d s\n' "$name" "$verdict" "$took"
[ -z "${STAGES:-}" ] || printf '%6d s  %s: %s\n' "$took" "$name" "$verdict" >>"$STAGES"
exit "$status"
