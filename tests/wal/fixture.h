// LogTest: a log on a DiskEnv beside its model, for tests that go step by step.
#pragma once

#include "tests/wal/model.h"

namespace wal_test {

class LogTest : public ::testing::Test {
 protected:
  static wal::Options make_options(std::uint64_t segment_size = 65536) {
    wal::Options options;
    options.dir = "log";
    options.identity = {7, base::NodeId(1), base::Incarnation(99)};
    options.segment_size = segment_size;
    return options;
  }

  void open() {
    log_.reset();
    auto opened = wal::Log::open(env_, options_);
    ASSERT_TRUE(opened) << opened.error().message;
    damage_ = opened->damage;
    for (std::size_t i = 0; i < base::kGroupCount; ++i) recovered_[i] = opened->groups[i];
    const std::string reason = opened->damage ? "" : difference(model_, *opened);
    ASSERT_EQ(reason, "");
    log_ = std::move(opened->log);
  }

  // `count` entries of `size` bytes behind the group's last.
  wal::Append entries(Group group, int count, std::size_t size) {
    wal::Append append;
    append.group = group;
    LogId id = model_.groups[slot_of(group)].last();
    for (int i = 0; i < count; ++i) {
      id = {model_.term, id.index.next()};
      append.entries.push_back(make_entry(random_, id, size));
    }
    return append;
  }

  base::Status append(const wal::Append& what) {
    base::Status status = log_->append_batch({what});
    if (status) model_.apply(what);
    return status;
  }
  base::Status set_floor(Group group, std::uint64_t index) {
    const GroupModel& held = model_.groups[slot_of(group)];
    const LogId floor = held.entries.at(index - held.floor.index.value - 1).id;
    base::Status status = log_->set_floor(group, floor);
    if (status) model_.set_floor(group, floor);
    return status;
  }

  std::size_t count_files(const std::string& suffix) {
    const auto paths = env_.paths();
    return static_cast<std::size_t>(std::count_if(paths.begin(), paths.end(), [&](const std::string& path) {
      return path.size() > suffix.size() && path.compare(path.size() - suffix.size(), suffix.size(), suffix) == 0;
    }));
  }

  base::Random random_{1};
  DiskEnv env_{2};
  wal::Options options_ = make_options();
  Model model_;
  std::unique_ptr<wal::Log> log_;
  std::optional<wal::Damage> damage_;
  wal::Recovered recovered_[base::kGroupCount];
};

}  // namespace wal_test
