// The parent rule (R6) and chains (R15), decided from metadata.
#include "node/ledger.h"

#include "base/check.h"

namespace node {
namespace {

// Payloads of an open chain kept in memory; beyond it parts are read again from the log when the chain is published.
constexpr std::uint64_t kChainBytesKeptMax = std::uint64_t{8} << 20;

void make_void(Decision& decision, std::string reason) {
  decision.effect = Effect::kVoid;
  decision.reason = std::move(reason);
  decision.parts.clear();
}

std::string text(base::LogId id) { return std::to_string(id.index.value) + "@" + std::to_string(id.term.value); }

}  // namespace

Ledger::Ledger(const Catalogue& catalogue)
    : at_(catalogue.at), formed_(catalogue.formed), last_drop_(catalogue.last_drop) {
  for (const CatalogueRow& row : catalogue.rows) {
    databases_[row.id] = {row.id, row.created, row.name, row.page_size, row.last, row.digest, row.size, std::nullopt};
    names_[row.name] = row.id;
  }
}

const Ledger::Database* Ledger::find(base::DatabaseId id) const {
  const auto it = databases_.find(id);
  return it == databases_.end() ? nullptr : &it->second;
}

const Ledger::Database* Ledger::find(const std::string& name) const {
  const auto it = names_.find(name);
  return it == names_.end() ? nullptr : find(it->second);
}

bool Ledger::chain_open() const {
  for (const auto& [id, database] : databases_)
    if (database.chain) return true;
  return false;
}

Catalogue Ledger::catalogue() const {
  CHECK(!chain_open());
  Catalogue out;
  out.at = at_;
  out.formed = formed_;
  out.last_drop = last_drop_;
  for (const auto& [id, database] : databases_)
    out.rows.push_back(
        {id, database.created, database.name, database.page_size, database.last, database.digest, database.size});
  return out;
}

void Ledger::begin_term(base::Term term) {
  for (auto& [id, database] : databases_)
    if (database.chain && database.chain->term < term) database.chain.reset();
}

Decision Ledger::decide(const base::Entry& entry) {
  CHECK(entry.id.index == at_.index.next());
  CHECK(entry.id.term >= at_.term);
  if (entry.id.term > at_.term) begin_term(entry.id.term);
  at_ = entry.id;
  Decision decision;
  decision.id = entry.id;
  if (entry.kind != base::EntryKind::kData) return decision;
  CHECK(entry.payload != nullptr);
  decision.payload = entry.payload;
  decide_data(entry, decision);
  return decision;
}

void Ledger::decide_data(const base::Entry& entry, Decision& decision) {
  if (entry.payload->size() == 1 && entry.payload->front() == kFormedEntry) {
    formed_ = true;
    return;
  }
  formed_ = true;  // a leader appends data only after the cluster was formed
  const auto type = pages::entry_type(*entry.payload);
  if (!type) {
    make_void(decision, type.error().message);
    return;
  }
  switch (*type) {
    case pages::EntryType::kTx:
      decide_tx(entry, decision);
      return;
    case pages::EntryType::kTxPart:
      decide_part(entry, decision);
      return;
    case pages::EntryType::kTxAbort:
      decide_abort(entry);
      return;
    case pages::EntryType::kCreate:
      decide_create(entry, decision);
      return;
    case pages::EntryType::kDrop:
      decide_drop(entry, decision);
      return;
  }
  make_void(decision, "unknown entry type");
}

void Ledger::decide_tx(const base::Entry& entry, Decision& decision) {
  auto header = pages::decode_tx_header(*entry.payload);
  if (!header) {
    make_void(decision, header.error().message);
    return;
  }
  decision.decides_transaction = true;
  decision.header = *header;
  decision.origin = header->origin;
  decision.db = header->db;
  const auto it = databases_.find(header->db);
  if (it == databases_.end()) {
    make_void(decision, "no such database");
    return;
  }
  Database& database = it->second;
  // Decided by its final, also a void one: a chain does not outlive it.
  const bool own_chain = database.chain && database.chain->origin == header->origin;
  std::optional<Chain> chain;
  if (own_chain) chain = std::exchange(database.chain, std::nullopt);
  if (header->lease_term != entry.id.term) {
    make_void(decision, "proposed in term " + std::to_string(header->lease_term.value));
    return;
  }
  if (header->parent != database.last) {
    make_void(decision, "parent " + text(header->parent) + " is not the last transaction " + text(database.last));
    return;
  }
  if (header->digest_before != database.digest) {
    make_void(decision, "digest before is not the last transaction's digest after");
    return;
  }
  if (header->page_size != database.page_size) {
    make_void(decision, "page size differs");
    return;
  }
  if (header->part_count > 0) {
    if (!chain || chain->parts.size() != header->part_count || chain->term != header->lease_term ||
        chain->lease != header->lease) {
      make_void(decision, "its chain of parts is not complete");
      return;
    }
    decision.parts = std::move(chain->parts);
  }
  database.chain.reset();  // any effective transaction of the database ends an open chain
  database.last = entry.id;
  database.digest = header->digest_after;
  database.size = header->size_after;
  decision.effect = Effect::kPublish;
}

void Ledger::decide_part(const base::Entry& entry, Decision& decision) {
  const auto part = pages::decode_tx_part_header(*entry.payload);
  if (!part) {
    make_void(decision, part.error().message);
    return;
  }
  const auto it = databases_.find(part->db);
  if (it == databases_.end()) {
    make_void(decision, "no such database");
    return;
  }
  std::optional<Chain>& chain = it->second.chain;
  if (part->number == 0) chain = Chain{part->origin, part->lease_term, part->lease, {}, 0};
  const bool continues = chain && chain->origin == part->origin && chain->term == part->lease_term &&
                         chain->lease == part->lease && chain->parts.size() == part->number &&
                         part->lease_term == entry.id.term;
  if (!continues) {
    make_void(decision, "part " + std::to_string(part->number) + " continues no chain");
    return;
  }
  chain->bytes += entry.payload->size();
  chain->parts.push_back({entry.id, chain->bytes <= kChainBytesKeptMax ? entry.payload : nullptr});
}

void Ledger::decide_abort(const base::Entry& entry) {
  const auto abort = pages::decode_tx_abort(*entry.payload);
  if (!abort) return;
  const auto it = databases_.find(abort->db);
  if (it == databases_.end()) return;
  std::optional<Chain>& chain = it->second.chain;
  if (chain && chain->origin == abort->origin) chain.reset();
}

void Ledger::decide_create(const base::Entry& entry, Decision& decision) {
  const auto create = pages::decode_create(*entry.payload);
  if (!create) {
    make_void(decision, create.error().message);
    return;
  }
  decision.origin = create->origin;
  decision.name = create->name;
  if (!pages::valid_database_name(create->name)) {
    make_void(decision, "invalid name");
    return;
  }
  if (names_.count(create->name) != 0) {
    make_void(decision, "database " + create->name + " exists");
    return;
  }
  if (create->seen < last_drop_) {
    make_void(decision, "database " + create->name + " was asked for at entry " + std::to_string(create->seen.value) +
                            ", before a drop at " + std::to_string(last_drop_.value));
    return;
  }
  const base::DatabaseId id{entry.id.index.value};
  databases_[id] = {id,       entry.id.term,        create->name,       create->page_size,
                    entry.id, create->digest_after, create->size_after, std::nullopt};
  names_[create->name] = id;
  decision.db = id;
  decision.effect = Effect::kCreate;
}

void Ledger::decide_drop(const base::Entry& entry, Decision& decision) {
  const auto drop = pages::decode_drop(*entry.payload);
  if (!drop) {
    make_void(decision, drop.error().message);
    return;
  }
  decision.origin = drop->origin;
  const auto it = databases_.find(drop->db);
  if (it == databases_.end()) {
    make_void(decision, "no such database");
    return;
  }
  decision.db = drop->db;
  decision.name = it->second.name;
  names_.erase(it->second.name);
  databases_.erase(it);
  last_drop_ = entry.id.index;
  decision.effect = Effect::kDrop;
}

}  // namespace node
