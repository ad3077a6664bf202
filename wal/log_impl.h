// The open log: what Log::open returns. Private to wal/. Log lane, but for what segment.h says of SegmentStore and the atomics.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "wal/batch.h"
#include "wal/recovery.h"

namespace wal {

class LogImpl final : public Log {
 public:
  LogImpl(base::Env& env, Options options);

  // Makes the first segment of a new log. Errors: those of SegmentStore::make_live.
  base::Status create();
  // Continues a log that was found.
  void adopt(Recovery recovery);
  // What the log holds of a group, with the payloads of configurations. Errors: kCorrupt, kIo.
  base::Result<Recovered> recovered(Group group);
  base::Status adopt_ready(const std::vector<std::string>& names) { return store_.adopt(names); }
  [[nodiscard]] const Identity& identity() const { return identity_; }
  // Frees what the floors no longer need. Errors: kIo.
  base::Status recycle();

  using Log::append_batch;
  base::Status append_batch(std::vector<Append> appends, Durability wanted) override;
  base::Status sync() override;
  base::Status seal() override;
  base::Result<std::vector<base::Entry>> read(Group group, Index first, Index last, std::size_t bytes_max) override;
  base::Status set_floor(Group group, LogId floor) override;
  base::Status reset(Group group, LogId floor) override;
  base::Result<bool> prepare_segments() override { return store_.prepare_slice(); }
  void set_cluster(std::uint64_t cluster) override;
  [[nodiscard]] std::uint64_t bytes() const override { return bytes_; }
  [[nodiscard]] bool poisoned() const override { return poisoned_; }
  [[nodiscard]] bool synced() const override { return all_synced_; }
  [[nodiscard]] bool full() const override { return store_.full(); }
  [[nodiscard]] std::uint64_t sync_count() const override { return sync_count_; }

 private:
  // Position after the last batch that counts, and what the next one needs to know.
  struct Tail {
    std::uint64_t offset = 0;
    Lsn next_lsn{1};
    std::uint32_t crc = 0;
  };

  base::Status check_appends(const std::vector<Append>& appends) const;
  base::Status write_items(std::uint8_t flags, Durability wanted);
  base::Status write_pieces(std::uint8_t flags, Durability wanted);
  base::Status write_run(std::uint8_t flags, bool& first);
  base::Status sync_tail();
  base::Status grow(std::uint64_t end);
  base::Status next_segment(SegmentStart start);
  base::Status give_up(base::Error error);
  base::Status poison(const base::Error& error);
  [[nodiscard]] base::Status not_poisoned() const;
  class WholeOrPoisoned;
  void apply_items();
  void update_bytes();
  [[nodiscard]] std::array<LogId, base::kGroupCount> lasts() const;
  [[nodiscard]] std::uint64_t room() const { return segments_.back().header.segment_size - tail_.offset; }
  [[nodiscard]] SegmentHeader next_header() const;

  base::Env& env_;
  const Options options_;
  Identity identity_;
  SegmentStore store_;
  std::vector<Segment> segments_;  // by sequence; the last one is written
  std::array<GroupState, base::kGroupCount> groups_;
  std::uint64_t sequence_max_ = 0;
  Lsn settled_from_;
  // nothing more may be written to the last segment: torn, damaged, or given up in the middle
  bool must_switch_ = false;
  bool sealed_ = false;
  std::uint64_t zeroed_to_ = 0;  // of the last segment: bytes that are allocated
  Tail tail_;                    // with what is written and not yet synced
  Tail synced_;                  // all before it is durable
  Tail given_;  // where the append that is being written began, if in this segment: what is before it counts
  std::vector<std::uint64_t> begun_;  // offsets in the last segment of the batches of the append that is being written

  std::vector<Item> items_;
  std::vector<Place> places_;
  std::vector<Item> echo_items_;
  std::vector<Place> echo_places_;
  BatchBuilder builder_;
  BatchBuffer buffer_;

  std::atomic<bool> poisoned_{false};
  std::atomic<bool> all_synced_{true};
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::uint64_t> sync_count_{0};
};

}  // namespace wal
