# shellcheck shell=bash
# Describes the machine of a result. Sourced, never run.

# Pairs for --benchmark_context, which treats commas and equals signs as its own.
machine_context() {
    local cpu kind=machine
    cpu=$(sed -nE 's/^(model name|Model|cpu model)[[:space:]]*:[[:space:]]*//p' /proc/cpuinfo | head -n 1 | tr ',=' '  ')
    ! grep -qw hypervisor /proc/cpuinfo || kind='virtual machine'
    printf 'cpu=%s,processors=%d,kind=%s,kernel=Linux %s' "${cpu:-$(uname -m)}" "$(nproc)" "$kind" "$(uname -r | cut -d - -f 1)"
}

# processors_of RESULT: the number of processors. machine_of RESULT: the whole machine in a sentence, with the day of
# the run.
processors_of() { jq -r '.context | .processors // .num_cpus' "$1"; }
machine_of() {
    jq -r '.context | "Measured on \(.date[:10]): \(.cpu // "a processor of unknown make"), \(.processors // .num_cpus) processors, " +
        "\(.kind // "machine"), \(.kernel // "unknown kernel")."' "$1"
}
