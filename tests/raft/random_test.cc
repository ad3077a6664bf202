// A thousand random schedules (`night`: 200,000) over in-memory nodes: lost, duplicated, reordered messages, partitions, slow disks, crashes that
// lose what was not synced, restarts, changes of members, transfers, compaction, snapshots, reads. The invariants of a consensus
// core are checked after every step, then the cluster is healed and must make progress. A failure prints its seed;
// HQL_RAFT_SEED=<n> runs that one alone, HQL_TEST_SCALE=ci|hour|night sets how many.
#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <set>
#include <sstream>
#include <string>

#include "cluster.h"

namespace raft_test {
namespace {

constexpr int kHealTicksMax = 600;        // liveness: far more than elections, snapshots and catching up need
constexpr std::size_t kNetworkMax = 400;  // messages under way; older ones are lost

struct Read {
  Index floor;  // what was committed when it began
};

class Schedule {
 public:
  explicit Schedule(std::uint64_t seed) : random_(seed) {
    cluster_.on_send = [this](Node& node, const raft::Message& message) { check_send(node, message); };
    cluster_.on_ready = [this](Node& node, const raft::Ready&) { check_applied(node); };
    const std::vector<Member> voters = {member(1), member(2), member(3)};
    for (const Member each : {member(1), member(2), member(3), member(4), member(5), member(3, 2)}) {
      Disk disk;
      if (std::find(voters.begin(), voters.end(), each) != voters.end()) disk.floor_configuration = voters_of(voters);
      raft::Options options;
      options.seed = random_.next() >> 8;
      options.election_ticks = 4 + static_cast<int>(random_.below(4));
      options.append_bytes_max = 1 + random_.below(60);
      options.append_inflight_max = 1 + static_cast<int>(random_.below(4));
      options.inflight_bytes_max = 1 + random_.below(200);
      options.cache_bytes_max = random_.below(2) == 0 ? 0 : random_.below(1500);
      options.uncommitted_bytes_max = 100 + random_.below(300);
      options.priority = static_cast<int>(random_.below(3));
      Node& node = cluster_.add(each, options, std::move(disk));
      node.slow_disk = random_.chance(2, 5);
      node.pays = random_.chance(1, 2);
      node.pays_later = random_.chance(1, 2);
      cluster_.start(node);
    }
    lossy_ = random_.below(4);
    calm_ = random_.chance(1, 3);
  }

  // The first violated invariant, or nothing.
  std::string run() {
    const std::uint64_t steps = 400 + random_.below(1200);
    for (std::uint64_t i = 0; i < steps && error_.empty(); ++i) {
      step();
      after_step();
    }
    if (error_.empty()) heal();
    return error_;
  }

  std::uint64_t committed() const { return committed_.size(); }
  std::uint64_t reads() const { return reads_answered_; }
  std::uint64_t changes() const { return changes_; }
  std::uint64_t installs() const { return installs_; }
  std::uint64_t elections() const { return leaders_.size(); }

 private:
  static Member member(std::uint64_t id, std::uint64_t incarnation = 1) {
    return {base::NodeId(id), base::Incarnation(incarnation)};
  }
  void fail(const std::string& what) {
    if (error_.empty()) error_ = what;
  }
  Node& any_node() {
    auto at = cluster_.nodes.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(random_.below(cluster_.nodes.size())));
    return at->second;
  }
  Node* any_leader() {
    std::vector<Node*> found;
    for (auto& [who, node] : cluster_.nodes)
      if (node.core && node.core->is_leader()) found.push_back(&node);
    return found.empty() ? nullptr : found[random_.below(found.size())];
  }

  // --- what happens -------------------------------------------------------------------------------------------------------

