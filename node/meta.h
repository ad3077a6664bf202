// Meta: <data_dir>/meta, what the node must know that its log does not (or no longer) say: identity, boot counter, cluster and promise
// (DESIGN 6.2), the floor of each group with the configuration there, and the catalogue of databases at one log index (section 7).
// open() and the first write before the lanes run, later writes on the log lane. docs/FORMATS.md, "Meta".
//
// The file is two slots of kMetaSlotSize, written in turn and synced; the valid one of the higher generation counts, so a torn write
// leaves the one before.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/ids.h"
#include "base/result.h"
#include "pages/tx.h"
#include "raft/config.h"

namespace node {

inline constexpr std::size_t kMetaSlotSize = std::size_t{1} << 20;

// A round of the first start (DESIGN 6.2): ordered by (number, incarnation of the bootstrapper). It also names the cluster it made.
struct Ballot {
  std::uint64_t number = 0;
  base::Incarnation holder;
  auto operator<=>(const Ballot&) const = default;
  explicit operator bool() const { return number != 0; }
};
// The short name of the cluster that a ballot made, for status, frames and the log's segments; 0 for none.
std::uint64_t cluster_id(const Ballot& ballot);
// As they stand in meta and in frames.
void write_ballot(base::Writer& out, const Ballot& ballot);
Ballot read_ballot(base::Reader& in);
void write_log_id(base::Writer& out, base::LogId id);
base::LogId read_log_id(base::Reader& in);

// An open chain of part entries (R15) is never part of a catalogue: one is only taken where no chain is open.
struct CatalogueRow {
  base::DatabaseId id;
  base::Term created;  // term of its CreateDatabase entry; the index is the id
  std::string name;
  std::uint32_t page_size = 4096;
  base::LogId last;  // last effective transaction
  std::uint64_t digest = 0;
  pages::PageNo size = 0;
};
struct Catalogue {
  base::LogId at;       // everything up to here is decided in `rows`
  bool formed = false;  // all initial members held the first entry (DESIGN 6.2)
  base::Index last_drop;
  std::vector<CatalogueRow> rows;
};

struct GroupFloor {
  base::LogId floor;
  std::optional<raft::Configuration> configuration;  // in force at `floor`; none for a log from the start
};

struct Meta {
  base::NodeId node;
  base::Incarnation incarnation;
  std::uint64_t boot = 0;
  Ballot cluster;  // of the cluster this node belongs to or joins; it belongs only while its log has an entry
  Ballot promise;
  GroupFloor groups[base::kGroupCount];
  Catalogue catalogue;
};

base::Bytes encode(const Meta& meta);
// kCorrupt naming what is wrong; hostile input (R18).
base::Result<Meta> decode_meta(base::ByteView body);

// What one slot of the file holds. What follows it in `bytes` belongs to nobody.
struct MetaSlot {
  std::uint64_t generation = 0;
  Meta meta;
};
base::Bytes encode(const MetaSlot& slot);
// kCorrupt.
base::Result<MetaSlot> decode_meta_slot(base::ByteView bytes);

class MetaFile {
 public:
  // kNotFound when there is no file. `loaded` is empty when neither slot is valid.
  static base::Result<std::unique_ptr<MetaFile>> open(base::Env& env, const std::string& dir);
  // Makes an empty one.
  static base::Result<std::unique_ptr<MetaFile>> create(base::Env& env, const std::string& dir);
  [[nodiscard]] const std::optional<Meta>& loaded() const { return loaded_; }
  // Durable when it returns ok. kTooLarge, kFull, kIo.
  base::Status write(const Meta& meta);

 private:
  explicit MetaFile(std::unique_ptr<base::File> file) : file_(std::move(file)) {}
  std::unique_ptr<base::File> file_;
  std::uint64_t generation_ = 0;
  std::uint64_t newest_ = 0;  // the slot that has it, for sure
  std::optional<Meta> loaded_;
};

}  // namespace node
