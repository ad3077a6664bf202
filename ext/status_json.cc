// hql_status() and hql_raft as JSON; field names are those of SQL.md, "Names that outside checks rely on": added to, never renamed.
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "ext/service.h"

namespace ext {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json id_or_null(base::NodeId id) { return id ? Json(id.value) : Json(nullptr); }

}  // namespace

std::string status_json(const node::NodeStatus& status, const node::Config& config) {
  const node::NodeAddress* self = config.self();
  Json json = {
      {"version", HQL_VERSION},
      {"state", status.state},
      {"node_id", status.node_id.value},
      {"incarnation", base::hex16(status.incarnation.value)},
      {"cluster_id", base::hex16(status.cluster_id)},
      {"role", status.role},
      {"leader_id", id_or_null(status.leader_id)},
      {"term", status.term.value},
      {"pid", static_cast<std::int64_t>(::getpid())},
      {"data_dir", config.data_dir},
      {"raft_addr", self != nullptr ? self->raft_addr : ""},
      {"api_addr", self != nullptr ? self->api_addr : ""},
      {"log_sync", config.log_sync},
      {"acknowledged", config.acknowledged_means()},
      {"commit_index", status.commit_index.value},
      {"durable_index", status.durable_index.value},
      {"applied_index", status.applied_index.value},
      {"log_bytes", status.log_bytes},
      {"term_changes", status.term_changes},
      {"last_error", status.last_error},
      {"managed", nullptr},
      {"members", Json::array()},
      {"missing", Json::array()},
      {"databases", Json::array()},
  };
  for (const auto& member : status.members)
    json["members"].push_back({{"id", member.id.value},
                               {"incarnation", base::hex16(member.incarnation.value)},
                               {"role", member.role},
                               {"raft_addr", member.raft_addr},
                               {"api_addr", member.api_addr},
                               {"reachable", member.reachable},
                               {"match_index", member.match.value}});
  for (const auto id : status.missing) json["missing"].push_back(id.value);
  for (const auto& database : status.databases)
    json["databases"].push_back({{"id", database.id.value},
                                 {"name", database.name},
                                 {"path", database.image.path},
                                 {"applied_index", database.image.applied.index.value},
                                 {"base_index", database.image.base.index.value},
                                 {"digest", base::hex16(database.image.digest)},
                                 {"page_count", database.image.page_count},
                                 {"state", pages::to_string(database.image.state)},
                                 {"writer", database.image.writer},
                                 {"apply_blocked_by", database.image.apply_blocked_by}});
  return dump(json);
}

std::string raft_json(const raft::Status& status) {
  Json json = {{"role", raft::to_string(status.role)},
               {"term", status.term.value},
               {"leader_id", id_or_null(status.leader.id)},
               {"commit_index", status.commit.value},
               {"durable_index", status.durable.value},
               {"last_index", status.last.index.value},
               {"last_term", status.last.term.value},
               {"floor_index", status.floor.index.value},
               {"configuration_index", status.configuration_index.value},
               {"joint", status.configuration.joint()},
               {"uncommitted_bytes", status.uncommitted_bytes},
               {"peers", Json::array()}};
  for (const auto& peer : status.peers)
    json["peers"].push_back({{"id", peer.member.id.value},
                             {"incarnation", base::hex16(peer.member.incarnation.value)},
                             {"voter", peer.voter},
                             {"match_index", peer.match.value},
                             {"next_index", peer.next.value},
                             {"durable_index", peer.durable.value},
                             {"state", peer.state},
                             {"recent_active", peer.recent_active}});
  return dump(json);
}

}  // namespace ext
