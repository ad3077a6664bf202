// See runtime.h. The table of nodes lives for the life of the process: no static destructor runs under the host's threads (R2).
#include "ext/runtime.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <new>
#include <optional>
#include <system_error>
#include <vector>

#include "base/lane.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/posix_env.h"
#include "ext/find_config.h"
#include "ext/lifecycle.h"
#include "ext/owned_node.h"
#include "ext/service.h"
#include "net/local_client.h"
#include "vfs/shim.h"

namespace ext {
namespace {

using base::Bytes;
using base::Code;
using base::Result;
using base::Status;

constexpr base::Micros kExitStopMax = 2 * base::kSecond;  // R2: of the whole process, for all its nodes
constexpr base::Micros kExitJoinMax =
    kExitStopMax / 4;  // of these, for what has no deadline of its own: the lanes' last tasks
constexpr base::Micros kStopMin = base::kSecond;  // hql_stop(0) seals and syncs all the same
constexpr std::uint32_t kAnswerGraceMs = 10'000;  // over an operation's own deadline: the loop is stuck, not slow

// Shared by the table and by calls in progress, which may outlive a stop.
using Owned = std::shared_ptr<OwnedNode>;

struct Table {
  base::Mutex mutex;
  std::vector<Owned> nodes GUARDED_BY(mutex);  // in the order of their start
  std::string attached GUARDED_BY(mutex);      // data dir of another process's node, or empty
  bool starting GUARDED_BY(mutex) = false;     // one start at a time
  int stopping GUARDED_BY(mutex) = 0;  // stops under way: their directories are still locked, a start waits for them
  base::CondVar settled;
  bool hooked GUARDED_BY(mutex) = false;
  // Nodes that hold anything: from before their start until after their stop. Read in a forked child, without the mutex.
  std::atomic<int> present{0};
};

Table& table() {
  static Table* const made = new Table;
  return *made;
}

// The turn of the thread that set `starting`: it ends with the scope, also by an exception, or no node could be started any more.
class StartTurn {
 public:
  StartTurn() = default;
  ~StartTurn() {
    Table& all = table();
    const base::MutexLock lock(all.mutex);
    if (!started_) --all.present;
    all.starting = false;
    all.settled.notify_all();
  }
  StartTurn(const StartTurn&) = delete;
  StartTurn& operator=(const StartTurn&) = delete;
  void started() { started_ = true; }

 private:
  bool started_ = false;
};

// The same directory, however it is written. Both exist or the answer is no.
bool same_directory(const std::string& a, const std::string& b) {
  char* left = ::realpath(a.c_str(), nullptr);
  char* right = ::realpath(b.c_str(), nullptr);
  const bool same = left != nullptr && right != nullptr && std::string(left) == right;
  ::free(left);
  ::free(right);
  return same;
}

void hook_process() {
  Table& all = table();
  {
    const base::MutexLock lock(all.mutex);
    if (all.hooked) return;
    all.hooked = true;
  }
  register_stop([] { stop_all_nodes(); });
  register_fork_child([]() -> bool {
    // The only thread of the child: the mutex may be held by a thread that is not here, so it is not taken.
    if (table().present.load() == 0) return false;
    OwnedNode::close_all_in_child();
    return true;
  });
}

// Null: none runs here. A managed connection means the node that it was opened on and no other, so kStopped when that one is gone.
Result<Owned> owned_of(sqlite3* db) {
  const auto info = vfs::connection_info(db);
  Table& all = table();
  const base::MutexLock lock(all.mutex);
  if (!info.managed) return all.nodes.empty() ? nullptr : all.nodes.back();
  for (const Owned& owned : all.nodes)
    if (owned->id() == info.node && owned->data_dir() == info.data_dir) return owned;
  return base::make_error(Code::kStopped, "node " + std::to_string(info.node.value) + ", data_dir \"" + info.data_dir +
                                              "\", on which this connection was opened, does not run in this process; "
                                              "close this connection, start the node and open it again");
}

base::Error not_started() {
  return base::make_error(Code::kNotStarted,
                          "no node runs in this process; call hql_start(), or hql_start('node1.toml')");
}

// The answer of one call, shared by the waiting thread and the callback on the loop lane, whichever ends last.
struct Answer {
  base::Mutex mutex;
  base::CondVar ready;
  std::optional<Result<Bytes>> reply GUARDED_BY(mutex);

