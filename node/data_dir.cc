// Identity of a data directory (R10): reads id, meta and log; decides whether it is the same life as before.
#include "node/data_dir.h"

#include <optional>

#include "node/identity.h"

namespace node {
namespace {

using base::Code;
using base::Incarnation;
using base::Result;
using base::Status;

constexpr std::size_t kIdFileMax = 4096;
constexpr const char* kEndOfLife = "end-of-life";  // why the next start begins a new incarnation

// Empty: missing or damaged, which is the same thing here. A disk that cannot be read now, or a newer version's file, is neither.
Result<std::optional<Identity>> read_id(base::Env& env, const std::string& dir) {
  const auto bytes = base::read_file(env, dir + "/id", kIdFileMax);
  if (!bytes) {
    const Code code = bytes.error().code;
    if (code == Code::kNotFound || code == Code::kTooLarge) return std::optional<Identity>();
    return bytes.error();
  }
  const auto identity = decode_identity(*bytes);
  if (!identity && identity.error().code == Code::kNewerFormat) return identity.error();
  return identity ? std::optional(*identity) : std::nullopt;
}

// What to do about files of a newer version: never a new life beside them, which would be an empty cluster after a rollback of all nodes.
base::Error with_advice(const std::string& dir, const base::Error& error) {
  if (error.code != Code::kNewerFormat) return error;
  return base::make_error(
      error.code,
      dir + ": " + error.message + "; start the version that wrote it, or an empty data_dir. Nothing was changed");
}

Result<bool> has_files(base::Env& env, const std::string& dir) {
  HQL_ASSIGN(there, env.exists(dir));
  if (!there) return false;
  HQL_ASSIGN(names, env.list(dir));
  return !names.empty();
}

std::uint64_t nonzero_random(base::Env& env) {
  std::uint64_t number = 0;
  while (number == 0) number = env.random();
  return number;
}

// "" when the life goes on.
Result<std::string> end_of_life(base::Env& env, const std::string& dir) {
  const auto bytes = base::read_file(env, dir + "/" + kEndOfLife, kIdFileMax);
  if (!bytes && bytes.error().code == Code::kNotFound) return std::string();
  if (!bytes) return bytes.error();
  return std::string(base::text_of(*bytes));
}

// Renames what is there out of the way. The suffix is fresh, so nothing older is overwritten.
Status set_aside(base::Env& env, const std::string& dir, std::vector<std::string>& notes) {
  const std::string suffix = ".aside-" + base::hex16(nonzero_random(env));
  // The reason goes last: until then the next start does the rest.
  for (const char* name : {"id", "meta", "log", "db", kEndOfLife}) {
    const std::string path = dir + "/" + name;
    HQL_ASSIGN(there, env.exists(path));
    if (!there) continue;
    HQL_TRY(env.rename(path, path + suffix));
    notes.push_back(std::string(name) + " was set aside as " + name + suffix);
  }
  return env.sync_dir(dir);
}

wal::Options log_options(const Config& config, const Meta& meta) {
  wal::Options options;
  options.dir = config.data_dir + "/log";
  options.identity = {cluster_id(meta.cluster), meta.node, meta.incarnation};
  options.segment_size = config.wal_size;
  return options;
}

// A new life: meta first, the log next and the id file last. Without an id file a node has never told anybody who it is.
Result<DataDir> begin_life(base::Env& env, const Config& config, std::vector<std::string> notes) {
  DataDir out;
  out.path = config.data_dir;
  out.notes = std::move(notes);
  out.meta.node = config.node_id;
  out.meta.incarnation = Incarnation{nonzero_random(env)};
  out.meta.boot = 1;
  HQL_ASSIGN(meta_file, MetaFile::create(env, config.data_dir));
  HQL_TRY(meta_file->write(out.meta));
  out.meta_file = std::move(meta_file);
  HQL_ASSIGN(opened, wal::Log::open(env, log_options(config, out.meta)));
  out.opened = std::move(opened);
  return out;
}

Status finish_birth(base::Env& env, const DataDir& data_dir) {
  const base::Bytes id = encode(Identity{data_dir.meta.node, data_dir.meta.incarnation});
  return base::write_file_atomic(env, data_dir.path, "id", id);
}

bool unused(const wal::Opened& opened) {
  if (opened.damage) return false;
  for (const wal::Recovered& group : opened.groups)
    if (!group.entries.empty() || !group.hard_state.empty() || group.floor != base::LogId{}) return false;
  return true;
}

// The reason why what is there is not one life, or "".
std::string mismatch(const std::optional<Identity>& id, const std::optional<Meta>& meta, bool log_there) {
  if (!id) return "the id file is missing or damaged";
  if (!meta) return "the meta file is missing or damaged";
  if (!log_there) return "the log is missing";
  if (id->incarnation != meta->incarnation || id->node != meta->node)
    return "id file and meta file are of different lives";
  return "";
}

}  // namespace

std::string start_anew(const std::string& dir) {
  return "no other node has a copy of the log, but what was applied is in " + dir + "/db: move " + dir +
         " away, start the node again (it begins empty), and take over each database with SELECT hql_import('<where "
         "you moved it>/db/NAME', "
         "'NAME')";
}

Status end_life(base::Env& env, const std::string& dir, const std::string& reason) {
  return base::write_file_atomic(env, dir, kEndOfLife, base::view_of(reason));
}

Result<DataDir> open_data_dir(base::Env& env, const Config& config) {
  const std::string& dir = config.data_dir;
  HQL_TRY(env.make_dir(dir));
  const auto id_read = read_id(env, dir);
  if (!id_read) return with_advice(dir, id_read.error());
  const std::optional<Identity>& id = *id_read;
  std::unique_ptr<MetaFile> meta_file;
  if (auto opened = MetaFile::open(env, dir)) {
    meta_file = std::move(*opened);
  } else if (opened.error().code != Code::kNotFound) {
    return with_advice(dir, opened.error());
  }
  const std::optional<Meta> meta = meta_file ? meta_file->loaded() : std::nullopt;
  HQL_ASSIGN(log_there, has_files(env, dir + "/log"));
  HQL_ASSIGN(databases_there, has_files(env, dir + "/db"));

  const base::NodeId found = id ? id->node : meta ? meta->node : base::NodeId{};
  if (found && found != config.node_id)
    return base::make_error(Code::kConfig, dir + " belongs to node " + std::to_string(found.value) + ", node_id is " +
                                               std::to_string(config.node_id.value) +
                                               "; each node needs its own data_dir");

  std::vector<std::string> notes;
  // Nothing, or what a crash during the very first start left: no id file, and a log (if any) that holds nothing.
  const bool unborn = !id && !databases_there && (!meta || meta->boot == 1);
  HQL_ASSIGN(ended, end_of_life(env, dir));
  const bool fresh = unborn && !log_there && ended.empty();
  if (!fresh) {
    std::string reason = !ended.empty() ? ended : unborn && meta ? "" : mismatch(id, meta, log_there);
    if (reason.empty()) {
      auto opened = wal::Log::open(env, log_options(config, *meta));
      if (opened && unborn && unused(*opened)) {
        DataDir out;
        out.path = dir;
        out.meta = *meta;
        out.meta_file = std::move(meta_file);
        out.opened = std::move(*opened);
        HQL_TRY(finish_birth(env, out));
        HQL_TRY(env.make_dir(dir + "/db"));
        HQL_TRY(env.sync_dir(dir));
        return out;
      }
      if (opened && unborn) {
        reason = "the id file is missing";
      } else if (opened && opened->created) {
        reason = "the log is missing";
      } else if (opened) {
        DataDir out;
        out.path = dir;
        out.meta = *meta;
        out.meta.boot += 1;
        HQL_TRY(meta_file->write(out.meta));
        out.meta_file = std::move(meta_file);
        out.opened = std::move(*opened);
        HQL_TRY(env.make_dir(dir + "/db"));
        HQL_TRY(env.sync_dir(dir));
        return out;
      } else if (opened.error().code == Code::kMisuse || opened.error().code == Code::kCorrupt) {
        reason = opened.error().message;
      } else {
        return with_advice(dir, opened.error());
      }
    }
    if (config.embedded() && databases_there)
      return base::make_error(Code::kCorrupt, dir + ": " + reason + "; " + start_anew(dir));
    meta_file.reset();
    notes.push_back("a new incarnation begins: " + reason);
    HQL_TRY(set_aside(env, dir, notes));
  }
  meta_file.reset();
  HQL_ASSIGN(out, begin_life(env, config, std::move(notes)));
  HQL_TRY(finish_birth(env, out));
  HQL_TRY(env.make_dir(dir + "/db"));
  HQL_TRY(env.sync_dir(dir));
  return std::move(out);
}

}  // namespace node