  void step() {
    const std::uint64_t dice = random_.below(1000);
    Node& node = any_node();
    if (random_.chance(1, 10)) pay(any_node());
    if (dice < 100) {
      if (node.core) node.core->tick();
    } else if (dice < 180) {
      for (auto& [who, each] : cluster_.nodes)
        if (each.core) each.core->tick();
    } else if (dice < 600) {
      for (std::uint64_t left = 1 + random_.below(12); left > 0; --left) deliver_some();
    } else if (dice < 790) {
      if (node.core)
        for (std::uint64_t left = 1 + random_.below(3); left > 0 && cluster_.complete(node); --left) {
        }
    } else if (dice < 830) {
      if (node.core && !node.log_reads.empty()) cluster_.answer_log_read(node);
    } else if (dice < 900) {
      if (Node* leader = any_leader()) propose(*leader);
    } else if (dice < 930) {
      begin_read(node);
    } else if (dice < 950) {
      if (node.core && random_.chance(calm_ ? 1 : 2, 3))
        crash(node);
      else if (!node.core)
        restart(node);
    } else if (dice < 960) {
      if (!node.core) restart(node);
    } else if (dice < 971) {
      if (Node* leader = any_leader()) change(*leader);
    } else if (dice < 973) {
      if (Node* leader = any_leader())
        (void)leader->core->transfer(random_.chance(1, 2) ? Member{} : node.member).has_value();
    } else if (dice < 980) {
      compact(node);
    } else if (dice < 988) {
      install(node);
    } else if (dice < 991) {
      if (node.core) node.core->disk_stalled(random_.chance(1, 2));
    } else if (dice < 994) {
      if (node.core)
        random_.chance(1, 2) ? node.core->peer_down(any_node().member) : node.core->peer_up(any_node().member);
    } else if (dice < 997) {
      partition();
    } else if (node.core) {
      node.core->campaign();
    }
  }

  // What drivers do in their own time: some pay after a while, others never; some hear of callers that wait on a follower.
  void pay(Node& node) {
    if (!node.core) return;
    if (node.pays) {
      random_.chance(1, 2) ? node.core->hurry(any_node().member) : node.core->announce_commit(any_node().member);
    } else if (node.pays_later) {
      if (node.owed) node.core->pay_followers(*node.owed);
      node.owed = node.owed ? std::nullopt : node.core->followers_owed();
    }
  }

  void partition() {
    side_.clear();
    if (random_.chance(1, 2)) return;
    for (auto& [who, node] : cluster_.nodes)
      if (random_.chance(1, 2)) side_.insert(who);
  }

  void deliver_some() {
    auto& network = cluster_.network;
    if (network.empty()) return;
    while (network.size() > kNetworkMax) network.erase(network.begin());
    // Mostly in order, often not.
    const std::size_t at = random_.chance(2, 3) ? 0 : static_cast<std::size_t>(random_.below(network.size()));
    raft::Message message = network[at];
    const bool duplicate = random_.chance(lossy_, 30);
    if (!duplicate) network.erase(network.begin() + static_cast<std::ptrdiff_t>(at));
    if (random_.chance(lossy_, 30)) return;
    if (side_.count(message.from) != side_.count(message.to)) return;
    auto decoded = raft::decode_message(raft::encode(message));  // as it travels
    if (!decoded) return fail("a message does not survive its wire format");
    cluster_.deliver(std::move(*decoded));
  }

  void propose(Node& leader) {
    const std::string text = "v" + std::to_string(++values_) + std::string(random_.below(20), '.');
    const auto nature = random_.chance(1, 5) ? raft::Proposal::kContinuesChain : raft::Proposal::kWhole;
    (void)leader.core->propose(base::EntryKind::kData, base::share(base::copy_of(base::view_of(text))), nature)
        .has_value();
  }

  void begin_read(Node& node) {
    if (!node.core) return;
    reads_[++contexts_] = {Index(committed_.size())};
    node.core->read_index(contexts_);
  }

  void crash(Node& node) {
    cluster_.tear(node, random_.chance(1, 2) ? 1 + random_.below(3) : 0);
    commits_.erase(node.member);
    installing_.erase(node.member);
  }

  void restart(Node& node) {
    node.no_payloads = random_.chance(1, 2);
    cluster_.start(node);
    check_status(node);
  }

  void change(Node& leader) {
    const raft::Configuration now = leader.core->status().configuration;
    raft::Configuration wanted;
    std::set<std::uint64_t> ids;
    std::vector<Member> pool;
    for (auto& [who, node] : cluster_.nodes) pool.push_back(who);
    random_.shuffle(pool);
    for (const Member each : pool) {
      if (now.contains(each) && ids.size() < 3 + random_.below(2) && !ids.count(each.id.value)) {
        wanted.voters.push_back(info(each));
        ids.insert(each.id.value);
      } else if (random_.chance(2, 3)) {
        wanted.learners.push_back(info(each));
      }
    }
    if (leader.core->change_configuration(wanted.voters, wanted.learners)) ++changes_;
  }

