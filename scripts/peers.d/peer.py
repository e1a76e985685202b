#!/usr/bin/env python3
"""A peer of `vmcow compare` (vmcow/cli/compare/peer_program.hpp): a list of Python, of which each child gets a copy."""
import array
import gc
import json
import platform
import sys
import time

ALL = 0xFFFFFFFFFFFFFFFF


def resident_bytes():
    """The private memory of this process: of single objects Python does not know it."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return None


def read_numbers(count):
    numbers = array.array("Q")
    numbers.frombytes(sys.stdin.buffer.read(8 * count))
    if len(numbers) != count:
        raise EOFError("the workload ends too early")
    return numbers


def grown_since(before):
    now = resident_bytes()
    return None if before is None or now is None else max(now - before, 0)


def main():
    if sys.stdin.buffer.read(8) != b"vmcowcmp":
        raise ValueError("no workload")
    version, words, children, write_count, read_count = read_numbers(5)
    if version != 1:
        raise ValueError(f"a workload of version {version}")
    writes = read_numbers(3 * write_count)
    indices, masks, bits = list(writes[0::3]), list(writes[1::3]), list(writes[2::3])
    whole = all(mask == ALL for mask in masks)
    reads = list(read_numbers(read_count))
    gc.disable()  # there are no cycles, and looking for them would be measured

    unused = resident_bytes()
    begin = time.perf_counter()
    value = [(x ^ x << 21 ^ x << 42) & ALL for x in range(1, words + 1)]
    build_seconds = time.perf_counter() - begin
    before = grown_since(unused)

    kept = []
    hand_over_seconds = write_seconds = read_seconds = 0.0
    checksum = 0
    for _ in range(children):
        begin = time.perf_counter()
        mine = value.copy()
        hand_over_seconds += time.perf_counter() - begin
        begin = time.perf_counter()
        if whole:
            for index, new in zip(indices, bits):
                mine[index] = new
        else:
            for index, mask, new in zip(indices, masks, bits):
                mine[index] = mine[index] & ~mask | new
        write_seconds += time.perf_counter() - begin
        begin = time.perf_counter()
        checksum = 0
        for index in reads:
            checksum = (checksum << 5 & ALL | checksum >> 59) ^ mine[index]
        read_seconds += time.perf_counter() - begin
        kept.append(mine)

    json.dump({
        "build_seconds": build_seconds,
        "hand_over_seconds": hand_over_seconds,
        "write_seconds": write_seconds,
        "read_seconds": read_seconds,
        "memory_before_bytes": before,
        "memory_after_bytes": grown_since(unused),
        "copied_bytes": 8 * words * children,  # the list is of pointers
        "checksum": f"{checksum:016x}",
        "about": f"{platform.python_implementation()} {platform.python_version()}, memory from RssAnon",
    }, sys.stdout)


main()
