// Execution: the leader's side of hql_execute (DESIGN 5.3): one executor per database, everything that is queued in one batch. What it took in
// its term is remembered: a repeat is answered, never run again (R7). Loop lane.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/lane.h"
#include "node/executor.h"
#include "node/hello.h"
#include "node/ledger.h"

namespace node {

// SQL and values of one request; with its envelope it fits into one frame.
inline constexpr std::size_t kRequestBytesMax = std::size_t{64} << 20;

class Execution {
 public:
  using Reply = std::function<void(const ForwardReply&)>;
  // A slow statement keeps all later answers of its origin (Forward::lowest_pending), and one may have 32 MiB of rows.
  static constexpr std::size_t kAnswerBytesMax = std::size_t{64} << 20;
  struct Hooks {
    std::function<base::Micros()> now;
    std::function<const Ledger&()> ledger;
    std::function<bool(base::DatabaseId)> ready;                          // its image is open here
    std::function<std::optional<base::Error>(base::DatabaseId)> stopped;  // why it will not be, for people
    // Proposes the database, unless it has done so in this term; progressed() follows. Refused, it is asked again at the next tick.
    std::function<base::Status(const std::string& name)> create;
    std::function<void(std::function<void(base::Result<base::Index>)>)> read_index;
    std::function<base::Status()> may_take;               // kFull, kStopped, ...
    std::function<void(base::Micros, base::Task)> after;  // a delay
    // Destroys an executor where that may block, and not on its own thread (which may be the loop just now).
    std::function<void(std::shared_ptr<Executor>)> retire;
  };
  Execution(ExecutorFactory& factory, Hooks hooks) : factory_(factory), hooks_(std::move(hooks)) {}

  // This node leads `term`, knows every decision before it, and the cluster is formed.
  void activate(base::Term term);
  void deactivate();
  void take(Forward request, Reply reply);
  // The ledger or an image moved on: databases may be ready now, reads may be answerable.
  void progressed();
  void dropped(base::DatabaseId db);
  void tick();
  // Takes nothing more: what waits, and what comes, is refused with `why`. `idle` is called once no batch runs any more, perhaps at once.
  void wind_down(base::Error why, base::Task idle);
  [[nodiscard]] bool active() const { return static_cast<bool>(term_); }
  // Bytes of the larger answers that are kept for repeats; at most kAnswerBytesMax.
  [[nodiscard]] std::size_t kept_bytes() const { return kept_bytes_; }
  // Whether the batch that runs on `db` was taken in the current term. One of an earlier term must propose nothing: its origins learn
  // that it is absent and send it again (R7).
  [[nodiscard]] bool may_propose(base::DatabaseId db) const;

 private:
  struct Taken {
    bool answered = false;
    ForwardReply answer;
    Reply reply;
    std::uint64_t kept = 0;  // its place in kept_; 0: not there
  };
  struct Queued {
    ExecuteRequest request;
    base::Micros deadline = 0;
  };
  struct Creation {  // a database that is not there yet
    std::deque<Queued> waiting;
    std::optional<base::Error> refusal;  // the last one
  };
  struct Lane {
    std::unique_ptr<Executor> executor;
    std::deque<Queued> queue;
    std::size_t queued_bytes = 0;
    bool running = false;
    base::Term running_term;
    std::size_t batch_max = 0;  // 0: kBatchCountMax; 1 after a batch that was too large
  };
  struct UnchangedBatch {  // answered when the read index is known to be in its snapshot
    base::DatabaseId db;
    base::Term term;
    base::Index read;
    base::LogId snapshot;
    std::vector<Queued> requests;
    std::vector<ExecuteResult> results;
  };
  void enqueue(const std::string& database, Queued queued);
  void pump(base::DatabaseId db);
  void pump_after_pause(base::DatabaseId db);
  void ask_create(const std::string& name);
  void create_again();
  bool expire(std::deque<Queued>& queue, const base::Error& why);  // whether there was any
  void refuse_queue(Lane& lane, const base::Error& why);
  void erase(std::map<base::DatabaseId, Lane>::iterator lane);
  void check_idle();
  void settle(base::DatabaseId db, base::Term term, std::vector<Queued> batch, BatchResult result);
  void finished(base::DatabaseId db, base::Term term, std::vector<Queued> batch, BatchResult result);
  void unchanged(base::DatabaseId db, std::vector<Queued> batch, BatchResult result);
  void settle_unchanged();
  void run_unchanged_again(UnchangedBatch batch, base::Micros delay);
  void run_again(base::DatabaseId db, std::vector<Queued> batch, base::Micros delay);
  void answer(const base::Origin& origin, ForwardReply reply);
  void answer_result(const ExecuteResult& result, base::LogId committed, base::Index apply_through);
  void refuse(const base::Origin& origin, const base::Error& why);
  void keep(const base::Origin& origin, Taken& taken);
  void forget_body(Taken& taken);
  // False: an old frame of a sequence that its origin no longer waits for.
  bool forget_below(const base::Origin& origin, std::uint64_t lowest_pending);

  ExecutorFactory& factory_;
  Hooks hooks_;
  base::Term term_;  // 0: not active
  std::map<base::Origin, Taken> taken_;
  std::map<std::uint64_t, base::Origin> kept_;  // whose answers are large, the oldest first
  std::uint64_t last_kept_ = 0;
  std::size_t kept_bytes_ = 0;
  std::map<base::Incarnation, std::pair<std::uint64_t, std::uint64_t>>
      lowest_;  // (boot, lowest pending sequence) of each origin node
  std::map<base::DatabaseId, Lane> lanes_;
  std::map<std::string, Creation> creating_;  // by name
  std::vector<UnchangedBatch> unchanged_;
  std::optional<base::Error> ending_;  // why nothing is taken any more
  base::Task idle_;
};

}  // namespace node