  raft::Configuration configuration_at(const Disk& disk, Index index) const {
    raft::Configuration configuration = disk.floor_configuration;
    for (const Entry& entry : disk.entries) {
      if (entry.id.index > index) break;
      if (entry.kind == base::EntryKind::kConfig)
        configuration = *raft::decode_configuration(base::view_of(entry.payload));
    }
    return configuration;
  }

  void compact(Node& node) {
    Disk& disk = node.disk;
    if (!node.core || disk.applied <= disk.floor.index) return;
    const Index index(disk.floor.index.value + 1 + random_.below(disk.applied.value - disk.floor.index.value));
    const raft::Configuration configuration = configuration_at(disk, index);
    const LogId id = disk.find(index)->id;
    disk.entries.erase(disk.entries.begin(),
                       disk.entries.begin() + static_cast<std::ptrdiff_t>(index.value - disk.floor.index.value));
    disk.floor = id;
    disk.floor_configuration = configuration;
    node.core->set_floor(id, configuration);
  }

  void install(Node& node) {
    if (!node.core) return;
    const bool asked = !node.snapshots_wanted.empty() || installing_.count(node.member);
    if (!asked && random_.chance(1, 2)) return;  // also one that came late, or from an operator
    if (asked && random_.chance(1, 6)) {
      node.snapshots_wanted.clear();
      installing_.erase(node.member);
      node.core->snapshot_failed();
      return;
    }
    for (auto& [who, source] : cluster_.nodes) {
      const Index index = source.disk.applied;
      if (who == node.member || index <= node.disk.floor.index) continue;
      if (!node.snapshots_wanted.empty() && index < node.snapshots_wanted.back()) continue;
      const LogId id = index == source.disk.floor.index ? source.disk.floor : source.disk.find(index)->id;
      installing_.insert(node.member);
      const raft::InstallPlan plan = node.core->begin_install(id);
      if (plan == raft::InstallPlan::kWait) return;
      installing_.erase(node.member);
      node.snapshots_wanted.clear();
      if (plan == raft::InstallPlan::kUseless) return;
      Disk& disk = node.disk;
      if (plan == raft::InstallPlan::kReset) {
        disk.entries.clear();
      } else {
        const Entry* last = disk.find(id.index);
        if (!last || last->id != id)
          return fail(name(node.member) + " keeps a suffix after an entry that its disk does not hold");
        disk.entries.erase(disk.entries.begin(),
                           disk.entries.begin() + static_cast<std::ptrdiff_t>(id.index.value - disk.floor.index.value));
      }
      disk.floor_configuration = configuration_at(source.disk, index);
      disk.floor = id;
      disk.applied = std::max(disk.applied, id.index);
      ++installs_;
      applied_.erase({node.member, node.boots});  // a snapshot jumps
      node.core->snapshot_installed(id, disk.floor_configuration);
      return;
    }
  }

  // --- what must hold ---------------------------------------------------------------------------------------------------------

  void after_step() {
    for (bool any = true; any && error_.empty();) {
      any = false;
      for (auto& [who, node] : cluster_.nodes) any = cluster_.drain(node) || any;
    }
    for (auto& [who, node] : cluster_.nodes) {
      if (!node.core || !error_.empty()) continue;
      check_jobs(node);
      check_status(node);
      for (const raft::ReadResult& read : node.reads) check_read(node, read);
      node.reads.clear();
    }
  }

  void check_read(Node& node, const raft::ReadResult& read) {
    const auto found = reads_.find(read.context);
    if (found == reads_.end()) return fail(name(node.member) + " answered a read twice");
    if (read.ok) ++reads_answered_;
    if (read.ok && read.index < found->second.floor)
      fail(name(node.member) + " read at " + std::to_string(read.index.value) + " although " +
           std::to_string(found->second.floor.value) + " was committed before");
    reads_.erase(found);
  }

  // Log matching, by induction: one (index, term) has one predecessor term and one content.
  void check_jobs(Node& node) {
    for (const raft::PersistJob& job : node.jobs) {
      if (job.sequence <= seen_jobs_[{node.member, node.boots}]) continue;
      seen_jobs_[{node.member, node.boots}] = job.sequence;
      for (const Entry& entry : job.entries) {
        const auto previous = node.core->term_at(raft::Index(entry.id.index.value - 1));
        const std::string content =
            std::to_string(static_cast<int>(entry.kind)) + std::string(base::text_of(base::view_of(entry.payload)));
        auto [at, fresh] = entries_.try_emplace(entry.id, previous, content);
        if (!fresh &&
            (at->second.second != content || (previous && at->second.first && *at->second.first != *previous)))
          fail("log matching: " + describe(entry.id) + " differs on " + name(node.member));
      }
    }
  }

