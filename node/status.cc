// What the node shows of itself: a copy made on the loop lane, read from any thread.
#include <algorithm>

#include "node/node_impl.h"

namespace node {
namespace {

std::string role_word(const raft::Status& status, base::Member self) {
  if (status.configuration.is_learner(self) && !status.configuration.is_voter(self)) return "learner";
  switch (status.role) {
    case raft::Role::kLeader:
      return "leader";
    case raft::Role::kPreCandidate:
    case raft::Role::kCandidate:
      return "candidate";
    case raft::Role::kLearner:
      return "learner";
    case raft::Role::kFollower:
      return "follower";
  }
  return "follower";
}

}  // namespace

std::string NodeImpl::state_word(std::vector<base::NodeId>& missing) const {
  missing = bootstrap_ ? bootstrap_->missing() : std::vector<base::NodeId>();
  if (!final_state_.empty()) return final_state_;
  if (stopping_) return "stopping";
  if (!started_) return "starting";
  if (!bootstrap_->belongs() || !ledger_.formed()) return "waiting_for_nodes";
  if (driver_->full() || data_dir_.opened.log->full()) return "disk_full";
  if (!driver_->has_core()) return "starting";
  const base::Member leader = driver_->core().leader();
  if (!leader) return "no_quorum";
  if (leader == self_) return active_term_ ? "healthy" : "no_quorum";
  return peers_.count(leader.id) != 0 ? "healthy" : "no_quorum";
}

void NodeImpl::refresh_status() {
  NodeStatus next;
  raft::Status raft;
  next.node_id = self_.id;
  next.incarnation = self_.incarnation;
  next.state = state_word(next.missing);
  next.cluster_id = cluster_id(bootstrap_->cluster());
  next.last_error = last_error_;
  next.role = "follower";
  next.log_bytes = data_dir_.opened.log->bytes();
  if (driver_->has_core()) {
    raft = driver_->core().status();
    next.role = role_word(raft, self_);
    next.leader_id = raft.leader.id;
    next.term = raft.term;
    next.term_changes = raft.term_changes;
    contradicted_ = raft.contradicted;
    durable_index_.store(raft.durable.value, std::memory_order_release);
  }
  const auto add_member = [&](const raft::MemberInfo& info, const char* role) {
    MemberStatus member;
    member.id = info.member.id;
    member.incarnation = info.member.incarnation;
    member.role = role;
    member.raft_addr = info.raft_addr;
    member.api_addr = info.api_addr;
    const auto peer = peers_.find(info.member.id);
    member.reachable = info.member == self_ || (peer != peers_.end() && peer->second.member == info.member);
    for (const raft::PeerStatus& progress : raft.peers)
      if (progress.member == info.member) member.match = progress.match;
    if (info.member == self_) member.match = raft.durable;
    next.members.push_back(std::move(member));
  };
  // Who is only on the way to be a voter, by a change that is not committed, is shown as a learner: until then the cluster may still need
  // the ones before (docs: what survives by itself).
  const auto established = [this](base::Member member) {
    if (configurations_.empty()) return false;
    const raft::Configuration& last = configurations_.back().second;
    if (!last.joint()) return last.is_voter(member);
    return std::find(last.outgoing.begin(), last.outgoing.end(), member) != last.outgoing.end();
  };
  for (const raft::MemberInfo& info : raft.configuration.voters)
    add_member(info, established(info.member) ? "voter" : "learner");
  for (const raft::MemberInfo& info : raft.configuration.learners) add_member(info, "learner");
  for (const base::Member member : raft.configuration.outgoing) {
    const auto same = [member](const raft::MemberInfo& info) { return info.member == member; };
    if (std::none_of(raft.configuration.voters.begin(), raft.configuration.voters.end(), same))
      add_member({member, "", ""}, "leaving");
  }
  base::MutexLock lock(shown_mutex_);
  shown_ = std::move(next);
  shown_raft_ = std::move(raft);
}

// On the loop it is of this moment; another thread gets the copy of the last tick, with fresh indexes. The lane is asked first: what
// follows is the loop's own.
NodeStatus NodeImpl::status() {
  if (parts_.loop->is_current() && started_ && !stopped()) refresh_status();
  NodeStatus out;
  {
    base::MutexLock lock(shown_mutex_);
    out = shown_;
  }
  out.commit_index = base::Index{commit_index_.load(std::memory_order_acquire)};
  out.durable_index = base::Index{std::max(durable_index_.load(std::memory_order_acquire), out.commit_index.value)};
  out.applied_index = base::Index{applied_index_.load(std::memory_order_acquire)};
  if (!apply_) return out;
  for (const ImageRow& row : apply_->images()) {
    DatabaseStatus database;
    database.id = row.id;
    database.name = row.name;
    if (row.image) database.image = row.image->status();
    if (row.state != pages::ImageState::kOk) database.image.state = row.state;
    out.databases.push_back(std::move(database));
  }
  return out;
}

raft::Status NodeImpl::raft_status() {
  base::MutexLock lock(shown_mutex_);
  return shown_raft_;
}

}  // namespace node
