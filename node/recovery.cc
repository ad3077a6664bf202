// Start-up scan of the log: redo candidates for each database, then the decisions up to the commit that is known.
#include "node/recovery.h"

#include <algorithm>

namespace node {
namespace {

using base::Code;
using base::Entry;
using base::Index;
using base::LogId;
using base::Result;
using base::Status;

constexpr std::size_t kScanBytesMax = std::size_t{4} << 20;

// Calls `each` for every entry in (from, to], payload included, in order.
Status scan(wal::Log& log, Index from, Index to, const std::function<void(const Entry&)>& each) {
  Index next = from.next();
  while (next <= to) {
    HQL_ASSIGN(entries, log.read(base::Group::kData, next, to, kScanBytesMax));
    if (entries.empty())
      return base::make_error(Code::kCorrupt, "the log does not return entry " + std::to_string(next.value));
    for (const Entry& entry : entries) {
      if (entry.id.index != next)
        return base::make_error(Code::kCorrupt, "the log returns another entry than " + std::to_string(next.value));
      each(entry);
      next = next.next();
    }
  }
  return base::ok();
}

// What the scan knows of one database, live or dropped by now.
struct Seen {
  Ledger::Database database;
  LogId base;
  bool has_files = false;
  std::vector<pages::RedoCandidate> candidates;
};

class Scanner {
 public:
  Scanner(const Meta& meta, pages::ImageFactory& images) : ledger_(meta.catalogue), images_(images) {
    for (const auto& [id, database] : ledger_.databases()) see(database);
  }

  void each(const Entry& entry) {
    Entry with_payload = entry;
    if (!with_payload.payload) with_payload.payload = base::share({});
    const Decision decision = ledger_.decide(with_payload);
    if (decision.effect == Effect::kCreate) see(*ledger_.find(decision.db));
    if (decision.effect == Effect::kPublish) add_candidate(decision);
  }
  std::map<base::DatabaseId, Seen>& seen() { return seen_; }
  // At the end of the log.
  Ledger& ledger() { return ledger_; }
  // Parts whose payload the ledger did not keep are fetched with this.
  std::function<base::SharedBytes(LogId)> fetch;

 private:
  void see(const Ledger::Database& database) {
    Seen& entry = seen_[database.id];
    entry.database = database;
    const auto base = images_.recorded_base(database.name);
    // A name may have had other databases before: the files are this one's when their base is not older than it.
    entry.has_files = base && base->index.value >= database.id.value;
    if (!entry.has_files) return;
    entry.base = *base;
    // A database of the same name that was created later owns the files.
    for (auto& [id, other] : seen_)
      if (id < database.id && other.database.name == database.name) other.has_files = false;
  }

  void add_candidate(const Decision& decision) {
    Seen& entry = seen_[decision.db];
    if (!entry.has_files || decision.id.index <= entry.base.index) return;
    pages::RedoCandidate candidate{decision.id, decision.header.digest_after, decision.header.size_after, {}};
    if (const auto tx = pages::decode_tx(*decision.payload))
      for (const pages::Patch& patch : tx->patches) candidate.touched.push_back(patch.page);
    for (const PartRef& ref : decision.parts) {
      const base::SharedBytes payload = ref.payload ? ref.payload : fetch(ref.id);
      if (!payload) continue;
      if (const auto part = pages::decode_tx_part(*payload))
        for (const pages::Patch& patch : part->patches) candidate.touched.push_back(patch.page);
    }
    std::sort(candidate.touched.begin(), candidate.touched.end());
    candidate.touched.erase(std::unique(candidate.touched.begin(), candidate.touched.end()), candidate.touched.end());
    entry.candidates.push_back(std::move(candidate));
  }

