// Model: what a log should hold, as plain vectors; and the comparison of an opened log with it. Shared by the tests of wal/.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/wal/disk_env.h"
#include "wal/log.h"

namespace wal_test {

using base::Bytes;
using base::Entry;
using base::EntryKind;
using base::Group;
using base::Index;
using base::LogId;
using base::Term;

inline constexpr Group kGroups[] = {Group::kData, Group::kCache};
inline std::size_t slot_of(Group group) { return static_cast<std::size_t>(group) - 1; }

// Loops by HQL_TEST_SCALE: ci (default), hour, night.
inline int scaled(int count) {
  const char* scale = std::getenv("HQL_TEST_SCALE");
  const std::string text = scale == nullptr ? "ci" : scale;
  return text == "night" ? count * 300 : text == "hour" ? count * 30 : count;
}

struct GroupModel {
  LogId floor;
  std::vector<Entry> entries;  // floor.index + 1 ..
  Bytes hard_state;
  [[nodiscard]] LogId last() const { return entries.empty() ? floor : entries.back().id; }
};

struct Model {
  GroupModel groups[base::kGroupCount];
  Term term{1};

  void apply(const wal::Append& append) {
    GroupModel& group = groups[slot_of(append.group)];
    if (append.hard_state) group.hard_state = *append.hard_state;
    if (append.truncate_from) {
      while (!group.entries.empty() && group.entries.back().id.index >= *append.truncate_from) group.entries.pop_back();
    }
    group.entries.insert(group.entries.end(), append.entries.begin(), append.entries.end());
  }
  void set_floor(Group which, LogId floor) {
    GroupModel& group = groups[slot_of(which)];
    std::erase_if(group.entries, [&](const Entry& entry) { return entry.id.index <= floor.index; });
    group.floor = floor;
  }
  void reset(Group which, LogId floor) {
    groups[slot_of(which)].entries.clear();
    groups[slot_of(which)].floor = floor;
  }
};

inline Bytes random_bytes(base::Random& random, std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; i += 8) {
    const std::uint64_t value = random.next();
    for (std::size_t j = i; j < std::min(size, i + 8); ++j) bytes[j] = static_cast<std::byte>(value >> (8 * (j - i)));
  }
  return bytes;
}

inline Entry make_entry(base::Random& random, LogId id, std::size_t size) {
  Entry entry;
  entry.id = id;
  entry.kind = random.next() % 8 == 0 ? EntryKind::kConfig : EntryKind::kData;
  entry.payload = base::share(random_bytes(random, size));
  return entry;
}

// "" when `opened` holds what the model says, payloads included; else the first difference.
inline std::string difference(const Model& model, wal::Opened& opened) {
  for (const Group which : kGroups) {
    const GroupModel& want = model.groups[slot_of(which)];
    const wal::Recovered& got = opened.groups[slot_of(which)];
    const std::string name = "group " + std::to_string(static_cast<int>(which)) + ": ";
    if (got.floor != want.floor)
      return name + "floor " + std::to_string(got.floor.index.value) + ", not " +
             std::to_string(want.floor.index.value);
    if (got.hard_state != want.hard_state) return name + "hard state differs";
    if (got.entries.size() != want.entries.size())
      return name + std::to_string(got.entries.size()) + " entries, not " + std::to_string(want.entries.size());
    for (std::size_t i = 0; i < want.entries.size(); ++i) {
      const Entry& entry = got.entries[i];
      const std::string at = name + "entry " + std::to_string(want.entries[i].id.index.value) + ": ";
      if (entry.id != want.entries[i].id) return at + "wrong id";
      if (entry.kind != want.entries[i].kind) return at + "wrong kind";
      if (got.sizes[i] != want.entries[i].size()) return at + "wrong size";
      if ((entry.payload != nullptr) != (entry.kind == EntryKind::kConfig))
        return at + "payload given for the wrong kind";
    }
    for (std::size_t i = 0; i < want.entries.size();) {
      auto read = opened.log->read(which, want.entries[i].id.index, Index(UINT64_MAX), 100000);
      if (!read) return name + "read: " + read.error().message;
      for (const Entry& entry : *read) {
        const Entry& other = want.entries[i++];
        if (entry.id != other.id || *entry.payload != *other.payload) return name + "read: wrong entry";
      }
    }
  }
  return {};
}

}  // namespace wal_test
