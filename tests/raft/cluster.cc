// See cluster.h. Persist jobs are applied to the disk in the order hard state, truncation, entries, as wal/ does.
#include "cluster.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace raft_test {

namespace {
constexpr std::size_t kShownBytesMax = 100;  // longer payloads are described by their size
}  // namespace

const Entry* Disk::find(Index index) const {
  if (index <= floor.index || index > last().index) return nullptr;
  return &entries[index.value - floor.index.value - 1];
}

Node& Cluster::add(Member member, raft::Options options, Disk disk) {
  Node& node = nodes[member];
  node = Node{};
  options.self = member;
  node.member = member;
  node.options = options;
  node.disk = std::move(disk);
  return node;
}

void Cluster::start(Node& node) {
  raft::Restored restored;
  restored.hard = node.disk.hard;
  restored.floor = node.disk.floor;
  restored.floor_configuration = node.disk.floor_configuration;
  restored.applied = node.disk.applied;
  restored.may_vote = node.disk.may_vote;
  restored.vote_floor = node.disk.vote_floor;
  for (Entry entry : node.disk.entries) {
    restored.sizes.push_back(entry.size());
    if (node.no_payloads && entry.kind == base::EntryKind::kData) entry.payload = nullptr;
    restored.entries.push_back(std::move(entry));
  }
  raft::Options options = node.options;
  options.seed += node.boots++ * 1000003;
  node.core = std::make_unique<raft::Core>(options, std::move(restored));
}

void Cluster::crash(Node& node) {
  node.core.reset();
  node.jobs.clear();
  node.log_reads.clear();
  node.snapshots_wanted.clear();
  node.fresh.clear();
  node.reads.clear();
  node.owed.reset();
}

void Cluster::tear(Node& node, std::size_t jobs) {
  for (std::size_t i = 0; i < jobs && i < node.jobs.size(); ++i)
    if (node.jobs[i].hard) node.disk.hard = *node.jobs[i].hard;
  crash(node);
}

void Cluster::send(Node& node, raft::Message message) {
  if (on_send) on_send(node, message);
  network.push_back(std::move(message));
}

bool Cluster::drain(Node& node) {
  bool any = false;
  while (node.core && node.core->has_ready()) {
    raft::Ready ready = node.core->take_ready();
    if (const auto owed = node.core->followers_owed(); node.pays && owed) node.core->pay_followers(*owed);
    if (ready.empty()) continue;
    any = true;
    for (raft::Message& message : ready.messages) send(node, std::move(message));
    if (ready.persist) node.jobs.push_back(std::move(*ready.persist));
    ready.persist.reset();
    for (const Entry& entry : ready.committed) node.fresh.push_back(entry);
    for (const raft::ReadResult& read : ready.reads) node.reads.push_back(read);
    for (const raft::LogRead& read : ready.log_reads) node.log_reads.push_back(read);
    for (const Index wanted : ready.snapshots_wanted) node.snapshots_wanted.push_back(wanted);
    if (on_ready) on_ready(node, ready);
    if (!node.slow_disk) {
      while (complete(node)) {
      }
      while (!node.log_reads.empty()) answer_log_read(node);
    }
  }
  return any;
}

void Cluster::drain_all() {
  for (bool any = true; any;) {
    any = false;
    for (auto& [member, node] : nodes) any = drain(node) || any;
  }
}

bool Cluster::complete(Node& node) {
  if (node.jobs.empty()) return false;
  raft::PersistJob job = std::move(node.jobs.front());
  node.jobs.pop_front();
  Disk& disk = node.disk;
  if (job.hard) disk.hard = *job.hard;
  if (job.truncate_from) {
    CHECK(*job.truncate_from > disk.floor.index);
    CHECK(*job.truncate_from <= disk.last().index.next());
    disk.entries.resize(job.truncate_from->value - disk.floor.index.value - 1);
  }
  for (Entry& entry : job.entries) {
    CHECK(entry.id.index == disk.last().index.next());
    CHECK(entry.kind != base::EntryKind::kData || entry.payload);
    disk.entries.push_back(std::move(entry));
  }
  node.core->persisted(job.sequence);
  for (raft::Message& message : job.then_send) send(node, std::move(message));
  return true;
}

void Cluster::answer_log_read(Node& node) {
  const raft::LogRead read = node.log_reads.front();
  node.log_reads.pop_front();
  std::vector<Entry> entries;
  std::size_t bytes = 0;
  for (Index at = read.first; at <= read.last; at = at.next()) {
    const Entry* entry = node.disk.find(at);
    if (!entry || (!entries.empty() && bytes + entry->size() > read.bytes_max)) break;
    bytes += entry->size();
    entries.push_back(*entry);
  }
  node.core->log_read_done(read.token, std::move(entries));
}

