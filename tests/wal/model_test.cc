// The log against plain vectors: random appends, synced or only written, truncations, floors, resets, restarts, kills and power cuts, with a
// crash at a random operation of any of them. After a crash the log holds what it held before the interrupted call or after it, nothing
// else; after a power cut it may instead hold what it held after any append since the last sync.
#include "tests/wal/model.h"

namespace wal_test {
namespace {

constexpr char kDir[] = "log";

wal::Options options_of(std::uint64_t segment_size) {
  wal::Options options;
  options.dir = kDir;
  options.identity = {7, base::NodeId(1), base::Incarnation(99)};
  options.segment_size = segment_size;
  return options;
}

class Driver {
 public:
  explicit Driver(std::uint64_t seed) : random_(seed), env_(seed + 1), options_(options_of((1 + seed % 3) * 65536)) {}

  void run(int steps) {
    open({model_});
    for (int step = 0; step < steps && !::testing::Test::HasFatalFailure(); ++step) act();
    if (!::testing::Test::HasFatalFailure()) restart_cleanly();
  }

 private:
  // Opens the log and takes as the truth whichever of `candidates` it holds.
  void open(const std::vector<Model>& candidates) {
    auto opened = wal::Log::open(env_, options_);
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_FALSE(opened->damage) << opened->damage->where << dump_text();
    std::string reasons;
    for (const Model& candidate : candidates) {
      const std::string reason = difference(candidate, *opened);
      if (reason.empty()) {
        const Term term = model_.term;
        model_ = candidate;
        model_.term = term;
        since_sync_ = {model_};
        log_ = std::move(opened->log);
        return;
      }
      reasons += reason + "; ";
    }
    FAIL() << reasons << dump_text();
  }

  std::string dump_text() {
    if (std::getenv("HQL_SEED") == nullptr) return {};
    std::string text;
    const base::Status dumped = wal::dump(env_, kDir, [&](const std::string& line) { text += "\n" + line; });
    return text + (dumped ? "" : dumped.error().message);
  }

  void restart_cleanly() {
    if (random_.next() % 2 == 0) {
      ASSERT_TRUE(log_->seal());
      took(model_);
    }
    log_.reset();
    const bool power = random_.next() % 2 == 0;
    if (power) env_.power_cut();
    open(power ? since_sync_ : std::vector<Model>{model_});
  }

  // A call has returned ok.
  void took(const Model& after) {
    model_ = after;
    if (log_->synced()) since_sync_.clear();
    since_sync_.push_back(model_);
  }

  std::size_t entry_size() {
    switch (random_.next() % 40) {
      case 0:
      case 1:
        return 0;
      case 2:
      case 3:
        return random_.next() % 20000;
      case 4:
        return random_.next() % 200000;
      default:
        return random_.next() % 900;
    }
  }

  wal::Append make_append(Model& after) {
    wal::Append append;
    append.group = kGroups[random_.next() % (mostly_data_ ? 8 : 2) == 0 ? 1 : 0];
    const GroupModel& group = after.groups[slot_of(append.group)];
    if (random_.next() % (mostly_data_ ? 12 : 3) == 0)
      append.hard_state = random_bytes(random_, 1 + random_.next() % 256);
    std::uint64_t next = group.last().index.value + 1;
    if (!group.entries.empty() && random_.next() % (mostly_data_ ? 20 : 6) == 0) {
      next = group.floor.index.value + 1 + random_.next() % group.entries.size();
      append.truncate_from = Index(next);
      model_.term = after.term = after.term.next();
    }
    const std::uint64_t count = random_.next() % 5;
    for (std::uint64_t i = 0; i < count; ++i)
      append.entries.push_back(make_entry(random_, {after.term, Index(next + i)}, entry_size()));
    after.apply(append);
    return append;
  }

