# The watch of arrays.php, with PHP's own figures beside what was counted of its child.
# $used: by how much memory_get_usage() grew in the change; $title and $note are the document's.
include "figures";

def private_bytes: .copied_bytes + .new_bytes;

([.samples[] | select(.has_relative)] | max_by(private_bytes)) as $most
| .title = $title | .notes += [$note]
| .own_figures = [
    {name: "memory_get_usage(), growth", theirs_bytes: $used, ours_bytes: ($most | private_bytes),
     note: (if $used == 0 then "PHP counts what it allocates; what the kernel copies for writes in place is not in it."
            else "PHP gives an array room for a power of two of elements; the pages behind the last element are not in memory. Ours, \($most.new_bytes | mebibytes) new and \($most.copied_bytes / 1024 | round) KiB copied, also has the pages of the interpreter that the child wrote to." end)}]
