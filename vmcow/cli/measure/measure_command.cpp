#include "vmcow/cli/measure/measure_command.hpp"

#include <memory>
#include <string>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/measure/measure_formats.hpp"
#include "vmcow/cli/measure/measure_options.hpp"
#include "vmcow/cli/measure/measure_run.hpp"
#include "vmcow/cli/measure/workload_options.hpp"

namespace vmcow::cli {
namespace {

void run(MeasureOptions& options, const CLI::App& verb) {
    complete(options, verb);
    require_kernel();
    const MeasureResult result = run_measure(options);
    write_stdout(options.json ? measure_json(options, result) : measure_text(options, result));
    for (const BudgetFigures& figures : result.figures()) options.budget.require(figures);
}

}  // namespace

void add_measure_command(CLI::App& app) {
    const auto options = std::make_shared<MeasureOptions>();
    CLI::App* verb = app.add_subcommand(
        "measure", "Write to a private view of an image, and show what copy-on-write cost and what a model expects");
    add_measure_options(*verb, *options);
    verb->footer(
        std::string("Example: vmcow measure --size 1G --writes 1000000 --write-bytes 64 --pattern zipf --json\n"
                    "         vmcow measure --children 8 --writes 1000 --budget copied=64M,amplification=600\n"
                    "\n") +
        pattern_help() +
        "\n"
        "The last table shows what the same changes would have copied in blocks from 4 bytes to 2 MiB.\n"
        "\n"
        "Exit status: 0; 1 if a budget is exceeded or there is too little memory; 2 for a wrong command line; 77 if\n"
        "the kernel lacks what was asked for.");
    verb->callback([options, verb] { run(*options, *verb); });
}

}  // namespace vmcow::cli