  bool holds(Member who, LogId id) const {
    const auto found = cluster_.nodes.find(who);
    if (found == cluster_.nodes.end()) return false;
    const Disk& disk = found->second.disk;
    if (id.index <= disk.floor.index) return true;
    const Entry* entry = disk.find(id.index);
    return entry && entry->id == id;
  }

  void check_committed(Node& node, LogId id) {
    const std::size_t position = id.index.value - 1;
    if (position < committed_.size()) {
      if (committed_[position].term != id.term)
        fail("state machine safety: " + describe(id) + " and " + describe(committed_[position]) + " committed, by " +
             name(node.member));
      return;
    }
    if (position > committed_.size()) return fail("a hole in what is committed at " + describe(id));
    committed_.push_back(id);
    // Whoever learns it first, a majority of its configuration must have it on disk (both majorities of a joint one).
    if (!node.core->is_leader()) return;
    const raft::Configuration configuration = node.core->status().configuration;
    std::size_t have = 0;
    for (const auto& voter : configuration.voters) have += holds(voter.member, id) ? 1 : 0;
    std::size_t have_outgoing = 0;
    for (const Member voter : configuration.outgoing) have_outgoing += holds(voter, id) ? 1 : 0;
    // A final configuration is appended in the same breath as its joint one commits: then only the old list can be asked.
    const bool just_left = node.core->status().configuration_index > id.index;
    if (!just_left && (have * 2 <= configuration.voters.size() ||
                       (configuration.joint() && have_outgoing * 2 <= configuration.outgoing.size())))
      fail(describe(id) + " committed by " + name(node.member) + " but not on the disks of a majority");
  }

  void check_status(Node& node) {
    const raft::Status status = node.core->status();
    Index& known = commits_[node.member];
    if (status.commit < known) fail("the commit index of " + name(node.member) + " went back");
    if (status.commit > status.last.index) fail(name(node.member) + " commits beyond its log");
    for (Index at(std::max({known.value, status.floor.index.value, std::uint64_t{0}}) + 1); at <= status.commit;
         at = at.next())
      check_committed(node, {*node.core->term_at(at), at});
    known = status.commit;
    if (status.durable > node.disk.last().index) fail(name(node.member) + " believes in more than its disk has");
    if (status.durable > status.floor.index) {
      const Entry* entry = node.disk.find(status.durable);
      if (!entry || entry->id.term != *node.core->term_at(status.durable))
        fail(name(node.member) + " believes that its disk has another entry at " +
             std::to_string(status.durable.value));
    }
    if (node.jobs.empty() && !node.core->has_ready() &&
        status.configuration != configuration_at(node.disk, node.disk.last().index))
      fail(name(node.member) + " follows another configuration than its log says");
    for (const auto& [member, index] : status.heartbeat_held) check_held(node, member, index);
    if (status.role != raft::Role::kLeader) return;
    for (const raft::PeerStatus& peer : status.peers)
      check_held(node, peer.member, std::min(peer.match, status.commit));
    const auto [leader, fresh] = leaders_.try_emplace(status.term, node.member);
    if (leader->second != node.member)
      fail("two leaders of term " + std::to_string(status.term.value) + ": " + name(node.member) + ", " +
           name(leader->second));
    if (!fresh) return;
    for (const LogId& id : committed_) {
      if (id.index <= status.floor.index) continue;
      if (node.core->term_at(id.index) != id.term)
        fail("leader completeness: " + name(node.member) + " leads term " + std::to_string(status.term.value) +
             " without " + describe(id));
    }
  }

  // What a node remembers against an older copy of another one's disk (R10) is never more than that disk had.
  void check_held(Node& node, Member who, Index index) {
    if (index > Index{} && !holds(who, committed_.at(index.value - 1)))
      fail(name(node.member) + " remembers more of " + name(who) +
           " than its disk has: " + std::to_string(index.value));
  }