  Ledger ledger_;
  pages::ImageFactory& images_;
  std::map<base::DatabaseId, Seen> seen_;
};

// Sync points and creations wait for the log (R8): only another disk, or a bug, makes this.
Result<std::unique_ptr<pages::DatabaseImage>> beyond_log(Index base, Index last) {
  return base::make_error(Code::kForeignWrite, "its files are durable up to entry " + std::to_string(base.value) +
                                                   ", beyond the end of the log, entry " + std::to_string(last.value));
}

pages::ImageState state_of(const base::Error& error) {
  return error.code == Code::kForeignWrite ? pages::ImageState::kForeignWrite : pages::ImageState::kDiverged;
}

// The files of a database were set aside (`hiqlite rebuild`, or it was ahead of the log), or are being made again since then and are not yet
// where the catalogue is: a log that still has its first entry makes them from the start.
bool makes_again(const wal::Recovered& log, const Meta& meta, pages::ImageFactory& images) {
  if (log.floor.index) return false;
  for (const CatalogueRow& row : meta.catalogue.rows)
    if (const auto base = images.recorded_base(row.name); !base || base->index < row.last.index) return true;
  return false;
}

// A database that was dropped and has no files of its own any more takes no part: made again only to be dropped, it would take the files of
// a younger one of its name with it.
void leave_out_gone(RecoveredNode& out) {
  const auto gone = [&out](base::DatabaseId id) {
    if (out.ledger.find(id) != nullptr) return false;
    return std::none_of(out.databases.begin(), out.databases.end(),
                        [id](const OpenedDatabase& each) { return each.database.id == id && each.image; });
  };
  std::erase_if(out.decisions, [&gone](const Decision& each) { return gone(each.db); });
  std::erase_if(out.databases, [&gone](const OpenedDatabase& each) { return gone(each.database.id); });
}

Result<RecoveredNode> recover_from(wal::Opened& opened, const Meta& meta, pages::ImageFactory& images,
                                   const AheadRule& ahead);

}  // namespace

void limit_votes(const wal::Opened& opened, raft::Restored& restored) {
  if (!opened.damage) return;
  restored.may_vote = false;
  restored.vote_floor = opened.damage->last_known[0];
}

Result<RecoveredNode> recover_node(wal::Opened& opened, const Meta& recorded, pages::ImageFactory& images,
                                   const AheadRule& ahead) {
  if (!makes_again(opened.groups[0], recorded, images)) return recover_from(opened, recorded, images, ahead);
  Meta meta = recorded;
  meta.catalogue = Catalogue();
  return recover_from(opened, meta, images, ahead);
}

namespace {

// Makes `content` the newest transaction of database `id`: in the log, in what is known of it, and in the ledger at its end.
Result<LogId> adopt(wal::Log& log, RecoveredNode& out, Ledger& ledger, base::DatabaseId id,
                    const pages::AheadOfLog& content, const base::Origin& origin) {
  const Ledger::Database* const database = ledger.find(id);
  if (database == nullptr) return base::make_error(Code::kForeignWrite, "it was dropped, and is not as it was then");
  const LogId at{std::max(out.restored.hard.term, ledger.at().term), ledger.at().index.next()};
  HQL_ASSIGN(payload, adopting_transaction(*database, content, at, origin));
  const Entry entry{at, base::EntryKind::kData, payload};
  wal::Append append;
  append.entries.push_back(entry);
  HQL_TRY(log.append_batch({std::move(append)}));
  CHECK(ledger.decide(entry).effect == Effect::kPublish);
  out.restored.entries.push_back({at, base::EntryKind::kData, nullptr});
  out.restored.sizes.push_back(payload->size());
  out.warnings.push_back(
      "database " + database->name + " was ahead of the log, which has lost its end in a power cut: its content (" +
      std::to_string(content.changed.size()) + " pages differ) was adopted as entry " + std::to_string(at.index.value));
  return at;
}

Result<RecoveredNode> recover_from(wal::Opened& opened, const Meta& meta, pages::ImageFactory& images,
                                   const AheadRule& ahead) {
  RecoveredNode out;
  wal::Recovered& log = opened.groups[0];
  const GroupFloor& floor = meta.groups[0];
  raft::Restored& restored = out.restored;
  if (!log.hard_state.empty()) {
    HQL_ASSIGN(hard, raft::decode_hard_state(log.hard_state));
    restored.hard = hard;
  }
  restored.floor = log.floor;
  if (floor.configuration) restored.floor_configuration = *floor.configuration;
  restored.entries = std::move(log.entries);
  restored.sizes = std::move(log.sizes);
  Index last = restored.entries.empty() ? log.floor.index : restored.entries.back().id.index;
  // A damaged log may end before the catalogue: what is missing comes again from a peer and is known to be decided (R12).
  if (meta.catalogue.at.index < log.floor.index || (meta.catalogue.at.index > last && !opened.damage))
    return base::make_error(Code::kCorrupt, "the catalogue in the meta file is of entry " +
                                                std::to_string(meta.catalogue.at.index.value) +
                                                ", which is not in the log");
  limit_votes(opened, restored);
  if (opened.damage) {
    // What the log holds may be what a truncation had removed that is lost with the damage: a hint from behind it says nothing of these
    // entries. The leader tells the commit again.
    restored.hard.commit = {};
  }
  // How far the log is committed when `id` is: with damage only if it still holds that very entry.
  const auto committed_with = [&restored, last, damaged = opened.damage.has_value()](LogId id) {
    const Index begin = restored.floor.index;
    if (!damaged) return std::min(id.index, last);
    if (id.index <= begin || id.index > last) return begin;
    return restored.entries[id.index.value - begin.value - 1].id == id ? id.index : begin;
  };

  Scanner scanner(meta, images);
  scanner.fetch = [&opened](LogId id) -> base::SharedBytes {
    auto entries = opened.log->read(base::Group::kData, id.index, id.index, 1);
    return entries && !entries->empty() ? entries->front().payload : nullptr;
  };
  const Index from = meta.catalogue.at.index;
  const Index at_catalogue = committed_with(meta.catalogue.at);
  if (at_catalogue == from) {  // else what follows in the log is not what followed the catalogue
    HQL_TRY(scan(*opened.log, from, last, [&scanner](const Entry& entry) { scanner.each(entry); }));
  }

  // A database contains committed transactions only (R8): its position says more about the commit than the hint in the hard state may.
  Index committed = std::max(at_catalogue, std::min(restored.hard.commit, last));
  Catalogue start = meta.catalogue;
  for (auto& [id, seen] : scanner.seen()) {
    const bool in_catalogue = id.value <= from.value;
    if (!seen.has_files && !in_catalogue) continue;  // its CreateDatabase entry makes it
    // Files with a base are those of a committed creation, also when they cannot be opened.
    if (seen.has_files) committed = std::max(committed, committed_with(seen.base));
    OpenedDatabase database;
    database.database = seen.database;
    if (!seen.has_files) {
      database.error = base::make_error(Code::kCorrupt, "the files of database " + seen.database.name + " are missing");
      database.state = pages::ImageState::kDiverged;
    } else {
      const bool beyond = ahead.policy != AheadPolicy::kImpossible && !opened.damage && seen.base.index > last;
      bool is_ahead = beyond;
      pages::Adopt may_be_ahead;
      if (ahead.policy != AheadPolicy::kImpossible)
        may_be_ahead = [&, id = id](const pages::AheadOfLog& content) -> Result<LogId> {
          if (ahead.policy == AheadPolicy::kAdopt)
            return adopt(*opened.log, out, scanner.ledger(), id, content, ahead.origin);
          is_ahead = true;
          return base::make_error(Code::kForeignWrite, std::string("it holds transactions that the log has lost ") +
                                                           (opened.damage ? "to damage" : "in a power cut"));
        };
      auto image = beyond ? beyond_log(seen.base.index, last)
                          : images.open(seen.database.name, id, seen.database.page_size, seen.candidates, may_be_ahead);
      if (!opened.damage) last = std::max(last, scanner.ledger().at().index);  // one was adopted
      if (image) {
        database.applied = (*image)->status().applied;
        database.image = std::move(*image);
        // A position found by its digest: an entry that was removed can have made the same content as the one that replaced it.
        if (!opened.damage) committed = std::max(committed, std::min(database.applied.index, last));
      } else if (is_ahead && ahead.policy == AheadPolicy::kRebuild && !log.floor.index) {
        // The log has everything from the beginning, and what it has lost comes from the leader.
        HQL_TRY(images.set_aside(seen.database.name, ahead.aside_suffix));
        out.warnings.push_back("database " + seen.database.name + " was ahead of the log (" + image.error().message +
                               "): it is made again from the log; its files are kept as " + seen.database.name + "*" +
                               ahead.aside_suffix);
        start = Catalogue();
        continue;
      } else if (image.error().code == Code::kOwned) {
        return image.error();  // of the moment: nothing is known about the files, and the next start finds them free
      } else {
        database.error = image.error();
        database.state = is_ahead ? pages::ImageState::kAheadOfLog : state_of(image.error());
      }
    }
    out.databases.push_back(std::move(database));
  }
  restored.applied = std::min(committed, last);

  out.ledger = Ledger(start);
  HQL_TRY(scan(*opened.log, start.at.index, committed, [&out](const Entry& entry) {
    Entry with_payload = entry;
    if (!with_payload.payload) with_payload.payload = base::share({});
    Decision decision = out.ledger.decide(with_payload);
    if (decision.effect == Effect::kVoid || decision.effect == Effect::kNone) return;
    // Only what is to be published still needs its bytes now; the applier reads them from the log.
    if (decision.effect == Effect::kPublish) decision.payload = nullptr;
    for (PartRef& part : decision.parts) part.payload = nullptr;
    out.decisions.push_back(std::move(decision));
  }));
  leave_out_gone(out);
  return out;
}

}  // namespace

}  // namespace node
