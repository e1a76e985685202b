#include "vmcow/cli/compare/compare_command.hpp"
#include "vmcow/cli/doctor/doctor_command.hpp"
#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/measure/measure_command.hpp"
#include "vmcow/cli/report/report_command.hpp"
#include "vmcow/cli/watch/watch_command.hpp"

namespace {

constexpr const char* kDescription = "Shows what passing big values to processes by value needs, and what it costs.";

void add_verbs(CLI::App& app) {
    vmcow::cli::add_doctor_command(app);
    vmcow::cli::add_measure_command(app);
    vmcow::cli::add_compare_command(app);
    vmcow::cli::add_watch_command(app);
    vmcow::cli::add_report_command(app);
}

}  // namespace

int main(int argc, char** argv) {
    const int own_words = vmcow::cli::take_watched_program(argc, argv);
    return vmcow::cli::command_main({"vmcow", kDescription, VMCOW_VERSION, add_verbs}, own_words, argv);
}
