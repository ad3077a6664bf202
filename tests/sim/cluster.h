// Cluster: N real nodes (node::Node with its core, log, ledger and applier) over the simulated seams, in one thread and virtual time.
// Callers: the `sim` program and the tests of node/. The world lane (node 0) runs workload and faults.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "node/node.h"
#include "tests/sim/invariants.h"
#include "tests/sim/sim_env.h"
#include "tests/sim/sim_executor.h"
#include "tests/sim/sim_image.h"
#include "tests/sim/sim_lane.h"
#include "tests/sim/sim_transport.h"

namespace sim {

inline constexpr const char* kDatabase = "app.db";

// What became of an operation of the workload.
enum class OpState : std::uint8_t { kPending, kAcked, kRefused, kUnknown };

class Cluster {
 public:
  struct Options {
    std::uint64_t seed = 1;
    int nodes = 3;
    bool trace = false;
    std::uint64_t wal_size = std::uint64_t{256} << 10;
    std::string log_sync = "immediate";
    int heartbeat_ms = 50;
    int transaction_timeout_ms = 60000;
  };
  explicit Cluster(Options options);
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  Scheduler& scheduler() { return scheduler_; }
  SimNetwork& network() { return network_; }
  SimDisk& disk(base::NodeId id) { return *host(id).disk; }
  Invariants& invariants() { return invariants_; }
  [[nodiscard]] const Invariants& invariants() const { return invariants_; }
  [[nodiscard]] std::vector<base::NodeId> ids() const;

  // A process of the node starts (in a task of its own). Nothing when one runs.
  void start(base::NodeId id);
  void start_all();
  enum class Stop : std::uint8_t { kKill, kPowerCut, kWipe };
  void stop(base::NodeId id, Stop how);
  // As a process that ends by itself: node::Node::stop(), then its lanes. True when it said that it is done.
  bool stop_cleanly(base::NodeId id);
  [[nodiscard]] bool up(base::NodeId id) const;
  [[nodiscard]] node::Node* node(base::NodeId id) const;
  [[nodiscard]] SimImage* image(base::NodeId id) const;
  // The error of the last start that failed, "" when none did.
  [[nodiscard]] std::string start_error(base::NodeId id) const;

  // The node that leads and serves, or {}.
  [[nodiscard]] base::NodeId leader() const;
  [[nodiscard]] bool healthy(base::NodeId id) const;
  [[nodiscard]] bool all_healthy() const;
  bool run_until(const std::function<bool()>& condition, base::Micros within);
  void run_for(base::Micros time) { scheduler_.run_for(time); }

  // A write through execute() on `id`; its number.
  std::uint64_t write(base::NodeId id, base::Micros timeout);
  void read(base::NodeId id, base::Micros timeout);
  // A local transaction on `id`, as a connection through the shim would make it.
  std::uint64_t local_write(base::NodeId id, base::Micros timeout, std::size_t count = 1);
  // Another database is created through `id`; one that is there, if any, is dropped. Asked of the leader by control requests.
  void create_other(base::NodeId id, base::Micros timeout);
  void drop_other(base::NodeId id, base::Micros timeout);
  [[nodiscard]] OpState op(std::uint64_t number) const { return ops_.at(number).state; }
  [[nodiscard]] std::size_t count(OpState state) const;
  [[nodiscard]] bool all_answered() const;  // of operations, creations and drops
  // Databases that a start found ahead of their node's log.
  [[nodiscard]] std::uint64_t found_ahead() const { return found_ahead_; }

  // Every node has the same bytes at the same index, and every operation happened as often as it was told. "" or what is wrong.
  std::string check_content() const;
  std::string dump() const;  // status and last events of every node, for people
  void log(const std::string& line);

 private:
  struct Process {
    std::unique_ptr<SimEnv> env;
    std::unique_ptr<SimImages> images;
    std::unique_ptr<SimExecutors> executors;
    std::unique_ptr<node::Node> node;
    std::unique_ptr<base::Transport> transport;
  };
  struct Host {
    base::NodeId id;
    std::unique_ptr<SimDisk> disk;
    std::unique_ptr<LogWatch> log;
    std::unique_ptr<Process> process;
    bool starting = false;
    std::string error;
    std::uint64_t boots = 0;
  };
  struct Op {
    OpState state = OpState::kPending;
    base::NodeId node;
    std::uint64_t boot = 0;
    std::string error;
  };
  struct Other {  // a database besides kDatabase, each under a name of its own
    OpState created = OpState::kPending;
    std::optional<OpState> dropped;  // nothing: nobody asked
    base::NodeId node;               // who asked last
  };
  static OpState state_of(const base::Status& status);
  [[nodiscard]] std::string check_others() const;
  Host& host(base::NodeId id) { return hosts_.at(id); }
  [[nodiscard]] const Host& host(base::NodeId id) const { return hosts_.at(id); }
  void boot(Host& host);
  void bury(Host& host);
  void lost_operations(base::NodeId id);
  void after_step();
  node::Config config_of(base::NodeId id) const;
  std::uint64_t new_op(base::NodeId id);
  void settle(std::uint64_t number, OpState state, const std::string& error);

  const Options options_;
  Scheduler scheduler_;
  SimNetwork network_;
  Invariants invariants_;
  std::map<base::NodeId, Host> hosts_;
  std::vector<std::unique_ptr<Process>> graves_;  // destroyed outside of their own tasks
  std::map<std::uint64_t, Op> ops_;
  std::map<std::string, Other> others_;
  std::uint64_t last_op_ = 0;
  std::uint64_t found_ahead_ = 0;
};

}  // namespace sim
