# Prints one line for each row of a result: its name, the median of its times in nanoseconds or "failed", and a remark,
# separated by tabs. A result is what Google Benchmark writes, or what scripts/bench_pipelines makes of hyperfine's
# output.
def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2] + .[length / 2 - 1]) / 2 end;

# Google Benchmark appends to a name how the row was run; this is removed. A row that reported an error has no time.
def benchmark_rows:
    def ns: .real_time * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[.time_unit];
    def name: .run_name | gsub("/(iterations|repeats|threads|min_time|min_warmup_time):[^/]*|/(real|process|manual)_time"; "");
    [.benchmarks[] | select(.run_type == "iteration" or .aggregate_name == "median")]
    | reduce .[] as $row ({order: [], runs: {}}; ($row | name) as $name
        | if .runs[$name] then . else .order += [$name] end
        | .runs[$name] += [$row])
    | .runs as $runs | .order[] as $name
    | ($runs[$name] | map(select(.error_occurred | not)) | map(ns)) as $times
    | [$name, (if $times == [] then "failed" else $times | median end),
       ($runs[$name] | map(.label // .error_message // empty) | last // "")];

def shown: if . < 1 then "\(. * 1e5 | round / 100) ms" else "\(. * 1e3 | round / 1e3) s" end;
def command_rows: .results[] | [.command, .median * 1e9, "\(.min | shown) to \(.max | shown)"];

(if has("results") then command_rows else benchmark_rows end) | @tsv
