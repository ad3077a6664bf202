// See owned_node.h. Start order: directory -> lanes -> log and identity -> address -> databases -> shim -> socket -> run. stop() undoes it
// backwards; whoever is called by a part is stopped after it.
#include "ext/owned_node.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/checksum.h"
#include "base/fault.h"
#include "base/lane.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/posix_env.h"
#include "exec/executor.h"
#include "ext/data_dir_lock.h"
#include "ext/service.h"
#include "net/descriptors.h"
#include "net/local_server.h"
#include "net/loop_lane.h"
#include "net/tcp_transport.h"
#include "vfs/images.h"
#include "vfs/shim.h"

namespace ext {
namespace {

using base::Status;

// Both sides of a handshake must have the same list of nodes (R18).
base::Bytes nodes_tag(const node::Config& config) {
  std::vector<std::string> lines;
  for (const auto& one : config.nodes) lines.push_back(std::to_string(one.id.value) + " " + one.raft_addr);
  std::sort(lines.begin(), lines.end());
  base::Writer out;
  for (const auto& line : lines) out.text(line);
  base::Writer tag;
  tag.u64(base::xxh3(out.view()));
  return tag.take();
}

// A one-shot signal from a lane to a waiting thread; shared because the lane may fire it after the waiter gave up.
struct Signal {
  base::Mutex mutex;
  base::CondVar changed;
  bool fired GUARDED_BY(mutex) = false;
  void fire() {
    const base::MutexLock lock(mutex);
    fired = true;
    changed.notify_all();
  }
  bool wait(base::Micros deadline) {
    const base::MutexLock lock(mutex);
    while (!fired)
      if (!changed.wait_until(mutex, deadline)) return fired;
    return true;
  }
};

class RealNode final : public OwnedNode {
 public:
  explicit RealNode(DataDirLock lock) : data_dir_(lock.path()), lock_(std::move(lock)) {}
  ~RealNode() override { stop(base::posix_env().now()); }

  Status run(node::Config config);
  void stop(base::Micros deadline) override;
  bool use(const std::function<void(node::Node&)>& work) override {
    const Use use(*this);
    if (use.held == nullptr) return false;
    work(*use.held);
    return true;
  }
  base::NodeId id() const override { return id_; }
  const std::string& data_dir() const override { return data_dir_; }

 private:
  // One thread inside use(), also until its work throws: stop() waits for it. `held` is null after stop().
  struct Use {
    explicit Use(RealNode& used) : owner(used) {
      const base::MutexLock lock(owner.use_mutex_);
      held = owner.used_;
      if (held != nullptr) ++owner.users_;
    }
    ~Use() {
      if (held == nullptr) return;
      const base::MutexLock lock(owner.use_mutex_);
      if (--owner.users_ == 0) owner.unused_.notify_all();
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    RealNode& owner;
    node::Node* held = nullptr;
  };
  // What a lane does with an exception that a task let out: it is the node's end, not the process's (R2).
  base::ThreadLane::FailureHandler failure_of(const char* lane) {
    return [this, lane](const std::string& what) {
      // Before there is a node nothing runs on the lanes.
      if (node::Node* const node = failing_.load()) node->lane_failed(lane, what);
    };
  }
  Status listen(const node::Config& config);
  Status write_node_json(const node::Config& config);

