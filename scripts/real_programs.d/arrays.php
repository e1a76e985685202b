<?php
// arrays.php one|all passed|own
//
// A process builds an array and forks. The child changes one element or all, either of its own array or of an array that
// a function gets while the caller still has it. Prints how many bytes the child's change took, as PHP counts them.

const ELEMENTS = 1_000_000;
const LOOK_SECONDS = 1;  // the time that a watch has before and after the change

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
