// Ledger: decides from metadata, in commit order and before any page is touched, which entries take effect (R6, R15): every node comes
// to the same decision. Also the catalogue of databases. Pure; loop lane (and start-up).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/entry.h"
#include "base/ids.h"
#include "node/meta.h"
#include "pages/tx.h"

namespace node {

// An entry of the node itself in the database group (EntryKind::kData): one byte that no pages::EntryType has.
//   0xF0: formed: all initial members hold the first entry, client writes may be acknowledged from here on (DESIGN 6.2).
inline constexpr std::byte kFormedEntry{0xF0};

struct PartRef {
  base::LogId id;
  base::SharedBytes payload;  // null when too much was kept: the applier reads it from the log
};

enum class Effect : std::uint8_t {
  kNone,     // no-op, configuration, part, abort, formed
  kVoid,     // skipped by every node
  kPublish,  // an effective transaction
  kCreate,
  kDrop,
};

struct Decision {
  base::LogId id;
  Effect effect = Effect::kNone;
  bool decides_transaction = false;  // a Tx, effective or void: its origin learns its outcome
  base::DatabaseId db;
  base::Origin origin;
  pages::TxHeader header;  // of a Tx
  base::SharedBytes payload;
  std::vector<PartRef> parts;
  std::string name;    // kCreate, kDrop
  std::string reason;  // kVoid: why, for the event list
};

class Ledger {
 public:
  struct Chain {
    base::Origin origin;
    base::Term term;
    base::LeaseId lease;
    std::vector<PartRef> parts;
    std::uint64_t bytes = 0;
  };
  struct Database {
    base::DatabaseId id;
    base::Term created;
    std::string name;
    std::uint32_t page_size = 4096;
    base::LogId last;
    std::uint64_t digest = 0;
    pages::PageNo size = 0;
    std::optional<Chain> chain;
  };

  Ledger() = default;
  explicit Ledger(const Catalogue& catalogue);

  // The next committed entry; its index is at().index + 1. `entry.payload` must be there for kData.
  // An entry that cannot be decoded is void: every node holds the same bytes (its checksum was right).
  Decision decide(const base::Entry& entry);

  [[nodiscard]] base::LogId at() const { return at_; }
  [[nodiscard]] bool formed() const { return formed_; }
  // Index of the last effective drop of any database.
  [[nodiscard]] base::Index last_drop() const { return last_drop_; }
  [[nodiscard]] const Database* find(base::DatabaseId id) const;
  [[nodiscard]] const Database* find(const std::string& name) const;
  [[nodiscard]] const std::map<base::DatabaseId, Database>& databases() const { return databases_; }
  // No catalogue can be taken while a chain is open (R15).
  [[nodiscard]] bool chain_open() const;
  [[nodiscard]] Catalogue catalogue() const;

 private:
  void begin_term(base::Term term);
  void decide_data(const base::Entry& entry, Decision& decision);
  void decide_tx(const base::Entry& entry, Decision& decision);
  void decide_part(const base::Entry& entry, Decision& decision);
  void decide_abort(const base::Entry& entry);
  void decide_create(const base::Entry& entry, Decision& decision);
  void decide_drop(const base::Entry& entry, Decision& decision);

  base::LogId at_;
  bool formed_ = false;
  base::Index last_drop_;
  std::map<base::DatabaseId, Database> databases_;
  std::map<std::string, base::DatabaseId> names_;
};

}  // namespace node
