// NodeImpl: the node (node/node.h) put together from its parts. Private to node/.
//   node_impl.cc     opening, starting, stopping, ticking, role changes
//   node_commit.cc   committed entries, outcomes, creation and drop of databases
//   node_gate.cc     vfs::Gate: leases, submissions, barriers (any thread)
//   node_cluster.cc  frames, first start, members, forwarded requests
//   maintenance.cc   sync points, checkpoints, floors, segments
//   stuck_writer.cc  local transactions that keep others from writing
//   status.cc        what is shown
// Everything is loop lane but what says otherwise.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "node/apply_queue.h"
#include "node/bootstrap.h"
#include "node/data_dir.h"
#include "node/driver.h"
#include "node/events.h"
#include "node/execution.h"
#include "node/forward.h"
#include "node/hello.h"
#include "node/lease.h"
#include "node/ledger.h"
#include "node/lives.h"
#include "node/node.h"
#include "node/origins.h"
#include "node/recovery.h"

namespace node {

class NodeImpl final : public Node {
 public:
  NodeImpl(Parts parts, Config config, DataDir data_dir);
  ~NodeImpl() override;

  base::Member self() const override { return self_; }
  std::uint64_t boot_nonce() const override { return boot_nonce_; }
  base::Status attach(pages::ImageFactory& images, ExecutorFactory& executors, base::Transport* transport) override;
  void start() override;
  void stop(std::function<void()> done) override;

  void execute(const std::string& database, base::Bytes body, base::Micros deadline,
               std::function<void(base::Result<ExecuteReply>)> done) override;
  void drop_database(const std::string& name, base::Micros deadline, std::function<void(base::Status)> done) override;
  void transfer_leader(base::NodeId to, base::Micros deadline,
                       std::function<void(base::Result<base::NodeId>)> done) override;
  void wait_applied(base::Index index, base::Micros deadline, std::function<void(base::Status)> done) override;
  void wait_healthy(base::Micros deadline, std::function<void(base::Status)> done) override;
  void snapshot(std::function<void(base::Result<base::Index>)> done) override;
  void compact(std::uint64_t keep, std::function<void(base::Result<base::Index>)> done) override;
  void force_bootstrap(std::function<void(base::Status)> done) override;
  NodeStatus status() override;
  std::vector<Event> events(std::uint64_t since) override { return events_.since(since); }
  raft::Status raft_status() override;
  const Config& config() const override { return config_; }
  std::optional<base::DatabaseId> database_id(const std::string& name) override;
  void lane_failed(const std::string& lane, const std::string& what) noexcept override;
  void peer_trouble(const base::Error& why) override;

  // vfs::Gate, any thread.
  base::Status still_alive() override;
  void acquire_lease(base::DatabaseId db, std::function<void(base::Result<vfs::Grant>)> done) override;
  void release_lease(base::DatabaseId db, base::LeaseId lease, base::LogId committed) override;
  void submit(vfs::Submission submission, std::function<void(vfs::Outcome)> done) override;
  void create_database(pages::CreateDatabase create, base::Micros deadline,
                       std::function<void(base::Result<base::DatabaseId>)> done) override;
  void barrier(base::Micros deadline, std::function<void(base::Result<base::Index>)> done) override;
  void hold_log(std::function<void(base::Status)> held) override;
  void release_log() override;
  bool log_synced() override { return !broken_.load() && data_dir_.opened.log->synced(); }
  base::Micros now() override { return parts_.env->now(); }
  base::Micros commit_timeout() override { return config_.commit_timeout_ms * base::kMillisecond; }

  // base::TransportHandler
  base::Bytes make_hello() override;
  base::Status on_up(const base::PeerInfo& peer) override;
  void on_down(base::NodeId peer) override;
  void on_frame(base::NodeId peer, base::Channel channel, base::ByteView frame) override;