  const std::string data_dir_;
  std::optional<DataDirLock> lock_;  // given back by stop(): a call in progress may keep this object a little longer
  base::NodeId id_;
  std::unique_ptr<net::LoopLane> loop_;
  std::unique_ptr<base::ThreadLane> log_;
  std::unique_ptr<base::ThreadLane> apply_;
  std::unique_ptr<base::ThreadLane> maintenance_;
  base::Mutex use_mutex_;
  base::CondVar unused_;
  node::Node* used_ GUARDED_BY(use_mutex_) = nullptr;  // node_ while use() may have it
  int users_ GUARDED_BY(use_mutex_) = 0;               // threads inside use()
  std::unique_ptr<node::Node> node_;
  std::atomic<node::Node*> failing_{nullptr};  // node_, for lanes that let an exception out
  std::unique_ptr<net::TcpTransport> transport_;
  std::unique_ptr<vfs::Images> images_;
  std::unique_ptr<node::ExecutorFactory> executors_;
  std::unique_ptr<net::LocalServer> server_;
  bool bound_ = false;
  bool stopped_ = false;
};

Status RealNode::listen(const node::Config& config) {
  if (!config.listens()) return {};
  net::TransportOptions options;
  options.self = node_->self();
  options.boot_nonce = node_->boot_nonce();
  options.listen = !config.listen_addr_raft.empty() ? config.listen_addr_raft : config.self()->raft_addr;
  options.secret_raft = config.secret_raft;
  options.cluster_tag = [tag = nodes_tag(config)] { return tag; };
  options.on_error = [node = node_.get()](const base::Error& error) {
    base::log_warn("net: " + error.message);
    // A peer that is not there is shown as missing; one that is refused is something to mend.
    if (error.code != base::Code::kIo) node->peer_trouble(error);
  };
  auto listening = net::TcpTransport::listen(*loop_, std::move(options));
  if (!listening) return listening.error();
  transport_ = std::move(*listening);
  return {};
}

Status RealNode::write_node_json(const node::Config& config) {
  const auto* self = config.self();
  const nlohmann::ordered_json json = {{"node_id", id_.value},
                                       {"pid", static_cast<std::int64_t>(::getpid())},
                                       {"version", HQL_VERSION},
                                       {"raft_addr", transport_ ? transport_->address() : ""},
                                       {"api_addr", self != nullptr ? self->api_addr : ""},
                                       {"incarnation", base::hex16(node_->self().incarnation.value)}};
  // An address is whatever was configured, UTF-8 or not.
  const std::string text = json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  return base::write_file_atomic(base::posix_env(), data_dir(), "node.json", base::view_of(text));
}

Status RealNode::run(node::Config config) {
  base::warn_of_unused_faults();
  id_ = config.node_id;
  config.data_dir = data_dir();
  HQL_ASSIGN(loop, net::LoopLane::start("hql-loop", failure_of("hql-loop")));
  loop_ = std::move(loop);
  if (!config.embedded()) log_ = base::ThreadLane::start("hql-log", failure_of("hql-log"));
  // What nobody waits for gives way to commits.
  apply_ = base::ThreadLane::start("hql-apply", failure_of("hql-apply"), base::ThreadLane::Urgency::kPatient);
  maintenance_ = base::ThreadLane::start("hql-maint", failure_of("hql-maint"), base::ThreadLane::Urgency::kPatient);
  // An embedded node has no peer whose heartbeats a sync could delay: its loop writes the log itself, which spares every commit two
  // hand-overs between threads (bench/README.md).
  base::Lane* const log = config.embedded() ? static_cast<base::Lane*>(loop_.get()) : log_.get();
  const node::Parts parts{&base::posix_env(), loop_.get(), log, apply_.get(), maintenance_.get()};
  HQL_ASSIGN(opened, node::Node::open(parts, config));
  node_ = std::move(opened);
  failing_ = node_.get();
  HQL_TRY(listen(config));

  vfs::DatabaseParams params;
  params.env = &base::posix_env();
  params.gate = node_.get();
  params.loop = loop_.get();
  params.apply = apply_.get();
  params.maintenance = maintenance_.get();
  params.dir = data_dir() + "/db";
  images_ = vfs::Images::make(params);
  exec::ExecutorParams executor_params;
  executor_params.gate = node_.get();
  executor_params.loop = loop_.get();
  executor_params.node = id_;
  executor_params.statement_timeout_ms = static_cast<std::uint32_t>(config.statement_timeout_ms);
  executor_params.on_failure = failure_of("hql-exec");
  executors_ = exec::make_executors(executor_params);
  HQL_TRY(node_->attach(*images_, *executors_, transport_.get()));

  HQL_TRY(write_node_json(config));
  vfs::bind_node({id_, data_dir(), node_.get(), [this](const std::string& name) { return images_->find(name); }});
  bound_ = true;
  HQL_ASSIGN(server, net::LocalServer::listen(*loop_, data_dir() + "/sock"));
  server_ = std::move(server);
  loop_->post([this] {
    server_->start(
        [this](base::ByteView request, net::LocalServer::Reply reply) { serve(*node_, request, std::move(reply)); });
  });
  node_->start();
  const base::MutexLock lock(use_mutex_);
  used_ = node_.get();
  return {};
}

void RealNode::stop(base::Micros deadline) {
  if (stopped_) return;
  stopped_ = true;
  if (server_) server_->stop();
  if (node_) {
    const auto done = std::make_shared<Signal>();
    node_->stop([done] { done->fire(); });
    if (!done->wait(deadline))
      base::log_warn("node " + std::to_string(id_.value) +
                     ": the clean stop did not finish in time; recovery does the rest");
  }
  if (bound_) vfs::unbind_node(id_);
  if (transport_) transport_->stop();
  if (images_) images_->close_all(deadline);
  for (auto* lane : {maintenance_.get(), apply_.get(), log_.get()})
    if (lane != nullptr) lane->stop();
  if (loop_) loop_->stop();
  server_.reset();
  transport_.reset();
  {
    const base::MutexLock lock(use_mutex_);
    used_ = nullptr;
    while (users_ != 0) unused_.wait(use_mutex_);
  }
  failing_ = nullptr;
  node_.reset();
  executors_.reset();
  images_.reset();
  ::unlink((data_dir() + "/node.json").c_str());
  lock_.reset();
}

// libuv aborts the process when it closes a descriptor of 0 to 2, and what has number 2 gets the log's text: a host that closed its own has
// them as /dev/null from now on. They stay, because nobody could say when it is over.
Status fill_standard_descriptors() {
  int fd = -1;
  do {
    fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0) return base::make_error(base::Code::kIo, std::string("cannot open /dev/null: ") + std::strerror(errno));
  } while (fd <= STDERR_FILENO);
  ::close(fd);
  return {};
}

}  // namespace

void OwnedNode::close_all_in_child() noexcept {
  base::posix_env_abandon_files();
  net::abandon_descriptors();
}

base::Result<std::unique_ptr<OwnedNode>> OwnedNode::start(node::Config config) {
  HQL_TRY(fill_standard_descriptors());
  HQL_ASSIGN(lock, DataDirLock::take(config.data_dir, config.node_id));
  auto made = std::make_unique<RealNode>(std::move(lock));
  if (const auto running = made->run(std::move(config)); !running) {
    made->stop(base::posix_env().now() + base::kSecond);
    return running.error();
  }
  return std::unique_ptr<OwnedNode>(std::move(made));
}

}  // namespace ext
