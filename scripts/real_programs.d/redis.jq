# The watch of a Redis that saves, with Redis's own figures beside what was counted of its child.
# $last: rdb_last_cow_size; $polls: [{time, size, age}], each current_cow_size and current_cow_size_age with its time.
include "figures";

# Redis's measure of copy-on-write: Private_Dirty in the child's smaps.
def private_bytes: .copied_bytes + .new_bytes;

# When Redis took each of its figures: one second before its age, which has whole seconds, went from 0 to 1.
def readings: [range(1; length) as $i | select(.[$i].size > 0 and .[$i].size == .[$i - 1].size
                                               and .[$i].age == 1 and .[$i - 1].age == 0)
               | {time: ((.[$i].time + .[$i - 1].time) / 2 - 1), size: .[$i].size}];

def beside($reading; $looks):
    def distance: .time - $reading.time | fabs;
    ($looks | min_by(distance)) as $look
    | ($looks | map(select(.pid == $look.pid and .time != $look.time)) | min_by(distance)) as $other
    | ($reading.time - $look.time) as $late
    | ((($other | private_bytes) - ($look | private_bytes)) / ($other.time - $look.time)) as $per_second
    | {name: "current_cow_size at \($reading.time - $looks[0].time + $looks[0].elapsed | tenths) s",
       theirs_bytes: $reading.size, ours_bytes: ($look | private_bytes),
       note: ("Redis reads it once a second while it saves, when is known to some tenth of a second. Our look nearest to that was "
              + "\($late | fabs * 1000 | round) ms \(if $late > 0 then "before" else "after" end); it grew by \($per_second | mebibytes) "
              + "a second then.")};

[.samples[] | select(.has_relative)] as $looks
| ($polls | readings | map(select(.time > $looks[0].time))) as $readings  # before the first look there is nothing to compare
| (($looks[-1] | private_bytes) - ($looks[-2] | private_bytes)) as $growth
| .title = $title
| .notes += [$note]
| .own_figures = [
    ($readings | if length > 1 then .[(length - 1) / 2 | floor], .[-1] else .[] end | beside(.; $looks)),
    {name: "rdb_last_cow_size", theirs_bytes: $last, ours_bytes: ($looks[-1] | private_bytes),
     note: ("Private_Dirty in the child's smaps at the end of the save, beside copied and new at our last look at the child; clients had "
            + "stopped writing then\(if $growth == 0 then "." else ", but from the look before it grew by \($growth | mebibytes)." end) "
            + "In theirs alone are pages that the child wrote to after that look, and those that the parent gave back to the kernel: "
            + "they are only the child's then, but nobody copied them.")}]
