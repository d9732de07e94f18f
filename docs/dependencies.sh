#!/usr/bin/env bash
# dependencies.sh: how much of the binary each module is.
#
# Method: build without stripping, take the size of every symbol of code and
# data (go tool nm -size), and give it to the module whose import path its name
# begins with. Tables that the linker makes for all code together (line tables,
# types, strings) have no owner: they grow about in step with the code.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
CGO_ENABLED=0 go build -trimpath -o "$tmp/full" ./cmd/aifbench
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$tmp/small" ./cmd/aifbench
go list -deps -f '{{with .Module}}{{.Path}}{{end}}' ./cmd/aifbench | sort -u | grep . >"$tmp/modules"
# Families: what comes only because of one direct dependency counts with it.
cat >"$tmp/family" <<'X'
github.com/STARRY-S/zip github.com/mholt/archiver/v4
github.com/andybalholm/brotli github.com/mholt/archiver/v4
github.com/bodgit/ github.com/mholt/archiver/v4
github.com/dsnet/compress github.com/mholt/archiver/v4
github.com/golang/snappy github.com/mholt/archiver/v4
github.com/hashicorp/ github.com/mholt/archiver/v4
github.com/klauspost/pgzip github.com/mholt/archiver/v4
github.com/nwaples/ github.com/mholt/archiver/v4
github.com/pierrec/ github.com/mholt/archiver/v4
github.com/sorairolake/ github.com/mholt/archiver/v4
github.com/therootcompany/ github.com/mholt/archiver/v4
github.com/ulikunitz/ github.com/mholt/archiver/v4
go4.org github.com/mholt/archiver/v4
golang.org/x/text github.com/mholt/archiver/v4
github.com/clipperhouse/ github.com/olekukonko/tablewriter
github.com/fatih/ github.com/olekukonko/tablewriter
github.com/mattn/ github.com/olekukonko/tablewriter
github.com/olekukonko/ github.com/olekukonko/tablewriter
github.com/cespare/ github.com/olekukonko/tablewriter
github.com/prometheus/client_model github.com/prometheus/common
google.golang.org/protobuf github.com/prometheus/common
X
go tool nm -size "$tmp/full" | awk -v modules="$tmp/modules" -v families="$tmp/family" '
	BEGIN {
		while ((getline m < modules) > 0) mod[++n] = m
		while ((getline line < families) > 0) { split(line, f, " "); from[++k] = f[1]; to[k] = f[2] }
	}
	{
		size = $2; kind = $3; name = $4
		if (kind ~ /[bB]/ || size > 8000000) next # not in the file
		sub(/^type:\.(eq|hash)\./, "", name)
		owner = "standard library, runtime and shared tables"
		for (i = 1; i <= n; i++) if (index(name, mod[i] "/") == 1 || index(name, mod[i] ".") == 1) { owner = mod[i]; break }
		for (i = 1; i <= k; i++) if (index(owner, from[i]) == 1) { owner = to[i]; break }
		sum[owner] += size
	}
	END { for (o in sum) printf "%9.0f KiB  %s\n", sum[o] / 1024, o }' | sort -rn
printf '%9.1f MiB  the binary, static and stripped\n' "$(stat -c %s "$tmp/small" | awk '{print $1 / 1048576}')"
