#!/bin/sh
# Builds the tools that others deploy with, from the versions that each folder's go.mod pins, once,
# into a cache folder.
#
#   sh build.sh                 build all that is not there yet
#   sh build.sh helm3 flux      build these
#   sh build.sh --path helm3    print a tool's folder without building
#
# TRUEUP_TOOLS_CACHE changes the parent folder, GO the Go command. Needs Go and, the first time, a
# Go module proxy; README.md beside this folder says how long it takes.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
parent=${TRUEUP_TOOLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/trueup/tools}
if [ "${1:-}" = --path ]; then
	echo "$parent/$2"
	exit
fi

go=${GO:-go}
if ! command -v "$go" >/dev/null 2>&1; then
	echo "tools: Go is not installed; install it (https://go.dev/dl), or go without: their tests are skipped" >&2
	exit 1
fi
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off

# build TOOL: what its folder's go.mod names as tools, each under its own name.
build() {
	tool=$1 out=$parent/$1
	mkdir -p "$out"
	# Two builds at once would only make each other slow; where flock exists the second waits.
	if command -v flock >/dev/null 2>&1; then
		exec 9>"$out/.lock"
		flock 9
	fi
	inputs=$(cat "$here/$tool/go.mod" "$here/$tool/go.sum" "$here/build.sh" | cksum)
	if [ "$(cat "$out/.built" 2>/dev/null)" = "$inputs" ]; then
		return
	fi
	cd "$here/$tool"
	for package in $("$go" list tool); do
		# The field manager of Helm is what its program is called.
		program=${package##*/}
		echo "tools: building $program ($tool) ..." >&2
		"$go" build -p 2 -trimpath -ldflags "-s -w" -o "$out/.$program.new" "$package" >&2
		mv -f "$out/.$program.new" "$out/$program"
	done
	if [ "$tool" = flux ]; then
		module=$("$go" list -m -f '{{.Dir}}' github.com/fluxcd/kustomize-controller)
		cat "$module"/config/crd/bases/*.yaml >"$out/definitions.yaml"
	fi
	echo "$inputs" >"$out/.built"
}

[ $# -gt 0 ] || set -- helm3 helm4 flux
for tool in "$@"; do
	build "$tool"
done
