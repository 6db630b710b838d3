#!/bin/sh
# fuzz.sh [SECONDS [BUDGET]]: runs every fuzz target of the module for SECONDS,
# less each where they would take more than BUDGET seconds together.
set -eu
each=${1:-5}
budget=${2:-0}

out=$(mktemp)
trap 'rm -f "$out" "$out.all"' EXIT
trap 'exit 130' INT TERM

go test -vet=off -run '^$' -list '^Fuzz' ./... >"$out" || {
	cat "$out"
	exit 1
}
awk '/^Fuzz/ { name[n++] = $1 } $1 == "ok" { for (i = 0; i < n; i++) print $2, name[i]; n = 0 }' "$out" >"$out.all"

count=$(wc -l <"$out.all")
if [ "$budget" -gt 0 ] && [ $((count * each)) -gt "$budget" ]; then
	each=$((budget / count))
	[ "$each" -gt 0 ] || each=1
fi
echo "$count targets, $each s each"

run() { go test -vet=off -run '^$' -fuzz "^$2\$" -fuzztime "${each}s" -fuzzminimizetime 10s "$1" >"$out" 2>&1 </dev/null; }

failed=0
while read -r package target; do
	status=ok
	# The time-out of a worker at the very end is no finding: once more.
	run "$package" "$target" || { ! grep -q 'Failing input' "$out" && grep -q 'context deadline exceeded' "$out" && run "$package" "$target"; } || status=FAILED
	echo "$status $package $target: $(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$out" | tail -1) executions"
	if [ "$status" = FAILED ]; then
		failed=1
		cat "$out"
	fi
done <"$out.all"
exit "$failed"