 private:
  // A local caller that waits for the log: creation and drop of a database, a new leader, an index, health.
  // What a waiter asked a leader to propose: asked again until the log shows it, or refused.
  struct Asked {
    base::Micros at = 0;
    int open = 0;                        // requests that may have been taken up
    std::optional<base::Error> refusal;  // the last one
  };
  struct CreateWaiter {
    pages::CreateDatabase create;
    base::SharedBytes payload;
    base::Micros deadline = 0;
    std::function<void(base::Result<base::DatabaseId>)> done;
    Asked asked;
    std::optional<base::DatabaseId> created;  // by whomever
  };
  struct DropWaiter {
    base::DatabaseId id;
    base::Micros deadline = 0;
    std::function<void(base::Status)> done;
    Asked asked;
    base::Term proposed_in;
  };
  struct TransferWaiter {
    std::uint64_t token = 0;
    base::NodeId to;
    base::NodeId from;
    base::Micros deadline = 0;
    std::function<void(base::Result<base::NodeId>)> done;
    base::Micros asked_at = 0;
  };
  struct IndexWaiter {
    base::Index index;
    base::Micros deadline = 0;
    std::function<void(base::Status)> done;
  };
  struct HealthWaiter {
    base::Micros deadline = 0;
    std::function<void(base::Status)> done;
  };
  struct Read {
    base::Micros started = 0;
    std::function<void(base::Result<base::Index>)> done;
  };
  struct Peer {
    base::Member member;
    Hello hello;
  };
  // A transaction as it goes into the log: parts, then the final entry.
  struct Proposal {
    base::DatabaseId db;
    base::Origin origin;
    base::Term term;
    base::LeaseId lease;
    bool of_executor = false;  // carries forwarded requests
    std::vector<base::SharedBytes> payloads;
    base::Micros deadline = 0;
    std::function<void(vfs::Outcome)> done;
  };

  // node_impl.cc
  void post(base::Task task) { parts_.loop->post(std::move(task)); }
  void ask(base::Task task) { parts_.loop->post_and_help(std::move(task)); }
  base::Status form_alone();
  void make_driver();
  void make_core(raft::Restored restored);
  void begin();
  void tick();
  void role_changed();
  void try_activate();
  void step_down(Leases::Refusal refusal, const base::Error& why);
  void fail_node(const base::Error& why);
  void break_off(const std::string& lane, const std::string& what);
  void halt(const std::string& state, const base::Error& why);
  void fail_waiters(const base::Error& why);
  void stop_serving();
  void finish_stop();
  void write_meta(std::function<void()> done);
  [[nodiscard]] bool embedded() const { return config_.embedded(); }
  [[nodiscard]] bool stopped() const { return !final_state_.empty() || broken_.load(); }
  base::Status may_propose() const;
  base::Error unavailable() const;  // why nothing can be written here now, for people
  std::string node_name(base::NodeId id) const;

  // node_commit.cc
  void on_committed(const base::Entry& entry);
  void applied_changed();
  void configuration_committed(const base::Entry& entry);
  void settle_waiters();
  void expire_waiters();
  void ask_create(std::uint64_t token);
  void see_drops(CreateWaiter& waiter);
  void ask_drop(std::uint64_t token);
  void ask_refused(std::uint64_t token, const base::Error& why);
  base::Error overdue(const Asked& asked) const;
  base::Status propose_create(const pages::CreateDatabase& create, base::SharedBytes payload);
  base::Status propose_drop(base::DatabaseId db);
  base::Status create_for_execution(const std::string& name);
  [[nodiscard]] std::optional<base::Error> stopped_here(base::DatabaseId db) const;

  // node_gate.cc
  void propose(Proposal proposal);
  void read_index(std::function<void(base::Result<base::Index>)> done);
  void on_read(const raft::ReadResult& result);
  void expire_reads();
  void try_barrier(base::Micros deadline, std::function<void(base::Result<base::Index>)> done);

  // node_cluster.cc
  base::Status admit(const base::PeerInfo& peer, const Hello& hello);
  void remember_held(const base::Member& member);
  void send_raft(const raft::Message& message);
  bool send_frame(base::NodeId to, base::Channel channel, FrameKind kind, base::ByteView body);
  void on_raft(const Peer& peer, const Frame& frame);
  void on_forward(const Peer& peer, const Frame& frame);
  void on_control(const Peer& peer, const Frame& frame);
  void on_control_reply(const Peer& peer, const Frame& frame);
  void on_superseded(const Peer& peer, const Frame& frame);
  void run_bootstrap();
  void take_first(const Bootstrap::Actions::First& first);
  void write_first(const base::Entry& entry, const raft::HardState& hard);
  void join();
  void check_joined();
  void check_members();
  void tell_superseded();
  [[nodiscard]] bool was_voter(base::Member member) const;
  bool halt_if_superseded();
  void check_contradicted();
  void halt_superseded();
  std::optional<Forwards::Target> forward_target();
  bool send_forward(base::NodeId leader, Forward forward);
  void take_forward(Forward forward, Execution::Reply reply);
  void drain_early_forwards();
  bool ask_leader(ControlKind kind, std::uint64_t token, base::Bytes body);
  base::Status ask_transfer(base::NodeId to, std::uint64_t token);
  base::Status transfer_here(base::NodeId to);

  // maintenance.cc
  void maintain();
  void sync_round(std::function<void(base::Result<base::Index>)> done);
  void sync_databases(Catalogue catalogue);
  void sync_finished(const base::Status& status, const Catalogue& catalogue);
  void move_floor(base::LogId floor, std::function<void(base::Status)> done);
  // The last entry that a floor may take with it while `keep` committed ones stay. {}: none that is still there.
  base::LogId floor_keeping(std::uint64_t keep) const;
  void prepare_segments();
  void prepare_slice();
  std::optional<raft::Configuration> configuration_at(base::Index index) const;

