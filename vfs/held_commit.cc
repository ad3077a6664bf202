// The held commit (R3): from the captured frames to an entry, to its outcome, to the commit frame in the WAL. SQL thread, WRITER held with
// a lease. Nothing is visible to any reader before the outcome: SQLite publishes the transaction by updating the wal-index, after the
// write of this frame returned SQLITE_OK.
//
//   frames -> last image of each page -> patch against the committed image, hash -> Tx -> Gate::submit -> outcome
//   committed: Database::commit_allowed, frame written, SQLITE_OK     not applied: BUSY|(n<<8)     unknown: IOERR|(n<<8)
//
// The codes never are plain SQLITE_BUSY: an explicit COMMIT would leave the transaction open with WRITER held
// (docs/SQLITE-NOTES.md, "Result codes").
#include <cstring>
#include <string>

#include "base/entry.h"
#include "pages/sums.h"
#include "vfs/last_error.h"
#include "vfs/shim_connection.h"
#include "vfs/slot.h"

namespace vfs {
namespace {

// The gate answers at the deadline at the latest; it gets this much longer before the shim calls the outcome unknown itself.
constexpr base::Micros kOutcomeGrace = 2 * base::kSecond;

struct Prepared {
  pages::Tx tx;
  std::vector<std::pair<pages::PageNo, std::uint64_t>> changed;
  bool re_encoded = false;
};

int commit_code(const base::Error& error) { return base::extended_code(error.code); }

int refuse(ShimConnection& connection, const base::Error& error) {
  return report(&connection, error, commit_code(error));
}

// Why an operation on the WAL failed: what was reported with it, or what SQLite's own code says.
base::Error cause_of(ShimConnection& connection, int code) {
  constexpr int kFirstOfOurs = 64;  // SQLite's own extended codes have smaller numbers
  if (code >> 8 >= kFirstOfOurs) return connection.last_error();
  return base::make_error((code & 0xff) == SQLITE_FULL ? base::Code::kFull : base::Code::kIo,
                          "database " + connection.name + ": its WAL " + connection.path +
                              "-wal cannot be written or read (SQLite code " + std::to_string(code) +
                              "); nothing was written");
}

base::Status check_first_page(const ShimConnection& connection, base::ByteView page) {
  const unsigned write_version = std::to_integer<unsigned>(page[18]);
  const unsigned read_version = std::to_integer<unsigned>(page[19]);
  unsigned size = std::to_integer<unsigned>(page[16]) << 8 | std::to_integer<unsigned>(page[17]);
  if (size == 1) size = 65536;
  if (write_version != 2 || read_version != 2)
    return base::make_error(base::Code::kRefused,
                            "database " + connection.name +
                                ": the transaction takes it out of WAL mode (page 1 says version " +
                                std::to_string(write_version) + "/" + std::to_string(read_version) +
                                "); a replicated database stays in WAL mode");
  if (size != connection.page_size)
    return base::make_error(base::Code::kRefused,
                            "database " + connection.name + ": the transaction changes the page size from " +
                                std::to_string(connection.page_size) + " to " + std::to_string(size) +
                                "; it is fixed at creation (URI parameter page_size=)");
  return base::ok();
}

// A new page that no frame has would differ between nodes: SQLite writes every page it adds, but for the lock-byte page.
base::Status check_growth(const ShimConnection& connection, const std::vector<Capture::Page>& pages,
                          pages::PageNo before, pages::PageNo after) {
  const pages::PageNo lock_byte = pages::lock_byte_page(connection.page_size);
  std::size_t at = 0;
  for (pages::PageNo page = before + 1; page <= after && page != 0; ++page) {
    if (page == lock_byte) continue;
    while (at < pages.size() && pages[at].number < page) ++at;
    if (at == pages.size() || pages[at].number != page)
      return base::make_error(base::Code::kInternal, "database " + connection.name + " grows to " +
                                                         std::to_string(after) + " pages, but page " +
                                                         std::to_string(page) + " was not written");
  }
  return base::ok();
}

// Patches and hashes of all pages of the transaction.
base::Result<Prepared> make_transaction(ShimConnection& connection, sqlite3_file* wal, base::ByteView held_page) {
  Database& database = *connection.database;
  Capture& capture = connection.capture;
  const std::uint32_t page_size = connection.page_size;
  const pages::PageNo held_number = base::load_be32(&capture.held_header()[0]);
  const pages::PageNo size_after = base::load_be32(&capture.held_header()[4]);
  const pages::PageNo lock_byte = pages::lock_byte_page(page_size);
  const CommittedState state = database.committed_state();
  const auto all = capture.last_frames(held_number, size_after);
  HQL_TRY(check_growth(connection, all, state.page_count, size_after));

  Prepared prepared;
  base::Bytes scratch;
  base::Bytes before(page_size);
  std::size_t patch_bytes = 0;
  for (const Capture::Page& page : all) {
    if (page.number == lock_byte || page.number == 0) continue;
    base::ByteView image = held_page;
    if (page.frame != capture.held_frame()) {
      HQL_ASSIGN(kept, capture.image(page.frame, wal, scratch, page_size));
      image = kept;
    }
    if (page.number == 1) HQL_TRY(check_first_page(connection, image));
    base::ByteView old;
    if (page.number <= state.page_count) {
      HQL_TRY(database.committed_page(page.number, before));
      old = before;
    }
    pages::Patch patch = pages::make_patch(page.number, old, image);
    if (patch.kind == pages::PatchKind::kRuns && patch.body.empty()) continue;
    patch_bytes += patch.body.size() + 16;
    if (patch_bytes > kTransactionBytesMax)
      return base::make_error(base::Code::kTooLarge,
                              "database " + connection.name + ": the transaction changes more than " +
                                  std::to_string(kTransactionBytesMax >> 20) + " MiB; commit in smaller steps");
    prepared.changed.emplace_back(page.number, pages::page_hash(page.number, image));
    prepared.tx.patches.push_back(std::move(patch));
  }
  pages::TxHeader& header = prepared.tx.header;
  header.db = connection.database_id;
  header.parent = state.last;
  header.digest_before = state.digest;
  header.digest_after = database.digest_with(prepared.changed, size_after);
  header.lease_term = connection.grant.term;
  header.lease = connection.grant.lease;
  header.page_size = page_size;
  header.size_after = size_after;
  header.patch_count = static_cast<std::uint32_t>(prepared.tx.patches.size());
  if (connection.mark != nullptr && connection.mark->requests) prepared.tx.requests = connection.mark->requests();
  header.request_count = static_cast<std::uint32_t>(prepared.tx.requests.size());
  return prepared;
}

// What SQLite will need after the commit was allowed, made sure of before it is proposed: the wal-index page of the frame.
base::Status map_index_of(const ShimConnection& connection, std::uint32_t frame) {
  constexpr std::uint32_t kEntriesPerRegion = 4096;
  constexpr std::uint32_t kHeaderEntries = 34;  // the first region holds 4062 (walFramePage)
  constexpr int kRegionBytes = 32768;
  const auto region = static_cast<int>((frame + kHeaderEntries - 1) / kEntriesPerRegion);
  volatile void* mapped = nullptr;
  const int rc = connection.lower->pMethods->xShmMap(connection.lower, region, kRegionBytes, 1, &mapped);
  if (rc == SQLITE_OK && mapped != nullptr) return base::ok();
  return base::make_error(base::Code::kIo, "database " + connection.name + ": wal-index region " +
                                               std::to_string(region) + " cannot be mapped (SQLite code " +
                                               std::to_string(rc) + "); nothing was written");
}

base::Bytes frame_of(const FrameHeader& header, base::ByteView page) {
  base::Bytes frame;
  frame.reserve(header.size() + page.size());
  frame.insert(frame.end(), header.begin(), header.end());
  frame.insert(frame.end(), page.begin(), page.end());
  return frame;
}

// A doomed transaction must leave whatever its cause was: IOERR rolls back everywhere.
int refuse_doomed(ShimConnection& connection) {
  const base::Error reason = connection.doom_reason();
  static_cast<void>(refuse(connection, reason));
  return SQLITE_IOERR | (base::code_info(reason.code).number << 8);
}

base::Status before_proposal(ShimConnection& connection) {
  HQL_TRY(check_single_database(connection));
  return map_index_of(connection, connection.capture.held_frame());
}

// The disk may be full by now: the commit frame's place is there before the proposal.
base::Status make_room(const ShimConnection& connection) {
  const std::int64_t end = frame_offset(connection.capture.held_frame() + 1, connection.page_size);
  const base::Status made = connection.database->reserve_wal(static_cast<std::uint64_t>(end));
  if (made) return base::ok();
  return base::make_error(made.error().code, "database " + connection.name + ": its WAL " + connection.path +
                                                 "-wal cannot grow (" + made.error().message +
                                                 "); nothing was written");
}

Outcome propose(ShimConnection& connection, pages::Tx tx) {
  Gate& gate = connection.node->gate();
  const base::Micros deadline = gate.now() + gate.commit_timeout();
  auto slot = std::make_shared<Slot<Outcome>>();
  Submission submission;
  submission.tx = std::move(tx);
  submission.deadline = deadline;
  gate.submit(std::move(submission), [slot](Outcome outcome) { slot->set(std::move(outcome)); });
  auto outcome = slot->wait(
      deadline + kOutcomeGrace, [&gate] { return gate.now(); }, [&connection] { return connection.node->stopped(); });
  if (outcome) return std::move(*outcome);
  Outcome unknown;
  unknown.error = base::make_error(base::Code::kUnknownOutcome,
                                   "database " + connection.name + ": " +
                                       (connection.node->stopped() ? "the node was stopped" : "the deadline passed") +
                                       " while the outcome was not known; the transaction may still be committed");
  return unknown;
}

base::Error outcome_error(const ShimConnection& connection, const Outcome& outcome) {
  if (outcome.kind == OutcomeKind::kUnknown && outcome.error.code != base::Code::kUnknownOutcome)
    return base::make_error(base::Code::kUnknownOutcome, "database " + connection.name + ": " + outcome.error.message);
  return outcome.error;
}

}  // namespace

int commit_held_frame(ShimConnection& connection, sqlite3_file* wal, base::ByteView page) {
  Capture& capture = connection.capture;
  if (connection.doomed()) return refuse_doomed(connection);
  if (auto ready = before_proposal(connection); !ready) return refuse(connection, ready.error());
  if (auto room = make_room(connection); !room) return refuse(connection, room.error());
  auto prepared = make_transaction(connection, wal, page);
  if (!prepared) return refuse(connection, prepared.error());
  // Since its digest is known it is doomed no more (Database::doom_overdue_writer): the last look.
  if (connection.doomed()) return refuse_doomed(connection);
  if (announces_rechecksum(capture.held_header())) {
    if (auto done = rechecksum(wal, connection.page_size, capture.first_frame(), capture.held_frame(),
                               capture.held_header(), page);
        !done)
      return refuse(connection, done.error());
    prepared->re_encoded = true;
  }

  const std::int64_t offset = frame_offset(capture.held_frame(), connection.page_size);
  // After the outcome nothing may fail for want of memory.
  const base::Bytes frame = frame_of(capture.held_header(), page);
  const std::uint64_t digest_after = prepared->tx.header.digest_after;
  const pages::PageNo size_after = prepared->tx.header.size_after;
  const Outcome outcome = propose(connection, std::move(prepared->tx));
  if (outcome.kind != OutcomeKind::kCommitted) {
    const base::Error error = outcome_error(connection, outcome);
    return refuse(connection, error);
  }

  connection.database->commit_allowed(connection, outcome.id, digest_after, size_after, std::move(prepared->changed));
  connection.committed_in_hold = outcome.id;
  connection.last_commit = outcome.id;
  connection.clear_doom();  // one that came after the outcome is too late
  capture.committed(prepared->re_encoded);
  connection.wal_header_synced = false;
  const int written = wal->pMethods->xWrite(wal, frame.data(), static_cast<int>(frame.size()), offset);
  return wal_code(connection, written);
}

int wal_code(ShimConnection& connection, int code) {
  if (code == SQLITE_OK || connection.writer != WriterHold::kLeased) return code;
  // The text comes from check_published(), once SQLite has given up.
  if (connection.capture.committed_frame() != 0) return base::extended_code(base::Code::kCommitted);
  if (connection.db != nullptr && commit_in_reset(connection.db)) {
    connection.lost_write = true;
    connection.lost_write_cause = cause_of(connection, code);
  }
  return code;
}

void check_published(ShimConnection& connection) {
  const std::uint32_t frame = connection.capture.committed_frame();
  if (frame == 0 || connection.wal_index == nullptr || !connection.usable()) return;
  // WalIndexHdr.mxFrame, in native byte order; WRITER is ours, so nobody changes it.
  std::uint32_t last_frame = 0;
  const auto* const header = static_cast<const volatile std::byte*>(connection.wal_index);
  std::byte bytes[4];
  for (std::size_t at = 0; at < sizeof bytes; ++at) bytes[at] = header[16 + at];
  std::memcpy(&last_frame, bytes, sizeof last_frame);
  if (last_frame >= frame) return;
  report(&connection,
         base::make_error(base::Code::kCommitted,
                          "database " + connection.name + ": the transaction was committed at index " +
                              std::to_string(connection.committed_in_hold.index.value) +
                              ", but SQLite could not finish it here; the node publishes it. Do not repeat it"));
}

}  // namespace vfs
