#!/bin/bash
# One table of what the benchmarks have written, and one JSON of it: target/bench.json.
set -euo pipefail
cd "$(dirname "$0")/../target/bench"
printf '%-70s %12s %12s %8s %6s\n' '' tanker 'the other' ratio aim
awk -F '"' '/"what"/ { split($9, a, /[:,] */); split($11, b, /[:,] */); split($13, c, /[:,] */); printf "%-70s %8.2f %-6s %8.2f %-6s %5s %6s\n", $4, a[2], $8, b[2], $8, c[2], $16 }' ./*.json
sed -n 's/^\( *{.*}\),\{0,1\}$/\1/p' ./*.json | sed '$!s/$/,/; 1s/^/[\n/; $s/$/\n]/' > ../bench.json
echo "written: target/bench.json"
