# shellcheck shell=bash
# Shared by the scripts, which source this file from the project's root.

# Packages of Debian 12, by the script that needs them.
# shellcheck disable=SC2034  # the scripts that source this file use them
build_packages=(cmake ninja-build g++ pkg-config libfmt-dev libcli11-dev nlohmann-json3-dev libboost-dev liburing-dev
    libtomlplusplus-dev libdw-dev libjs-chart.js libxxhash-dev libgtest-dev librapidcheck-dev libbenchmark-dev ccache
    musl-dev strace libbz2-dev liblzma-dev)
# shellcheck disable=SC2034
tidy_packages=(clang-tidy jq) format_packages=(clang-format) bench_packages=(jq) browser_packages=(chromium)
# shellcheck disable=SC2034
peer_packages=(php-cli python3 rustc cargo librust-im-rc-dev)
# redis-tools has the server too, in the same file; the server's own package would start one, now and at each boot.
# shellcheck disable=SC2034
real_programs_packages=(jq) redis_packages=(redis-tools) gunicorn_packages=(gunicorn curl) puma_packages=(puma curl)
# shellcheck disable=SC2034
php_packages=(php-cli)

# Both print one line on stderr. The exit status is 2 for a wrong command line and 1 for a failure.
usage_error() {
    printf '%s: %s (see --help)\n' "${0##*/}" "$*" >&2
    exit 2
}
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

headline() { printf '\n== %s\n' "$*"; }

# Prints the comment at the top of the script as help. `self` is the path of the script.
print_help() {
    # shellcheck disable=SC2154  # every script sets it
    sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$self"
    exit 0
}

# Runs a command and shows its output only when it fails.
quietly() {
    local output
    output=$("$@" 2>&1) || {
        printf '%s\n' "$output" >&2
        fail "failed: $*"
    }
}

# Prints the named packages that are not installed, one per line.
missing_packages() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# Installs the named packages that are missing, after saying which.
install_packages() {
    local missing as_root=()
    command -v dpkg-query >/dev/null || fail "no dpkg-query here: install $* in this system's way, then use --no-install"
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -gt 0 ] || return 0
    printf 'Installing %d packages: %s\n' "${#missing[@]}" "${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "neither root nor sudo: install ${missing[*]} as root, then use --no-install"
        as_root=(sudo)
    fi
    # Waits for another apt on the machine, such as unattended upgrades, instead of failing.
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    quietly "${apt[@]}" update
    quietly "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
}

# build PRESET [FLAG...]: configures and builds; the flags are those of cmake --build. On a terminal Ninja shows its
# progress; in a log only what goes wrong is worth a line. `run_under` is what the build runs under, as in: setarch -R.
run_under=()
ninja_flags=()
build() {
    local preset=$1 flags=("${@:2}") tool quiet=(--quiet)
    for tool in cmake ninja g++; do
        command -v "$tool" >/dev/null || fail "no $tool here: run without --no-install"
    done
    [ ! -t 1 ] || quiet=()
    # Hashes paths below the project as relative ones, so that another clone finds what this clone has compiled.
    if command -v ccache >/dev/null; then
        export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=true
        # What ccache wants to be told before it keeps anything that was compiled with precompiled headers.
        export CCACHE_SLOPPINESS=pch_defines,time_macros
    fi
    printf 'Building build/%s\n' "$preset"
    quietly cmake --preset "$preset"
    "${run_under[@]}" cmake --build --preset "$preset" "${flags[@]}" -- "${quiet[@]}" "${ninja_flags[@]}" ||
        fail "the build of preset $preset failed"
}

# The clang-format that the project uses, because versions format differently. Prints nothing where it is missing.
find_clang_format() {
    local candidate
    for candidate in clang-format-14 clang-format; do
        if "$candidate" --version 2>/dev/null | grep -q 'version 14\.'; then
            echo "$candidate"
            return
        fi
    done
}

# The project's own files, one per line, without build folders and the hidden folders of git and of editors.
project_files() {
    find . -type d \( -path ./build -o -path './.*' ! -path ./.ci \) -prune -o -type f -print |
        sed 's|^\./||' | LC_ALL=C sort
}
project_sources() { project_files | grep -E '\.(cpp|hpp)$' || true; }
