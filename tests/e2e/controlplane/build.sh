#!/bin/sh
# Builds etcd, kube-apiserver, kube-controller-manager and kubectl from the versions
# that go.mod pins, once, into a cache folder, and prints that folder on stdout.
#
#   sh build.sh            build what is not there yet
#   sh build.sh --path     print the folder without building
#
# TRUEUP_CONTROLPLANE_CACHE changes the parent folder, GO the Go command.
# Needs Go 1.21 or newer (it fetches the toolchain that go.mod names) and, the first
# time, a Go module proxy, about 5 GB of disk for Go's caches and 5 to 30 minutes.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' "$here/go.mod")
staging=$(awk '$1 == "k8s.io/api" && $2 == "=>" { print $4 }' "$here/go.mod")
parent=${TRUEUP_CONTROLPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/trueup/controlplane}
out=$parent/$version
programs="etcd kube-apiserver kube-controller-manager kubectl"

if [ "${1:-}" = --path ]; then
	echo "$out"
	exit
fi
if [ "${staging#v0.}" != "${version#v1.}" ]; then
	echo "controlplane: go.mod pins Kubernetes $version with staging modules $staging; they must be one release" >&2
	exit 1
fi

# The stamp says what the binaries were made from, so a changed pin builds again.
inputs=$(cat "$here/go.mod" "$here/go.sum" "$here/build.sh" "$here"/cmd/*/main.go | cksum)
current() {
	[ "$(cat "$out/.built" 2>/dev/null)" = "$inputs" ] || return 1
	for program in $programs; do
		[ -x "$out/$program" ] || return 1
	done
}
if current; then
	echo "$out"
	exit
fi

go=${GO:-go}
if ! command -v "$go" >/dev/null 2>&1; then
	echo "controlplane: Go is not installed; install it (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kube-controller-manager" >&2
	exit 1
fi

mkdir -p "$out"
# Two builds at once would only make each other slow; where flock exists the second waits.
if command -v flock >/dev/null 2>&1; then
	exec 9>"$out/.lock"
	flock 9
	if current; then
		echo "$out"
		exit
	fi
fi

cd "$here"
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off
minor=${version#v1.}
minor=${minor%%.*}
published=$("$go" list -m -f '{{.Time.Format "2006-01-02T15:04:05Z"}}' k8s.io/kubernetes)
flags="-s -w"
# What /version and `kubectl version` report. A module has no commit to name.
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	flags="$flags -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor"
	flags="$flags -X $package.gitTreeState=archive -X $package.gitCommit= -X $package.buildDate=$published"
done

for program in $programs; do
	echo "controlplane: building $program for Kubernetes $version ..." >&2
	# Compiled aside and moved into place, so that a running test never meets half a file.
	"$go" build -p 2 -trimpath -ldflags "$flags" -o "$out/.$program.new" "./cmd/$program" >&2
	mv -f "$out/.$program.new" "$out/$program"
done
echo "$inputs" >"$out/.built"
echo "$out"