  void give(Result<Bytes> first) {
    const base::MutexLock lock(mutex);
    if (!reply) reply = std::move(first);
    ready.notify_one();
  }
};

base::Error no_answer(Op op) {
  if (op == Op::kExecute || op == Op::kDrop)
    return base::make_error(Code::kUnknownOutcome,
                            "the node did not answer in time; whether the write was applied is not known");
  return base::make_error(Code::kTimeout, "the node did not answer in time");
}

base::Error stopped_early(Op op) {
  if (op == Op::kExecute || op == Op::kDrop)
    return base::make_error(Code::kUnknownOutcome, "the node was stopped; whether the write was applied is not known");
  return base::make_error(Code::kStopped, "the node was stopped");
}

Result<Bytes> call_owned(const Owned& owned, Op op, const Bytes& request, std::uint32_t timeout_ms) {
  const auto answer = std::make_shared<Answer>();
  // A lane that stops destroys what is posted to it: the caller hears that at once, not at its deadline.
  const auto on_destroyed = [answer, op](void*) { answer->give(stopped_early(op)); };
  Answered done = [answer, destroyed = std::shared_ptr<void>(nullptr, on_destroyed)](Result<Bytes> reply) {
    answer->give(std::move(reply));
  };
  const bool running = owned->use([&](node::Node& node) { serve(node, request, std::move(done)); });
  if (!running) return not_started();
  const base::Micros deadline =
      base::posix_env().now() + base::Micros{timeout_ms + kAnswerGraceMs} * base::kMillisecond;
  const base::MutexLock lock(answer->mutex);
  while (!answer->reply)
    if (!answer->ready.wait_until(answer->mutex, deadline) && !answer->reply) return no_answer(op);
  return std::move(*answer->reply);
}

// One connection per call: an attached process is a shell or a script, not a server.
Result<Bytes> call_attached(const std::string& data_dir, base::ByteView request, std::uint32_t timeout_ms) {
  HQL_ASSIGN(client, net::LocalClient::connect(data_dir + "/sock", timeout_ms));
  return client->call(request, timeout_ms);
}

// What the parts throw instead of returning it is an error of the start too; std::bad_alloc is the caller's.
Result<Owned> start_owned(node::Config config) {
  const std::string failed =
      "node " + std::to_string(config.node_id.value) + ", data_dir \"" + config.data_dir + "\", could not be started: ";
  try {
    HQL_ASSIGN(started, OwnedNode::start(std::move(config)));
    return Owned(std::move(started));
  } catch (const std::bad_alloc&) {
    throw;                                    // tidy: allow(throw) whoever called says SQLITE_NOMEM
  } catch (const std::system_error& error) {  // what std::thread throws
    return base::make_error(Code::kInternal, failed + error.what() + "; allow the process more threads (ulimit -u)");
  } catch (const std::exception& error) {
    return base::make_error(Code::kInternal, failed + error.what());
  }
}

}  // namespace

Result<base::NodeId> start_node(const std::optional<std::string>& given) {
  HQL_TRY(check_process());
  HQL_ASSIGN(config, find_config(given));
  if (const auto level = base::parse_level(config.log_level)) base::set_level(*level);
  hook_process();
  Table& all = table();
  {
    base::MutexLock lock(all.mutex);
    while (all.starting || all.stopping > 0) all.settled.wait(all.mutex);
    for (const Owned& owned : all.nodes) {
      if (same_directory(owned->data_dir(), config.data_dir)) {
        if (owned->id() == config.node_id) return owned->id();
        return base::make_error(Code::kOwned, "data_dir \"" + config.data_dir + "\" is used by node " +
                                                  std::to_string(owned->id().value) + " of this process; node " +
                                                  std::to_string(config.node_id.value) + " needs its own data_dir");
      }
      if (owned->id() == config.node_id)
        return base::make_error(Code::kOwned, "node " + std::to_string(config.node_id.value) +
                                                  " already runs in this process with data_dir \"" + owned->data_dir() +
                                                  "\"; give the other node another node_id, or call hql_stop() first");
    }
    all.nodes.reserve(all.nodes.size() + 1);  // so that a node that runs is not lost for want of memory
    all.starting = true;
    ++all.present;
  }
  StartTurn turn;
  HQL_ASSIGN(started, start_owned(std::move(config)));
  const base::NodeId id = started->id();
  const base::MutexLock lock(all.mutex);
  all.nodes.push_back(std::move(started));
  turn.started();
  return id;
}

// An attached process must not become a node of its own by the way: its hql_* calls would go there from then on.
Status start_for_open() {
  Table& all = table();
  std::string attached;
  {
    const base::MutexLock lock(all.mutex);
    attached = all.attached;
  }
  if (!attached.empty())
    return base::make_error(Code::kRefused,
                            "this process uses the node of data_dir \"" + attached +
                                "\" in another process: vfs=hiqlite, hql_import() and hql_export() work in that one "
                                "only; write here with hql_execute(), and read the plain file " +
                                attached + "/db/<name> with mode=ro");
  HQL_TRY(start_node(std::nullopt));
  return {};
}

Status stop_node(sqlite3* db, std::uint32_t timeout_ms) {
  HQL_TRY(check_process());
  HQL_ASSIGN(owned, owned_of(db));
  if (owned == nullptr) return not_started();
  Table& all = table();
  {
    const base::MutexLock lock(all.mutex);
    const auto found = std::find(all.nodes.begin(), all.nodes.end(), owned);
    if (found == all.nodes.end()) return not_started();  // another thread stops it
    all.nodes.erase(found);
    ++all.stopping;
  }
  owned->stop(base::posix_env().now() + std::max(kStopMin, base::Micros{timeout_ms} * base::kMillisecond));
  const base::MutexLock lock(all.mutex);
  --all.stopping;
  --all.present;
  all.settled.notify_all();
  return {};
}

// At exit. Each node is stopped by a thread of its own, and the process waits for them no longer than R2 says: a disk that hangs keeps a lane,
// and whoever joins it. What is left behind then is what kill -9 leaves, and recovery does the rest. Nothing that those threads still use is
// ever destroyed.
void stop_all_nodes() {
  struct Progress {  // shared by the threads and this one, whichever ends last
    base::Mutex mutex;
    base::CondVar one_ended;
    std::size_t left GUARDED_BY(mutex) = 0;
    void end() {
      const base::MutexLock lock(mutex);
      --left;
      one_ended.notify_all();
    }
  };
  std::vector<Owned> nodes;
  {
    Table& all = table();
    const base::MutexLock lock(all.mutex);
    nodes.swap(all.nodes);
  }
  vfs::forget_host_log();
  const base::Micros end = base::posix_env().now() + kExitStopMax;
  const auto progress = std::make_shared<Progress>();
  {
    const base::MutexLock lock(progress->mutex);
    progress->left = nodes.size();
  }
  std::vector<std::unique_ptr<base::ThreadLane>> stoppers;
  for (Owned& owned : nodes) {
    auto stop = [owned = std::move(owned), end, progress]() mutable {
      owned->stop(end - kExitJoinMax);
      owned.reset();
      --table().present;
      progress->end();
    };
    try {
      stoppers.push_back(base::ThreadLane::start("hql-exit"));
      stoppers.back()->post(stop);
    } catch (const std::exception&) {  // no thread to be had: this one, with whatever time it takes
      stop();
    }
  }
  const base::MutexLock lock(progress->mutex);
  while (progress->left > 0)
    if (!progress->one_ended.wait_until(progress->mutex, end) && progress->left > 0) break;
  if (progress->left == 0) return;
  base::log_warn("the stop of " + std::to_string(progress->left) +
                 " nodes did not finish in time; recovery does the rest");
  for (auto& stopper : stoppers) static_cast<void>(stopper.release());
}

Status attach_to_owner(const std::string& data_dir) {
  HQL_TRY(call_attached(data_dir, encode(Call{Op::kStatus}), kAnswerGraceMs));
  Table& all = table();
  const base::MutexLock lock(all.mutex);
  all.attached = data_dir;
  return {};
}

Result<Bytes> call(sqlite3* db, const Call& request, std::uint32_t timeout_ms) {
  HQL_TRY(check_process());
  const Bytes bytes = encode(request);
  HQL_ASSIGN(owned, owned_of(db));
  if (owned != nullptr) return call_owned(owned, request.op, bytes, timeout_ms);
  std::string data_dir;
  {
    Table& all = table();
    const base::MutexLock lock(all.mutex);
    data_dir = all.attached;
  }
  if (data_dir.empty()) return not_started();
  return call_attached(data_dir, bytes, timeout_ms + kAnswerGraceMs);
}

Result<std::optional<base::NodeId>> node_of(sqlite3* db) {
  HQL_ASSIGN(owned, owned_of(db));
  return owned == nullptr ? std::nullopt : std::optional(owned->id());
}

CallDefaults defaults_of(sqlite3* db) {
  const auto owned = owned_of(db);
  if (!owned || *owned == nullptr) return {};
  CallDefaults defaults{{}, 0};
  const bool running = (*owned)->use([&defaults](node::Node& node) {
    const node::Config& config = node.config();
    defaults = {config.filename_db, static_cast<std::uint32_t>(config.commit_timeout_ms)};
  });
  return running ? defaults : CallDefaults();
}

std::string opened_plainly(sqlite3* db) {
  const char* const file = sqlite3_db_filename(db, "main");
  if (file == nullptr || *file == '\0') return {};
  std::string data_dir;
  const auto owned = owned_of(db);
  if (!owned) return {};
  if (*owned != nullptr) {
    (*owned)->use([&data_dir](node::Node& node) { data_dir = node.config().data_dir; });
  } else {
    Table& all = table();
    const base::MutexLock lock(all.mutex);
    data_dir = all.attached;
  }
  if (data_dir.empty()) return {};
  const std::filesystem::path path(file);
  return same_directory(path.parent_path(), data_dir + "/db") ? path.filename().string() : std::string();
}

}  // namespace ext