  // Runs one call, perhaps with a fault in the middle.
  void act() {
    Model after = model_;
    Model hard_states_only = model_;
    std::function<base::Status()> call;
    const std::uint64_t kind = random_.next() % 22;
    const Group group = kGroups[random_.next() % 2];
    const GroupModel& held = model_.groups[slot_of(group)];
    if (kind < 12) {
      auto appends = std::make_shared<std::vector<wal::Append>>();
      for (std::uint64_t i = 0; i < 1 + random_.next() % 3; ++i) appends->push_back(make_append(after));
      for (const Group which : kGroups)
        hard_states_only.groups[slot_of(which)].hard_state = after.groups[slot_of(which)].hard_state;
      const auto wanted = random_.next() % 4 == 0 ? wal::Durability::kSynced : wal::Durability::kWritten;
      call = [this, appends, wanted] { return log_->append_batch(*appends, wanted); };
    } else if (kind < 14) {
      if (held.entries.empty()) return;
      const LogId floor = held.entries[random_.next() % held.entries.size()].id;
      after.set_floor(group, floor);
      call = [this, group, floor] { return log_->set_floor(group, floor); };
    } else if (kind == 14) {
      const LogId floor{after.term, Index(std::max<std::uint64_t>(1, held.last().index.value + random_.next() % 1000))};
      after.reset(group, floor);
      call = [this, group, floor] { return log_->reset(group, floor); };
    } else if (kind == 15) {
      call = [this] { return log_->seal(); };
    } else if (kind >= 20) {
      call = [this] { return log_->sync(); };
    } else if (kind < 18) {
      call = [this]() -> base::Status {
        auto prepared = log_->prepare_segments();
        if (!prepared) return prepared.error();
        return base::ok();
      };
    } else {
      restart_cleanly();
      return;
    }
    const std::uint64_t fate = random_.next() % 8;
    if (fate < 2) {
      env_.arm(1 + random_.next() % 8, fate == 0 ? Fault::kDie : Fault::kIo);
    } else if (fate == 2) {
      env_.arm(1 + random_.next() % 8, Fault::kFull);
    }
    const base::Status status = call();
    const bool fired = env_.fired();
    env_.arm(0, Fault::kDie);
    if (status) took(after);
    if (!fired) {
      ASSERT_TRUE(status) << status.error().message;
      return;
    }
    if (!status && status.error().code == base::Code::kFull && kind < 12) {
      // Refused: the log goes on as if nothing had been asked, in this process and after a crash.
      ASSERT_FALSE(log_->poisoned());
      took(model_);
      if (random_.next() % 2 == 0) return;
      const bool power = random_.next() % 2 == 0;
      log_.reset();
      power ? env_.power_cut() : env_.kill();
      open(power ? since_sync_ : std::vector<Model>{model_});
      return;
    }
    if (!status && log_->poisoned()) {
      const base::Status again = log_->append_batch({wal::Append{Group::kData, Bytes(8), {}, {}}});
      ASSERT_FALSE(again);
      ASSERT_EQ(again.error().code, base::Code::kPoisoned);
    }
    log_.reset();
    const std::uint64_t cut = random_.next() % 4;
    if (cut == 0) env_.kill();
    if (cut == 1) env_.power_cut(DiskEnv::Tear::kAllKept);
    if (cut >= 2) env_.power_cut();
    // What a failed sync has lost is gone whatever happens next.
    const bool keeps_written = cut < 2 && fate != 1;
    std::vector<Model> candidates = keeps_written ? std::vector<Model>{model_} : since_sync_;
    if (!status) {
      for (const Model& held_before : std::vector<Model>(candidates)) {
        candidates.push_back(held_before);
        for (const Group which : kGroups)
          candidates.back().groups[slot_of(which)].hard_state = hard_states_only.groups[slot_of(which)].hard_state;
      }
      candidates.push_back(after);
    }
    open(candidates);
    // What was read at the start is now the truth: it must outlive a power cut that follows a kill.
    if (cut == 0 && !::testing::Test::HasFatalFailure()) {
      log_.reset();
      env_.power_cut(DiskEnv::Tear::kAllLost);
      open({model_});
    }
  }

  base::Random random_;
  DiskEnv env_;
  const wal::Options options_;
  const bool mostly_data_ = random_.next() % 2 == 0;  // and seldom anything that is always synced
  Model model_;
  std::vector<Model>
      since_sync_;  // what the log held at its last sync and after each append since; the last one is model_
  std::unique_ptr<wal::Log> log_;
};

TEST(LogModel, RandomHistoriesWithCrashes_HoldWhatWasAcknowledged) {
  const char* only = std::getenv("HQL_SEED");
  const std::uint64_t first = only == nullptr ? 1 : std::strtoull(only, nullptr, 10);
  const std::uint64_t last = only == nullptr ? static_cast<std::uint64_t>(scaled(500)) : first;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE("HQL_SEED=" + std::to_string(seed));
    Driver(seed).run(30);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace wal_test