  // stuck_writer.cc
  void check_writers();
  void hand_over_stuck();

  // status.cc
  void refresh_status();
  std::string state_word(std::vector<base::NodeId>& missing) const;

  Parts parts_;
  const Config config_;
  DataDir data_dir_;
  Meta meta_;  // as on disk, or about to be
  const base::Member self_;
  const std::uint64_t boot_nonce_;
  base::Transport* transport_ = nullptr;
  pages::ImageFactory* images_ = nullptr;
  Events events_;
  std::atomic<std::uint64_t> sequence_{0};  // of origins of this boot

  Leases leases_;
  Ledger ledger_;
  Origins origins_;
  std::unique_ptr<Driver> driver_;
  std::unique_ptr<ApplyQueue> apply_;
  std::unique_ptr<Forwards> forwards_;
  std::unique_ptr<Execution> execution_;
  std::unique_ptr<Bootstrap> bootstrap_;
  std::optional<raft::Restored> restored_;  // between attach() and begin()
  bool running_bootstrap_ = false;

  std::map<base::NodeId, Peer> peers_;
  Lives lives_;
  std::map<std::uint64_t, Read> reads_;
  std::uint64_t last_context_ = 0;
  std::map<std::uint64_t, CreateWaiter> creates_;  // by token
  std::map<std::uint64_t, DropWaiter> drops_;
  std::map<std::string, base::Term> creating_;  // proposed by this leader in that term
  std::vector<TransferWaiter> transfers_;
  std::vector<IndexWaiter> index_waiters_;
  std::vector<HealthWaiter> health_waiters_;
  std::deque<std::pair<Forward, Execution::Reply>>
      early_forwards_;  // for a term that this node leads but cannot serve yet
  std::uint64_t last_token_ = 0;
  std::vector<std::pair<base::Index, raft::Configuration>> configurations_;  // committed ones, ascending

  base::Term active_term_;  // leading, everything before is decided, and the cluster is formed
  base::Term formed_proposed_in_;
  base::NodeId shown_leader_;
  raft::Role shown_role_ = raft::Role::kFollower;
  base::Index contradicted_;  // raft::Status::contradicted, at the last look
  bool told_contradicted_ = false;
  base::Micros last_tick_ = 0;
  base::Micros last_member_check_ = 0;
  bool started_ = false;
  bool stopping_ = false;
  std::string final_state_;  // poisoned, stopped: nothing goes on
  std::string last_error_;
  std::function<void()> stop_done_;
  std::optional<base::Error> final_error_;

  // Leadership handed over because a transaction of this process kept a database from being written.
  struct StuckHandOver {
    base::Member to;  // the last one
    base::Micros pause = 0;
    base::Micros next = 0;  // not before
  };
  StuckHandOver stuck_;

  // maintenance
  struct SyncRound {
    std::vector<std::function<void(base::Result<base::Index>)>> waiting;
    bool running = false;
    std::vector<std::function<void(base::Result<base::Index>)>> next;
  };
  SyncRound sync_;
  std::uint64_t synced_bytes_ = 0;  // driver_->appended_bytes() at the last round
  std::uint64_t synced_published_ = 0;
  std::uint64_t seen_bytes_ = 0;
  base::Micros changed_at_ = 0;
  std::map<base::DatabaseId, std::uint64_t> frames_;  // WAL bytes since the last checkpoint
  std::map<base::DatabaseId, bool> checkpointing_;
  bool sealed_ = true;
  bool preparing_ = false;
  std::uint64_t prepared_for_ = UINT64_MAX;
  base::Micros prepared_at_ = 0;

  // Any thread.
  std::atomic<bool> broken_{false};           // a task broke off: no state of the node may be used again
  std::atomic<bool> ended_{false};            // final_error_ is set
  std::atomic<std::byte*> reserve_{nullptr};  // memory for the way to the end
  std::atomic<std::uint64_t> commit_index_{0};
  std::atomic<std::uint64_t> durable_index_{0};
  std::atomic<std::uint64_t> applied_index_{0};
  mutable base::Mutex shown_mutex_;
  NodeStatus shown_ GUARDED_BY(shown_mutex_);
  std::optional<base::Error> shown_end_ GUARDED_BY(shown_mutex_);  // final_error_
  raft::Status shown_raft_ GUARDED_BY(shown_mutex_);
  std::map<std::string, base::DatabaseId> names_ GUARDED_BY(shown_mutex_);
};

}  // namespace node
