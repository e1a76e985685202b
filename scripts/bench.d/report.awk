# awk -f report.awk -v form=FORM -v filtered=… -v processors=N ROWS RATIOS: prints the rows of one result and their
# bars. FORM is `text`, for a terminal, or `markdown`, one table. Status 1: a bar was missed, or RATIOS has a line that
# is no bar.
# A bar over a missing row is missed, unless a filter left the row out.

function seconds(ns) {
    if (ns < 1e3) return sprintf("%.3g ns", ns)
    if (ns < 1e6) return sprintf("%.3g %s", ns / 1e3, form == "text" ? "us" : "µs")
    if (ns < 1e9) return sprintf("%.3g ms", ns / 1e6)
    return sprintf("%.3g s", ns / 1e9)
}
function shown(row) { return !(row in time) ? "not run" : time[row] == "failed" ? "failed" : seconds(time[row]) }
function number(text, parts) {
    sub(/processors$/, processors, text)
    return split(text, parts, "/") == 2 ? parts[1] / parts[2] : text + 0
}
function known(row) { return (row in time) && time[row] != "failed" && time[row] > 0 }

# Numbers below a tenth get three digits, as the bars have them.
function fraction(ratio, digits) {
    if (ratio >= 100) return sprintf("%.0f", ratio)
    if (ratio >= 0.1 || ratio <= 0) return sprintf("%.2f", ratio)
    for (digits = 1; 1 / ratio / digits >= 1000; digits *= 10) {}
    return sprintf("1/%d", int(1 / ratio / digits + 0.5) * digits)
}

# Compares the rows with the bar at `i`: sets `ratio[i]` where it is known, and `verdict[i]`.
function judge(i) {
    if (!known(row[i]) || !known(base[i]) || (more[i] != "" && !known(more[i]))) {
        verdict[i] = (filtered || optional[i]) && !(row[i] in time && base[i] in time) ? "not run" : "MISSED: no time"
    } else {
        ratio[i] = (time[row[i]] - (more[i] == "" ? 0 : time[more[i]])) / time[base[i]]
        verdict[i] = (order[i] == "<=" ? ratio[i] <= number(bar[i]) : ratio[i] >= number(bar[i])) ? "ok" : "MISSED"
    }
    missed += verdict[i] ~ /^MISSED/
}

function print_text(i, text) {
    for (i = 1; i <= rows; ++i) printf "  %-60s %10s\n", name[i], shown(name[i])
    if (bars) printf "  ratios, beside their bars:\n"
    for (i = 1; i <= bars; ++i) {
        text = row[i] " " order[i] " " bar[i] " * " base[i] (more[i] == "" ? "" : " + " more[i])
        if (i in ratio) printf "  %-60s %10.4f  %s\n", text, ratio[i], verdict[i]
        else printf "  %-60s %10s  %s\n", text, "unknown", verdict[i]
    }
    if (missed) printf "  %d of %d bars missed\n", missed, bars
}

# Prints a line for each bar, and a line for each other row that belongs to no bar.
function print_markdown(i, row_at) {
    for (i = 1; i <= bars; ++i) barred[row[i]] = beside[base[i]] = beside[more[i]] = 1
    for (i = 1; i <= rows; ++i) remarks = remarks || remark[name[i]] != ""
    print "| row | time |" (bars ? " beside | its time | ratio | bar |" : "") (remarks ? " remarks |" : "")
    print "|---|--:|" (bars ? "---|--:|--:|---|" : "") (remarks ? "---|" : "")
    for (row_at = 1; row_at <= rows; ++row_at) {
        if (name[row_at] in barred) print_bars(name[row_at])
        else if (!(name[row_at] in beside) || remark[name[row_at]] != "") {
            print "| `" name[row_at] "` | " shown(name[row_at]) " |" (bars ? " | | | |" : "") said(name[row_at])
        }
    }
    for (i = 1; i <= bars; ++i) if (!(row[i] in time)) print_bars(row[i])
}
function print_bars(of, i, ours, mark) {
    if (of in printed) return
    printed[of] = 1
    for (i = 1; i <= bars; ++i) {
        if (row[i] != of) continue
        ours = "| `" of "`" (more[i] == "" ? "" : " less `" more[i] "`") " | "
        ours = ours (more[i] == "" || !(i in ratio) ? shown(of) : seconds(time[of] - time[more[i]]))
        mark = verdict[i] == "ok" ? "" : ", " verdict[i]
        sub(/MISSED/, "**missed**", mark)
        print ours " | `" base[i] "` | " shown(base[i]) " | " ((i in ratio) ? fraction(ratio[i]) : "?") " | " \
            (order[i] == "<=" ? "≤ " : "≥ ") bar[i] mark " |" said(of)
    }
}
# Returns the remark on a row, once.
function said(of, text) {
    text = remark[of]
    gsub(/[|]/, "\\|", text)
    remark[of] = ""
    return !remarks ? "" : text == "" ? " |" : " " text " |"
}

FNR == NR {
    name[++rows] = $1
    time[$1] = $2
    remark[$1] = $3
    next
}
/^[ \t]*(#|$)/ { next }
{
    ++bars
    optional[bars] = sub(/^\?[ \t]+/, "")
    words = split($0, word, /[ \t]+/)
    if ((words != 5 && (words != 7 || word[6] != "+")) || word[2] !~ /^[<>]=$/ || word[4] != "*") {
        printf "%s:%d: not a bar: %s\n", FILENAME, FNR, $0 > "/dev/stderr"
        bad = 1
        exit
    }
    row[bars] = word[1]; order[bars] = word[2]; bar[bars] = word[3]; base[bars] = word[5]
    more[bars] = words == 7 ? word[7] : ""
    judge(bars)
}
END {
    if (bad) exit 1
    if (form == "markdown") print_markdown()
    else print_text()
    exit missed > 0
}
