// The entries of the database group (payload of base::EntryKind::kData) and their format (docs/FORMATS.md, "Entries").
// A transaction's metadata stands uncompressed in front, so that void, valid and absent are decided on the loop lane without
// touching a page (R6); the body (request results and patches) is LZ4'd when that pays and decoded on the apply lane.
// Value types, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/entry.h"
#include "base/ids.h"
#include "base/result.h"

namespace pages {

using base::DatabaseId;
using base::LogId;
using base::Origin;

using PageNo = std::uint32_t;  // 1-based, as in SQLite

enum class PatchKind : std::uint8_t {
  kRuns = 1,   // runs over the page's last committed image
  kZeros = 2,  // runs over a page of zeros (a page beyond the previous end of the database, when shorter than kFull)
  kFull = 3,   // body is the whole page
};

// What a transaction did to one page. Runs are absolute overwrites, so redo is idempotent (R14).
// body of kRuns and kZeros: { varint gap since the end of the previous run, varint length (>= 1), bytes } ...
struct Patch {
  PageNo page = 0;
  PatchKind kind = PatchKind::kRuns;
  base::Bytes body;
};

// The small result of one forwarded request, carried by the entry so that its origin learns it from the log (DESIGN 5.3).
struct RequestRecord {
  Origin origin;
  base::Bytes result;  // exec/request.h; opaque here; at most kRequestResultMax
};
inline constexpr std::size_t kRequestResultMax = 1024;

struct TxHeader {
  DatabaseId db;
  LogId parent;  // the last effective transaction of `db` it was computed on (or its CreateDatabase entry)
  std::uint64_t digest_before = 0;
  std::uint64_t digest_after = 0;
  Origin origin;
  base::Term lease_term;  // R7
  base::LeaseId lease;
  std::uint32_t page_size = 0;
  PageNo size_after = 0;  // database size in pages after the commit
  std::uint32_t request_count = 0;
  std::uint32_t patch_count = 0;  // of the whole transaction, chain parts included
  std::uint32_t part_count = 0;   // kTxPart entries before this final one (0: not a chain) (R15)
};

// What the patches of one entry may come to (bodies plus 16 bytes each), so that with its header and request records it stays within
// base::kEntryPayloadMax. encode() CHECKs the whole body against that limit: whoever makes a Tx stays below this one, or makes a chain.
inline constexpr std::size_t kTxPatchBytesMax = base::kEntryPayloadMax - (std::size_t{8} << 20);

struct Tx {
  TxHeader header;
  std::vector<RequestRecord> requests;
  std::vector<Patch> patches;
};

// One part of a chain: patches only; effective through its final Tx (R15).
struct TxPart {
  DatabaseId db;
  Origin origin;
  base::Term lease_term;
  base::LeaseId lease;
  std::uint32_t number = 0;  // 0.. within the chain
  std::vector<Patch> patches;
};
struct TxAbort {  // ends an open chain without effect
  DatabaseId db;
  Origin origin;
  base::Term lease_term;
  base::LeaseId lease;
};

// Every node makes the same bytes: `first_page` is page 1 as the creator's SQLite would write it (WAL, empty schema).
struct CreateDatabase {
  std::string name;  // validated: see valid_database_name()
  std::uint32_t page_size = 4096;
  Origin origin;
  std::vector<Patch> initial;  // kZeros/kFull images of pages 1..n (n > 1 for hql_import)
  PageNo size_after = 1;
  std::uint64_t digest_after = 0;
  // What its asker had seen of the log, and no such database in it. With a later drop in the log the entry is void: it may be a repetition of
  // a creation that has happened, and whose database was dropped.
  base::Index seen;
};
struct DropDatabase {
  DatabaseId db;
  std::string name;
  Origin origin;
};

enum class EntryType : std::uint8_t { kTx = 1, kTxPart = 2, kTxAbort = 3, kCreate = 4, kDrop = 5 };

base::Bytes encode(const Tx& tx);
base::Bytes encode(const TxPart& part);
base::Bytes encode(const TxAbort& abort);
base::Bytes encode(const CreateDatabase& create);
base::Bytes encode(const DropDatabase& drop);

// Hostile input everywhere below (R18): kCorrupt naming what is wrong; sizes are checked before anything is allocated.
base::Result<EntryType> entry_type(base::ByteView payload);
base::Result<TxHeader> decode_tx_header(base::ByteView payload);  // cheap: metadata only
base::Result<std::vector<RequestRecord>> decode_requests(base::ByteView payload);
base::Result<Tx> decode_tx(base::ByteView payload);
base::Result<TxPart> decode_tx_part(base::ByteView payload);
base::Result<TxPart> decode_tx_part_header(base::ByteView payload);  // patches left empty
base::Result<TxAbort> decode_tx_abort(base::ByteView payload);
base::Result<CreateDatabase> decode_create(base::ByteView payload);
base::Result<DropDatabase> decode_drop(base::ByteView payload);

// A name is 1..64 of [A-Za-z0-9._-], does not begin with '.' or '-', does not end in "-wal", "-shm", "-journal" or ".sums".
// kArgument naming the name and the rule it breaks.
base::Status valid_database_name(const std::string& name);

// --- patches (pages/patch.cc) -----------------------------------------------------------------------------------------
// The patch from `before` (empty: the page did not exist) to `after`. Nearby runs are joined where that is shorter.
// Returns a patch with an empty body and kRuns when nothing changed.
Patch make_patch(PageNo page, base::ByteView before, base::ByteView after);
// Applies to `image` (page_size bytes; for kRuns it must hold the old image). kCorrupt when a run leaves the page or the body is malformed.
base::Status apply_patch(const Patch& patch, base::MutableByteView image);

}  // namespace pages