  void check_applied(Node& node) {
    const raft::Status status = node.core->status();
    for (const Entry& entry : node.fresh) {
      if (entry.id.index > status.commit) fail(name(node.member) + " applies what is not committed");
      const Entry* durable = node.disk.find(entry.id.index);
      if (!durable || durable->id != entry.id) fail(name(node.member) + " applies what its disk does not hold");
      if (entry.kind == base::EntryKind::kData && entry.payload && durable && *entry.payload != *durable->payload)
        fail(name(node.member) + " applies another payload than its disk has");
      Index& last = applied_[{node.member, node.boots}];
      if (last && entry.id.index != last.next()) fail(name(node.member) + " applies with a gap");
      last = entry.id.index;
      if (random_.chance(1, 2)) {
        node.disk.applied = std::max(node.disk.applied, entry.id.index);
        node.core->applied(entry.id.index);
      }
      if (entry.id.index.value <= committed_.size() && committed_[entry.id.index.value - 1] != entry.id)
        fail("state machine safety: " + name(node.member) + " applies " + describe(entry.id));
    }
    node.fresh.clear();
  }

  void check_send(Node& node, const raft::Message& message) {
    const raft::HardState& hard = node.disk.hard;
    const std::string who = name(node.member) + ": " + describe(message);
    const auto vote_for = [&](Member candidate) {
      if (hard.term < message.term || (hard.term == message.term && hard.voted_for != candidate))
        fail("vote before its sync: " + who);
      const auto [vote, fresh] = votes_.try_emplace({message.term, node.member}, candidate);
      if (vote->second != candidate) fail("two votes in a term: " + who);
    };
    if (raft::says_durable_term(message) && hard.term < message.term)
      fail("speaks in a term that its disk does not know: " + who);
    if (const auto* reply = std::get_if<raft::VoteReply>(&message.body); reply && !reply->pre && reply->granted)
      vote_for(message.to);
    if (const auto* request = std::get_if<raft::VoteRequest>(&message.body); request && !request->pre)
      vote_for(node.member);
    const auto promises = [&](Index match) {
      const auto receiver = cluster_.nodes.find(message.to);
      if (receiver == cluster_.nodes.end() || !receiver->second.core) return;
      const raft::Core& leader = *receiver->second.core;
      if (!leader.is_leader() || leader.term() != message.term) return;
      const auto term = leader.term_at(match);
      if (term && !holds(node.member, {*term, match})) fail("acknowledges what its disk does not hold: " + who);
    };
    if (const auto* reply = std::get_if<raft::AppendReply>(&message.body); reply && reply->accepted) {
      if (hard.term == message.term && node.disk.last().index < reply->match) fail("ack before its sync: " + who);
      promises(reply->match);
    }
    if (const auto* reply = std::get_if<raft::HeartbeatReply>(&message.body)) {
      if (hard.term <= message.term && node.disk.last().index < reply->match)
        fail("heartbeat ack before its sync: " + who);
      promises(reply->match);
    }
  }

  // --- liveness -----------------------------------------------------------------------------------------------------------------

  // Every configuration that anybody holds keeps its majorities without `away`.
  bool dispensable(Member away) const {
    for (const auto& [who, node] : cluster_.nodes) {
      const raft::Configuration configuration = node.core->status().configuration;
      const auto has_majority = [&](std::size_t with, std::size_t count) { return with * 2 > count; };
      std::size_t with = 0;
      for (const auto& voter : configuration.voters) with += voter.member != away ? 1 : 0;
      if (!configuration.voters.empty() && !has_majority(with, configuration.voters.size())) return false;
      with = 0;
      for (const Member voter : configuration.outgoing) with += voter != away ? 1 : 0;
      if (configuration.joint() && !has_majority(with, configuration.outgoing.size())) return false;
    }
    return true;
  }

