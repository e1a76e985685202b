#!/usr/bin/env php
<?php
// A peer of `vmcow compare` (vmcow/cli/compare/peer_program.hpp): an array of PHP, which assignment shares and the
// first write copies.
ini_set('memory_limit', '-1');
// A collection of cycles might fall into the measured time; there are no cycles.
gc_disable();

function seconds_since(int $begin): float { return (hrtime(true) - $begin) / 1e9; }

function read_numbers(int $count): array {
    $numbers = [];
    while ($count > 0) {
        $some = min($count, 8192);
        $bytes = '';
        while (strlen($bytes) < 8 * $some) {
            $more = fread(STDIN, 8 * $some - strlen($bytes));
            if ($more === false || $more === '') throw new RuntimeException('the workload ends too early');
            $bytes .= $more;
        }
        foreach (unpack('P*', $bytes) as $number) $numbers[] = $number;
        $count -= $some;
    }
    return $numbers;
}

if (fread(STDIN, 8) !== 'vmcowcmp') throw new RuntimeException('no workload');
[$version, $words, $children, $write_count, $read_count] = read_numbers(5);
if ($version !== 1) throw new RuntimeException("a workload of version $version");
$indices = $masks = $bits = [];
$whole = true;
for ($left = $write_count; $left > 0; $left -= $some) {
    $some = min($left, 4096);
    foreach (array_chunk(read_numbers(3 * $some), 3) as [$index, $mask, $new]) {
        $indices[] = $index;
        $masks[] = $mask;
        $bits[] = $new;
        $whole = $whole && $mask === -1;
    }
}
$reads = read_numbers($read_count);

$unused = memory_get_usage();
$begin = hrtime(true);
$value = [];
for ($x = 1; $x <= $words; ++$x) $value[] = $x ^ $x << 21 ^ $x << 42;
$build_seconds = seconds_since($begin);
$before = memory_get_usage() - $unused;

$kept = [];
$hand_over_seconds = $write_seconds = $read_seconds = 0.0;
$checksum = 0;
for ($child = 0; $child < $children; ++$child) {
    $begin = hrtime(true);
    $mine = $value;
    $hand_over_seconds += seconds_since($begin);
    $begin = hrtime(true);
    if ($whole) {
        foreach ($indices as $at => $index) $mine[$index] = $bits[$at];
    } else {
        foreach ($indices as $at => $index) $mine[$index] = $mine[$index] & ~$masks[$at] | $bits[$at];
    }
    $write_seconds += seconds_since($begin);
    $begin = hrtime(true);
    $checksum = 0;
    foreach ($reads as $index) $checksum = ($checksum << 5 | $checksum >> 59 & 31) ^ $mine[$index];
    $read_seconds += seconds_since($begin);
    $kept[] = $mine;
    unset($mine);
}

echo json_encode([
    'build_seconds' => $build_seconds,
    'hand_over_seconds' => $hand_over_seconds,
    'write_seconds' => $write_seconds,
    'read_seconds' => $read_seconds,
    'memory_before_bytes' => $before,
    'memory_after_bytes' => memory_get_usage() - $unused,
    'copied_bytes' => null,
    'checksum' => sprintf('%016x', $checksum),
    'about' => 'PHP ' . PHP_VERSION . ', memory from memory_get_usage()',
]), "\n";
