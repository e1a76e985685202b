#include "vmcow/cli/kit/stop_signals.hpp"

#include <csignal>
#include <vector>

namespace vmcow::cli {

namespace {

/// Leaves out ignored signals: a blocked signal reaches the descriptor even if it is ignored.
std::vector<int> wanted_signals() {
    std::vector<int> wanted;
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
        if (!sys::is_ignored(number)) wanted.push_back(number);
    }
    return wanted;
}

}  // namespace

StopSignals::StopSignals() : signals_(wanted_signals()) {}

StopSignals::~StopSignals() { signals_.drain(); }

}  // namespace vmcow::cli