  void heal() {
    side_.clear();
    for (auto& [who, node] : cluster_.nodes) {
      if (!node.core) restart(node);
      node.slow_disk = false;
      node.core->disk_stalled(false);
      while (cluster_.complete(node)) {
      }
      while (!node.log_reads.empty()) cluster_.answer_log_read(node);
      if (installing_.count(node.member)) node.core->snapshot_failed();
    }
    installing_.clear();
    std::optional<Member> away;
    if (Node& node = any_node(); random_.chance(1, 2) && dispensable(node.member)) away = node.member;
    const std::uint64_t before = committed_.size();
    std::string state;
    for (int ticks = 0; ticks < kHealTicksMax && error_.empty(); ++ticks) {
      for (auto& [who, node] : cluster_.nodes)
        if (who != away) node.core->tick();
      after_step();
      while (!cluster_.network.empty() && error_.empty()) {
        const raft::Message message = cluster_.network.front();
        cluster_.network.erase(cluster_.network.begin());
        if (message.from != away && message.to != away) cluster_.deliver(message);
        after_step();
      }
      for (auto& [who, node] : cluster_.nodes)
        if (who != away && !node.snapshots_wanted.empty()) install(node);
      Node* leader = any_leader();
      if (leader && ticks % 5 == 0) propose(*leader);
      if (leader && ticks % 7 == 0) begin_read(*leader);
      if (healed(leader, away, before)) return;
    }
    if (!error_.empty()) return;
    std::ostringstream text;
    text << "no progress after healing (away: " << (away ? name(*away) : "-") << ")\n";
    for (auto& [who, node] : cluster_.nodes) {
      const raft::Status status = node.core->status();
      text << name(who) << " " << raft::to_string(status.role) << " term=" << status.term.value
           << " leader=" << name(status.leader) << " last=" << describe(status.last)
           << " commit=" << status.commit.value << " durable=" << status.durable.value
           << " floor=" << describe(status.floor) << " " << describe(status.configuration) << "\n";
      for (const auto& peer : status.peers)
        text << "   " << name(peer.member) << " " << peer.state << " match=" << peer.match.value
             << " next=" << peer.next.value << "\n";
    }
    fail(text.str());
  }

  // The leader's own entries are committed, and everybody in its configuration has them.
  bool healed(Node* leader, std::optional<Member> away, std::uint64_t before) const {
    if (!leader || committed_.size() < before + 5) return false;
    const raft::Status status = leader->core->status();
    if (status.configuration.joint() || !status.configuration_committed || !status.own_term_committed) return false;
    for (const Member each : status.configuration.all()) {
      if (each == away) continue;
      const raft::Status other = cluster_.nodes.at(each).core->status();
      if (other.leader != leader->member || other.commit != status.commit) return false;
    }
    return status.commit == status.last.index;
  }

  base::Random random_;
  Cluster cluster_;
  std::uint64_t lossy_ = 0;  // of 30 messages
  bool calm_ = false;
  std::set<Member> side_;
  std::string error_;
  std::uint64_t values_ = 0;
  std::uint64_t contexts_ = 0;
  std::uint64_t reads_answered_ = 0;
  std::uint64_t changes_ = 0;
  std::uint64_t installs_ = 0;
  std::vector<LogId> committed_;
  std::map<Term, Member> leaders_;
  std::map<std::pair<Term, Member>, Member> votes_;
  std::map<Member, Index> commits_;
  std::map<std::pair<Member, std::uint64_t>, Index> applied_;
  std::map<std::pair<Member, std::uint64_t>, std::uint64_t> seen_jobs_;
  std::map<LogId, std::pair<std::optional<Term>, std::string>> entries_;
  std::map<std::uint64_t, Read> reads_;
  std::set<Member> installing_;
};

std::uint64_t schedules() {
  const char* scale = std::getenv("HQL_TEST_SCALE");
  const std::string name = scale ? scale : "ci";
  if (name == "night") return 200000;
  if (name == "hour") return 20000;
  return 1000;
}

TEST(RandomSchedules, FaultsThenHealed_InvariantsHoldAndProgressIsMade) {
  std::uint64_t first = 1;
  std::uint64_t last = schedules();
  if (const char* one = std::getenv("HQL_RAFT_SEED")) first = last = std::stoull(one);
  std::uint64_t committed = 0;
  std::uint64_t reads = 0;
  std::uint64_t changes = 0;
  std::uint64_t installs = 0;
  std::uint64_t elections = 0;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    Schedule schedule(seed);
    const std::string error = schedule.run();
    ASSERT_EQ(error, "") << "seed " << seed << " (HQL_RAFT_SEED=" << seed << ")";
    committed += schedule.committed();
    reads += schedule.reads();
    changes += schedule.changes();
    installs += schedule.installs();
    elections += schedule.elections();
  }
  std::printf("%llu schedules: %llu committed, %llu reads, %llu changes, %llu snapshots, %llu leaders\n",
              static_cast<unsigned long long>(last - first + 1), static_cast<unsigned long long>(committed),
              static_cast<unsigned long long>(reads), static_cast<unsigned long long>(changes),
              static_cast<unsigned long long>(installs), static_cast<unsigned long long>(elections));
  if (first == last) return;
  // The schedules must reach what they are for.
  EXPECT_GT(committed, last * 5);
  EXPECT_GT(reads, last / 2);
  EXPECT_GT(changes, last / 10);
  EXPECT_GT(installs, last / 50);
}

}  // namespace
}  // namespace raft_test
