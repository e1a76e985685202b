<?php
// arrays.php one|all passed|own
//
// A process builds an array and forks. The child changes one element of it, or all: of an array passed to a function,
// which the caller still has, or of its own. Prints what PHP says the child's change took, in bytes.

const ELEMENTS = 1_000_000;
const LOOK_SECONDS = 1;  // whoever watches has this long before the change and after it

function change(array $numbers, int $count): int {
    for ($i = 0; $i < $count; ++$i) {
        $numbers[$i] = -1 - $i;
    }
    $used = memory_get_usage();
    sleep(LOOK_SECONDS);
    return $used;
}

[, $which, $whose] = $argv;
$count = $which === 'one' ? 1 : ELEMENTS;
$numbers = range(1, ELEMENTS);
sleep(LOOK_SECONDS);
if (pcntl_fork() > 0) {
    pcntl_wait($status);
    exit(pcntl_wexitstatus($status));
}
sleep(LOOK_SECONDS);
$before = memory_get_usage();
if ($whose === 'passed') {
    $used = change($numbers, $count);
} else {
    for ($i = 0; $i < $count; ++$i) {
        $numbers[$i] = -1 - $i;
    }
    $used = memory_get_usage();
    sleep(LOOK_SECONDS);
}
echo $used - $before, "\n";
