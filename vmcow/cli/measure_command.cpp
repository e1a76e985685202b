#include "vmcow/cli/measure_command.hpp"

#include <memory>

#include "vmcow/cli/command_line.hpp"
#include "vmcow/cli/measure_options.hpp"
#include "vmcow/cli/measure_output.hpp"
#include "vmcow/cli/measure_run.hpp"

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
        "measure", "Write to a private view of an image, and show what copy-on-write cost beside what a model expects");
    add_measure_options(*verb, *options);
    verb->footer(
        "Patterns:\n"
        "  uniform     anywhere, each place equally likely\n"
        "  sequential  one behind the other, from the start again at the end\n"
        "  stride      one in each page, page after page; each lap behind the bytes of the last\n"
        "  zipf        the r-th most popular page with weight r^-0.99, scattered over the image\n"
        "  hot         90 % into the first tenth of the image, the others into the rest\n"
        "\n"
        "Behind the figures stands what the same changes would have copied in blocks from 4 bytes to 2 MiB.\n"
        "\n"
        "Exit status: 0; 1 past a budget, or where there is not enough memory; 2 for a wrong command line; 77 where "
        "the\n"
        "kernel lacks what was asked for.\n"
        "\n"
        "Example: vmcow measure --size 1G --writes 1000000 --write-bytes 64 --pattern zipf --json\n"
        "         vmcow measure --children 8 --writes 1000 --budget copied=64M,amplification=600");
    verb->callback([options, verb] { run(*options, *verb); });
}

}  // namespace vmcow::cli
