// Tests traces of writes: both file forms, refused content, and replaying a trace as a workload.
#include "vmcow/meter/model/trace.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/support.hpp"
#include "vmcow/meter/model/index_set.hpp"
#include "vmcow/meter/model/model.hpp"
#include "vmcow/meter/model/workload.hpp"
#include "vmcow/meter/run/run_workload.hpp"

namespace {

using namespace vmcow::meter;

std::vector<TracedWrite> writes_of(const Trace& trace) { return {trace.writes().begin(), trace.writes().end()}; }

/// The message with which `content` is refused; empty when it is a trace.
std::string rejection(std::string_view content) {
    try {
        static_cast<void>(parse_trace(content, "t"));
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return {};
}

const Trace& example() {
    static const Trace trace({{4096, 8}, {0, 5000}, {4096, 8}});
    return trace;
}

/// The binary example with `number` written at `offset`.
template <class Number>
std::string damaged(std::size_t offset, Number number) {
    std::string content = example().binary();
    std::memcpy(content.data() + offset, &number, sizeof(number));
    return content;
}

TEST(TraceTest, OrderIsKept) {
    EXPECT_EQ(writes_of(parse_trace(example().binary(), "t")), writes_of(example()));
    EXPECT_EQ(writes_of(parse_trace(example().csv(), "t")), writes_of(example()));
    EXPECT_EQ(example().end_bytes(), 5000U);
}

RC_GTEST_PROP(TraceTest, BothFormsHoldTheSame, (const std::vector<std::pair<std::uint32_t, std::uint16_t>>& numbers)) {
    std::vector<TracedWrite> writes{{1, 1}};
    for (const auto& [offset, bytes] : numbers) writes.push_back({offset, std::uint64_t{bytes} + 1});
    const Trace trace(writes);
    RC_ASSERT(writes_of(parse_trace(trace.binary(), "t")) == writes);
    RC_ASSERT(writes_of(parse_trace(trace.csv(), "t")) == writes);
}

TEST(TraceTest, BinaryFormIsAsDocumented) {
    const std::string content = Trace({{0x0102, 3}}).binary();
    EXPECT_EQ(content, std::string("vmcowtrc\1\0\0\0\4\3\2\1\1\0\0\0\0\0\0\0\2\1\0\0\0\0\0\0\3\0\0\0\0\0\0\0", 40));
}

TEST(TraceTest, CsvMayHaveAHeaderBlanksHexadecimalNumbersAndNoLastNewline) {
    const std::vector<TracedWrite> expected{{16, 8}, {31, 1}};
    for (const char* content : {"offset,length\n16,8\n31,1\n", "16,8\n31,1", "offset, length\r\n16,8\r\n31,1\r\n",
                                " 0x10 ,\t8\n\n0X1F,1\n\n"}) {
        EXPECT_EQ(writes_of(parse_trace(content, "t")), expected) << content;
    }
}

/// The message with which a file that holds `content` is refused, without the folder; empty when it is a trace.
std::string rejection_of_file(const std::string& content, std::size_t most) {
    const tests::TemporaryDirectory folder;
    std::ofstream(folder / "t") << content;
    try {
        static_cast<void>(read_trace(folder / "t", most));
    } catch (const std::invalid_argument& error) {
        return std::string(error.what()).substr(folder.path().string().size() + 1);
    }
    return {};
}

TEST(TraceTest, MoreWritesThanAskedForAreRefusedInBothForms) {
    const std::string three = "offset,length\n1,1\n2,1\n3,1";
    EXPECT_EQ(rejection_of_file(three, 3), "");
    EXPECT_EQ(rejection_of_file(three, 2), "t: more lines than a trace can have, 2");
    EXPECT_EQ(rejection_of_file(example().binary(), 3), "");
    EXPECT_EQ(rejection_of_file(example().binary(), 2), "t: more writes than a trace can have, 2");
    // Empty lines count too: a file could have an endless number of them.
    EXPECT_EQ(rejection_of_file(std::string(1000, '\n'), 10), "t: more lines than a trace can have, 10");
}

// Text that is read in pieces must give the same trace wherever the pieces end.
TEST(TraceTest, TextOfManyPiecesIsReadWhole) {
    std::vector<TracedWrite> writes;
    for (std::uint64_t i = 0; i < 300'000; ++i) writes.push_back({i * 12345, i % 100 + 1});
    const std::string text = Trace(writes).csv();
    ASSERT_GT(text.size(), std::size_t{3} << 20);
    EXPECT_EQ(writes_of(parse_trace(text, "t")), writes);
    EXPECT_EQ(rejection(text + "x"), "t: line 300002: no offset and length with a comma between them");
}

TEST(TraceTest, LineWithoutAnEndIsNoTrace) {
    EXPECT_EQ(rejection(std::string(std::size_t{3} << 20, ' ')), "t: not a trace: line 1 is too long");
    EXPECT_EQ(rejection("1,1\n" + std::string(std::size_t{3} << 20, '7')), "t: not a trace: line 2 is too long");
}

TEST(TraceTest, WhatIsNoTraceIsRejectedByPlaceAndReason) {
    const std::string whole = example().binary();
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"", "t: a trace without writes"},
        {"offset,length\n", "t: a trace without writes"},
        {"offset,bytes\n1,1\n", "t: line 1: 'offset' is not a whole number"},
        {"1,1\noffset,length\n", "t: line 2: 'offset' is not a whole number"},
        {"1,1\n2\n", "t: line 2: no offset and length"},
        {"1,1,1\n", "t: line 1: '1,1' is not a whole number"},
        {"1,\n", "t: line 1: '' is not a whole number"},
        {"0x,1\n", "t: line 1: '0x' is not a whole number"},
        {"-1,1\n", "t: line 1: '-1' is not a whole number"},
        {"1.5,1\n", "t: line 1: '1.5' is not a whole number"},
        {"1,1\n\n5,0\n", "t: line 3: a write of 0 bytes"},
        {"1,99999999999999999999\n", "t: line 1: '99999999999999999999' is more than 64 bits can count"},
        {"18446744073709551615,8\n", "t: line 1: a write of 8 bytes at 18446744073709551615 is out of range"},
        {"1,18446744073709551615\n", "out of range"},
        {"\x7f"
         "ELF\2\1\1",
         "t: not a trace"},
        {std::string("1,1\n\0", 5), "t: not a trace"},
        {"vmcowtrc", "t: truncated: it ends within its header"},
        {whole.substr(0, 23), "t: truncated: it ends within its header"},
        {whole.substr(0, 24), "t: truncated: it ends in entry 1 of 3"},
        {whole.substr(0, whole.size() - 1), "t: truncated: it ends in entry 3 of 3"},
        {whole + "x", "t: not a trace: it goes on behind its 3 entries"},
        {damaged<std::uint32_t>(8, 2), "t: a trace of version 2"},
        {damaged<std::uint32_t>(12, 0x04030201), "t: a trace in the other byte order"},
        {damaged<std::uint32_t>(12, 7), "t: not a trace: the mark of the byte order"},
        {damaged<std::uint64_t>(16, 0), "t: a trace without writes"},
        {damaged(16, std::numeric_limits<std::uint64_t>::max()),
         "t: truncated: it ends in entry 4 of 18446744073709551615"},
        {damaged<std::uint64_t>(40, std::uint64_t{1} << 60), "t: entry 2: a write of 5000 bytes"},
        {damaged<std::uint64_t>(48, 0), "t: entry 2: a write of 0 bytes"},
    };
    for (const auto& [content, reason] : cases) {
        EXPECT_NE(rejection(content).find(reason), std::string::npos) << rejection(content) << "; not: " << reason;
    }
}

TEST(TraceTest, WritesThatNoTraceCanHaveAreRejectedByNumber) {
    const auto message = [](std::vector<TracedWrite> writes) {
        try {
            static_cast<void>(Trace(std::move(writes)));
        } catch (const std::invalid_argument& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    EXPECT_NE(message({}).find("without writes"), std::string::npos);
    EXPECT_NE(message({{0, 1}, {0, 0}}).find("write 2"), std::string::npos);
    EXPECT_NE(message(std::vector<TracedWrite>(1 << 19, {0, kLargestImage})).find("64 bits"), std::string::npos);
}

TEST(TraceTest, FileIsReadWhateverItsFormAndLength) {
    const tests::TemporaryDirectory folder;
    std::vector<TracedWrite> writes;
    for (std::uint64_t i = 0; i < 200'000; ++i) writes.push_back({i * 7919 % 1'000'003, i % 13 + 1});
    const Trace trace(writes);
    for (const bool binary : {true, false}) {
        const std::string path = folder / "writes";
        std::ofstream(path, std::ios::binary) << (binary ? trace.binary() : trace.csv());
        EXPECT_EQ(writes_of(read_trace(path)), writes);
    }
}

TEST(TraceTest, FileThatIsNotThereIsEnoentAndADirectoryIsEisdir) {
    const tests::TemporaryDirectory folder;
    EXPECT_EQ(tests::error_of([&] { static_cast<void>(read_trace(folder / "none")); }), ENOENT);
    EXPECT_EQ(tests::error_of([&] { static_cast<void>(read_trace(folder.path().string())); }), EISDIR);
}

Workload workload_of(std::vector<TracedWrite> writes) {
    return replay(std::make_shared<const Trace>(std::move(writes)));
}

TEST(TraceWorkloadTest, SequenceReplaysTheTraceInItsOrderAndLengths) {
    const Workload workload = workload_of(writes_of(example()));
    EXPECT_EQ(workload.size_bytes, 8192U);
    EXPECT_EQ(workload.logical_bytes(), 5016U);
    WriteSequence sequence(workload);
    for (const TracedWrite& expected : example().writes()) {
        const Write write = sequence.next();
        EXPECT_EQ((TracedWrite{write.offset, write.bytes}), expected);
        EXPECT_FALSE(write.same);
    }
    EXPECT_EQ(sequence.next().offset, 4096U) << "from the start again";
}

TEST(TraceWorkloadTest, WhatDoesNotFitIsRejectedByName) {
    const auto reason = [](const Workload& workload) {
        try {
            workload.validate();
        } catch (const std::invalid_argument& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    Workload workload = workload_of({{0, 8}, {5000, 8}});
    EXPECT_EQ(reason(workload), "");
    workload.size_bytes = 5007;
    EXPECT_NE(reason(workload).find("write 2 of the trace ends at 5008"), std::string::npos) << reason(workload);
    workload.writes = 1;
    EXPECT_EQ(reason(workload), "") << "the second is not replayed";
    workload.writes = 3;
    EXPECT_NE(reason(workload).find("more than the 2 of the trace"), std::string::npos) << reason(workload);
    workload.trace = nullptr;
    EXPECT_NE(reason(workload).find("no trace"), std::string::npos);
    EXPECT_NE(reason({.trace = std::make_shared<const Trace>(example())}).find("pattern"), std::string::npos);
}

TEST(TraceWorkloadTest, ModelIsExactForEveryBlockSize) {
    const Workload workload = workload_of({{4095, 2}, {0, 1}, {100'000, 30'000}, {4095, 2}});
    for (const std::uint64_t block : {1U, 4U, 64U, 4096U, 65536U, 1U << 21}) {
        std::vector<bool> touched(130'001 / block + 1);
        for (const TracedWrite& write : workload.trace->writes()) {
            for (std::uint64_t at = write.offset; at < write.offset + write.bytes; ++at) touched[at / block] = true;
        }
        const Expectation expected = expect_copied(workload, block);
        EXPECT_EQ(expected.blocks, static_cast<double>(std::count(touched.begin(), touched.end(), true))) << block;
        EXPECT_EQ(expected.sigma, 0.0);
    }
}

TEST(TraceWorkloadTest, RunCopiesExactlyWhatTheTraceTouches) {
    const WorkloadRun run = run_workload(workload_of({{4095, 2}, {3 << 20, 1}, {100'000, 30'000}, {4095, 2}}));
    EXPECT_EQ(run.figures.copied.value, 2U + 1U + 8U);
    EXPECT_EQ(run.residual(), 0.0);
    EXPECT_EQ(run.figures.logical_bytes, 30'005U);
    EXPECT_EQ(run.figures.distinct_bytes, 30'003U);
    EXPECT_EQ(run.figures.changed_bytes, 30'003U);
    EXPECT_EQ(run.figures.copied.value, run.minor_faults);
}

TEST(IndexSetTest, CountsEachNumberOnce) {
    IndexSet set(1000);
    EXPECT_EQ(set.add(60, 10), 10U);
    EXPECT_EQ(set.add(0, 1000), 990U);
    EXPECT_EQ(set.add(999, 1), 0U);
}

}  // namespace
