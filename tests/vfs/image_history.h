// A long history of one database and its recovery after a crash: what the crash tests of the image side share.
#pragma once

#include <string>
#include <vector>

#include "tests/vfs/image_fixture.h"

namespace image_test {

// Growth, shrinking and small edits; the images are kept; jobs[i] has index i + 2.
std::vector<pages::PublishJob> make_history(Source& source, int count);
// The candidates behind `base`.
std::vector<pages::RedoCandidate> after(const Source& source, base::LogId base);
// The database as a plain reader sees it.
base::Bytes seen(const std::string& path);
// Opens what the crash left in `dir`, checks that the position's bytes are the position's, redoes the rest, closes cleanly. Where it
// stopped, the test has a fatal failure.
void recover_and_finish(const std::string& dir, const Source& source, const std::vector<pages::PublishJob>& jobs,
                        base::Index* position = nullptr);
// Database, WAL and `.sums`, as they are.
void copy_database(const std::string& from, const std::string& to);

}  // namespace image_test
