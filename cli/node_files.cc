// id, meta and .sums for people (cli/node_files.h).
#include "cli/node_files.h"

#include <array>
#include <vector>

#include "node/identity.h"
#include "node/meta.h"
#include "pages/sums.h"

namespace cli {
namespace {

constexpr std::size_t kIdSizeMax = 4096;
constexpr std::size_t kMetaSlots = 2;
constexpr std::string_view kSums = ".sums";

std::string id_text(base::LogId id) { return std::to_string(id.term.value) + ":" + std::to_string(id.index.value); }
std::string ballot_text(const node::Ballot& ballot) {
  return ballot ? std::to_string(ballot.number) + "/" + base::hex16(ballot.holder.value) : "none";
}
std::string salts_text(const std::uint32_t (&salts)[2]) {
  return base::hex16(std::uint64_t{salts[0]} << 32 | salts[1]);
}

base::Error named(const std::string& path, base::Error error) {
  error.message = path + ": " + error.message;
  return error;
}

base::Result<node::Identity> read_identity(base::Env& env, const std::string& path) {
  HQL_ASSIGN(bytes, base::read_file(env, path, kIdSizeMax));
  return node::decode_identity(bytes);
}

// Each slot, or why it does not count.
base::Result<std::array<base::Result<node::MetaSlot>, kMetaSlots>> read_meta(base::Env& env, const std::string& path) {
  HQL_ASSIGN(bytes, base::read_file(env, path, kMetaSlots * node::kMetaSlotSize));
  bytes.resize(kMetaSlots * node::kMetaSlotSize);
  const base::ByteView all = bytes;
  return std::array<base::Result<node::MetaSlot>, kMetaSlots>{node::decode_meta_slot(all.first(node::kMetaSlotSize)),
                                                              node::decode_meta_slot(all.subspan(node::kMetaSlotSize))};
}

base::Result<pages::SumsFile::Loaded> read_sums(base::Env& env, const std::string& path) {
  HQL_ASSIGN(file, pages::SumsFile::open(env, path, base::OpenMode::kReadOnly));
  HQL_ASSIGN(loaded, file->load(file->record().page_size));
  if (!loaded.exists) return base::make_error(base::Code::kCorrupt, "no valid record of page hashes");
  return std::move(loaded);
}

// Names of the `.sums` files in <data_dir>/db; none without that folder.
base::Result<std::vector<std::string>> sums_files(base::Env& env, const std::string& data_dir) {
  const std::string dir = data_dir + "/db";
  HQL_ASSIGN(exists, env.exists(dir));
  if (!exists) return std::vector<std::string>{};
  HQL_ASSIGN(names, env.list(dir));
  std::erase_if(names, [](const std::string& name) {
    return name.size() <= kSums.size() || name.compare(name.size() - kSums.size(), kSums.size(), kSums) != 0;
  });
  return std::move(names);
}

void dump_slot(std::size_t number, const node::MetaSlot& slot, const Line& line) {
  const node::Meta& meta = slot.meta;
  line("meta slot " + std::to_string(number) + " generation=" + std::to_string(slot.generation) +
       " node=" + std::to_string(meta.node.value) + " incarnation=" + base::hex16(meta.incarnation.value) + " boot=" +
       std::to_string(meta.boot) + " cluster=" + ballot_text(meta.cluster) + " promise=" + ballot_text(meta.promise) +
       " catalogue=" + id_text(meta.catalogue.at) + (meta.catalogue.formed ? " formed" : ""));
  for (std::size_t i = 0; i < base::kGroupCount; ++i) {
    const node::GroupFloor& group = meta.groups[i];
    line("  group " + std::to_string(i + 1) + " floor=" + id_text(group.floor) +
         " members=" + (group.configuration ? std::to_string(group.configuration->all().size()) : "none"));
  }
  for (const node::CatalogueRow& row : meta.catalogue.rows)
    line("  database " + std::to_string(row.id.value) + " \"" + row.name +
         "\" created_term=" + std::to_string(row.created.value) + " page_size=" + std::to_string(row.page_size) +
         " pages=" + std::to_string(row.size) + " last=" + id_text(row.last) + " digest=" + base::hex16(row.digest));
}

void dump_sums(const std::string& name, const pages::SumsFile::Loaded& loaded, const Line& line) {
  const pages::SumsRecord& record = loaded.record;
  std::string bad;
  for (const std::uint32_t block : loaded.bad_blocks) bad += (bad.empty() ? "" : ",") + std::to_string(block);
  line("sums \"" + name + "\" generation=" + std::to_string(record.generation) +
       " database=" + std::to_string(record.db.value) + " page_size=" + std::to_string(record.page_size) +
       " pages=" + std::to_string(record.page_count) + " base=" + id_text(record.base) +
       " digest=" + base::hex16(record.digest) + " wal_before=" + salts_text(record.wal_salt) +
       " wal_newest=" + salts_text(record.wal_salt_next) + (bad.empty() ? "" : " unknown_blocks=" + bad));
}

}  // namespace

base::Status dump_node_files(base::Env& env, const std::string& data_dir, const Line& line) {
  if (const auto identity = read_identity(env, data_dir + "/id"))
    line("id node=" + std::to_string(identity->node.value) +
         " incarnation=" + base::hex16(identity->incarnation.value));
  else
    line("id " + base::to_string(identity.error()));
  if (const auto slots = read_meta(env, data_dir + "/meta")) {
    for (std::size_t i = 0; i < kMetaSlots; ++i) {
      if (const auto& slot = (*slots)[i]; slot)
        dump_slot(i, *slot, line);
      else
        line("meta slot " + std::to_string(i) + " " + base::to_string(slot.error()));
    }
  } else {
    line("meta " + base::to_string(slots.error()));
  }
  const std::string dir = data_dir + "/db/";
  HQL_ASSIGN(files, sums_files(env, data_dir));
  for (const std::string& name : files) {
    const std::string database = name.substr(0, name.size() - kSums.size());
    if (const auto loaded = read_sums(env, dir + name))
      dump_sums(database, *loaded, line);
    else
      line("sums \"" + database + "\" " + base::to_string(loaded.error()));
  }
  return base::ok();
}

base::Status verify_node_files(base::Env& env, const std::string& data_dir, const Line& line) {
  const std::string id = data_dir + "/id";
  if (const auto identity = read_identity(env, id); !identity) return named(id, identity.error());
  line(id + ": ok");
  const std::string meta = data_dir + "/meta";
  const auto slots = read_meta(env, meta);
  if (!slots) return named(meta, slots.error());
  for (const auto& slot : *slots)
    if (!slot && slot.error().code == base::Code::kNewerFormat) return named(meta, slot.error());
  if (!(*slots)[0] && !(*slots)[1]) return named(meta, (*slots)[0].error());
  line(meta + ": ok");
  const std::string dir = data_dir + "/db/";
  HQL_ASSIGN(files, sums_files(env, data_dir));
  for (const std::string& name : files) {
    const std::string path = dir + name;
    if (const auto loaded = read_sums(env, path); !loaded) return named(path, loaded.error());
    line(path + ": ok");
  }
  return base::ok();
}

}  // namespace cli
