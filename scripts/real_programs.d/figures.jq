# The figures that the printed tables take from a document of vmcow watch, and definitions that several programs share.

def tenths: . * 10 | round / 10;
def mebibytes: "\(. / 1048576 * 100 | round / 100) MiB";

# Sums over the processes that were forked while they were watched, as vmcow report has them: at the last of the moments
# at which most copied pages were compared, or most were copied; a page that the parent has copied for itself counts once,
# not in each child that has parted with it. A sum is unknown where none of them knows.
def figures:
    def total(key): map(key | values) | if length > 0 then add else null end;
    [.samples[] | select(.has_relative)] | group_by(.elapsed)
    | map({processes: length, elapsed: .[0].elapsed, resident: total(.resident_bytes), shared: total(.shared_bytes),
           copied: total(.copied_bytes - (.copied_with_sibling_pages // 0) * 4096), new: total(.new_bytes),
           changed: total(.changed_bytes), identical: total(.identical_pages), compared: total(.compared_pages)})
    | max_by([.compared // 0, .copied, .elapsed]) // {processes: 0};

def ratio($a; $b): if $a == null or ($b // 0) == 0 then null else $a / $b end;

# Rows of numbers, tab-separated; what is unknown is a question mark.
def tabbed: map(. // "?") | @tsv;

def row:
    figures as $f
    | [.title, $f.processes, $f.resident, $f.shared, $f.copied, $f.new, $f.changed,
       ratio($f.identical; $f.compared), ratio($f.compared * 4096; $f.changed)] | tabbed;

# One line for each figure that the program counts itself.
def own_rows:
    .title as $title | .own_figures // [] | .[]
    | [$title, .name, .theirs_bytes, .ours_bytes, ratio(.ours_bytes - .theirs_bytes; .theirs_bytes), .note] | tabbed;