void Cluster::deliver(raft::Message message) {
  const auto found = nodes.find(message.to);
  if (found == nodes.end() || !found->second.core) return;
  found->second.core->step(std::move(message));
}

raft::MemberInfo info(Member member) { return {member, "host" + std::to_string(member.id.value) + ":1", ""}; }

raft::Configuration voters_of(const std::vector<Member>& members) {
  raft::Configuration configuration;
  for (const Member member : members) configuration.voters.push_back(info(member));
  std::sort(configuration.voters.begin(), configuration.voters.end());
  return configuration;
}

std::string name(Member member) {
  if (!member) return "-";
  const std::string id = std::to_string(member.id.value);
  return member.incarnation.value == 1 ? id : id + "." + std::to_string(member.incarnation.value);
}

Member parse_member(const std::string& text) {
  const std::size_t dot = text.find('.');
  return {base::NodeId(std::stoull(text)),
          base::Incarnation(dot == std::string::npos ? 1 : std::stoull(text.substr(dot + 1)))};
}

std::string describe(LogId id) { return std::to_string(id.index.value) + "@" + std::to_string(id.term.value); }

std::string describe(const raft::Configuration& configuration) {
  std::string text = "voters=";
  const auto list = [&](const auto& members, auto member_of) {
    std::string joined;
    for (const auto& item : members) joined += (joined.empty() ? "" : ",") + name(member_of(item));
    return joined;
  };
  text += list(configuration.voters, [](const raft::MemberInfo& item) { return item.member; });
  if (configuration.joint()) text += " outgoing=" + list(configuration.outgoing, [](Member item) { return item; });
  if (!configuration.learners.empty())
    text += " learners=" + list(configuration.learners, [](const raft::MemberInfo& item) { return item.member; });
  return text;
}

std::string describe(const Entry& entry) {
  switch (entry.kind) {
    case base::EntryKind::kNoop:
      return describe(entry.id) + " noop";
    case base::EntryKind::kConfig: {
      const auto decoded = raft::decode_configuration(base::view_of(entry.payload));
      return describe(entry.id) + " config " + (decoded ? describe(*decoded) : "?");
    }
    case base::EntryKind::kData:
      if (entry.payload && entry.payload->size() > kShownBytesMax)
        return describe(entry.id) + " " + std::to_string(entry.payload->size()) + " bytes";
      return describe(entry.id) +
             (entry.payload ? " \"" + std::string(base::text_of(*entry.payload)) + "\"" : " (uncached)");
  }
  return "?";
}

namespace {
struct Describer {
  std::string operator()(const raft::VoteRequest& body) const {
    return std::string(body.pre ? "pre-vote?" : "vote?") + " last=" + describe(body.last) +
           (body.transfer ? " transfer" : "");
  }
  std::string operator()(const raft::VoteReply& body) const {
    return std::string(body.pre ? "pre-vote " : "vote ") + (body.granted ? "granted" : "refused") +
           " last=" + describe(body.last);
  }
  std::string operator()(const raft::AppendRequest& body) const {
    std::string text =
        "append after " + describe(body.previous) + " commit=" + std::to_string(body.commit.value) + " [";
    for (std::size_t i = 0; i < body.entries.size(); ++i) text += (i > 0 ? ", " : "") + describe(body.entries[i]);
    return text + "]";
  }
  std::string operator()(const raft::AppendReply& body) const {
    if (body.accepted) return "append ok match=" + std::to_string(body.match.value);
    return "append refused at " + std::to_string(body.match.value) + " hint=" + describe(body.hint);
  }
  std::string operator()(const raft::Heartbeat& body) const {
    return "heartbeat commit=" + std::to_string(body.commit.value) + " round=" + std::to_string(body.round);
  }
  std::string operator()(const raft::HeartbeatReply& body) const {
    return "heartbeat ok match=" + std::to_string(body.match.value) + " round=" + std::to_string(body.round) +
           (body.disk_stalled ? " stalled" : "");
  }
  std::string operator()(const raft::ReadRequest&) const { return "read?"; }
  std::string operator()(const raft::ReadReply& body) const {
    return body.ok ? "read index=" + std::to_string(body.index.value) : "read refused";
  }
  std::string operator()(const raft::TimeoutNow&) const { return "timeout now"; }
  std::string operator()(const raft::SnapshotNeeded& body) const {
    return "snapshot needed floor=" + describe(body.floor);
  }
  std::string operator()(const raft::SnapshotReply& body) const {
    return body.ok ? "snapshot installed " + describe(body.installed) : "snapshot failed";
  }
};
}  // namespace

std::string describe(const raft::Message& message) {
  return name(message.from) + ">" + name(message.to) + " term=" + std::to_string(message.term.value) + " " +
         std::visit(Describer{}, message.body);
}

}  // namespace raft_test
