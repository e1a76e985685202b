#include "vmcow/meter/watch/page_lineage.hpp"

namespace vmcow::meter {
namespace {

bool have_frames(const PageSeen& a, const PageSeen& b) { return a.frame != 0 && b.frame != 0; }

/// Whether the page is known to be another one than before.
bool moved(const PagePair& pair) { return have_frames(pair.before, pair.now) && pair.before.frame != pair.now.frame; }
bool stayed(const PagePair& pair) { return have_frames(pair.before, pair.now) && pair.before.frame == pair.now.frame; }

/// Which of a child and a parent made the copy, when each has a page. `none` if they may still share the page, or if
/// another look is needed.
PageWriter by_frames(const PagePair& child, const PagePair& parent) {
    if (child.now.frame == parent.now.frame) return PageWriter::none;
    // If the kernel moves a shared page, its number changes for both, but both were looked at at different times.
    if (!child.now.exclusive && !parent.now.exclusive) return PageWriter::none;
    if (stayed(child)) return PageWriter::parent;
    if (stayed(parent) || moved(child)) return PageWriter::child;
    if (moved(parent)) return PageWriter::parent;
    return PageWriter::unknown;
}

PageWriter by_faults(const LineageContext& context) {
    if (!context.parent_faulted) return PageWriter::child;
    return context.child_faulted ? PageWriter::unknown : PageWriter::parent;
}

/// Which side made the copy, by which side has its page alone. A huge page that is still mapped as one has not been
/// written to since the fork: a write would have split it.
PageWriter by_exclusion(const PagePair& child, const PagePair& parent, const LineageContext& context) {
    const bool child_alone = child.now.exclusive;
    const bool parent_alone = parent.now.exclusive;
    if (child.now.huge && parent.now.huge) {
        return child_alone && parent_alone ? PageWriter::unknown : PageWriter::none;
    }
    if (child.now.huge) return parent_alone ? PageWriter::parent : PageWriter::none;
    if (parent.now.huge) return child_alone ? PageWriter::child : PageWriter::none;
    if (child_alone) return parent_alone ? by_faults(context) : PageWriter::child;
    // The child still has the page that the two shared, so the parent has another one.
    if (parent_alone && !context.child_faulted) return PageWriter::parent;
    // The child was looked at first. The parent may have been left alone since, unless it was alone before as well.
    return parent_alone && parent.before.present && parent.before.exclusive ? PageWriter::parent : PageWriter::none;
}

PageWriter writer_of(const PagePair& child, const PagePair& parent, const LineageContext& context) {
    if (!child.now.present || !parent.now.present) return PageWriter::none;
    if (!have_frames(child.now, parent.now)) return by_exclusion(child, parent, context);
    const PageWriter writer = by_frames(child, parent);
    return writer == PageWriter::unknown ? by_exclusion(child, parent, context) : writer;
}

PageLineage own_page(const LineageContext& context) {
    if (context.private_file) return {PageOrigin::file, PageWriter::child, false};
    return {PageOrigin::fresh, PageWriter::none, false};
}

/// The lineage of a page at the first look at a child. What the page was before is what the parent had.
PageLineage inherited_page(const PageSeen& now, const PagePair& parent, const LineageContext& context) {
    const bool parent_had = parent.now.exists() || (context.parent_known && parent.before.exists());
    if (!parent_had) return now.exclusive ? own_page(context) : PageLineage{PageOrigin::inherited, {}, false};
    if (!parent.now.exists()) return {PageOrigin::kept, {}, false};
    const PagePair at_fork = {context.parent_known ? parent.before : PageSeen{}, now};
    const bool known = context.parent_known && parent.before.exists();
    PageWriter writer = writer_of(at_fork, parent, context);
    // No look before is needed here: a page that only the child and others share was left to them by the parent.
    if (writer == PageWriter::none && parent.now.present && parent.now.exclusive && !parent.now.huge && now.present &&
        !now.exclusive && !have_frames(now, parent.now) && known && !parent.before.exclusive) {
        writer = PageWriter::parent;
    }
    return {PageOrigin::inherited, writer, writer != PageWriter::none && !known};
}

}  // namespace

PageLineage follow(PageLineage was, const PagePair& child, const PagePair& parent,
                   const LineageContext& context) noexcept {
    if (!child.now.exists()) return {};
    if (was.origin == PageOrigin::none) {
        if (!context.first_look || context.all_new) return own_page(context);
        if (context.has_parent) return inherited_page(child.now, parent, context);
        return context.private_file ? own_page(context) : PageLineage{PageOrigin::unknown, {}, false};
    }
    if (was.origin != PageOrigin::inherited || was.copied_by != PageWriter::none) return was;
    if (!context.has_parent) return {PageOrigin::kept, {}, false};
    if (!parent.now.exists() || !parent.before.exists()) {
        const bool wrote = moved(child) && child.now.exclusive;
        return wrote ? PageLineage{PageOrigin::inherited, PageWriter::child, false}
                     : PageLineage{PageOrigin::kept, {}, false};
    }
    was.copied_by = writer_of(child, parent, context);
    return was;
}

bool is_shared(PageLineage lineage, const PageSeen& parent_now) noexcept {
    return lineage.origin == PageOrigin::inherited && lineage.copied_by == PageWriter::none && parent_now.exists();
}

}  // namespace vmcow::meter
