#!/bin/sh
# Runs all tests but the end-to-end ones, with the race detector where there is a
# C compiler.
set -eu
race=-race
if ! command -v "$(go env CC)" >/dev/null; then
	echo "skip: no C compiler, so the tests run without the race detector" >&2
	[ -z "${CI:-}" ] || exit 1
	race=
fi
[ -z "$race" ] || export CGO_ENABLED=1
go list ./... | grep -v '/test/e2e$' | xargs go test $race -timeout 10m
