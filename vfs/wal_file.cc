// The -wal file of a managed connection: frames pass, the commit frame is held (R3; docs/SQLITE-NOTES.md, "Commit interception"). Which write is
// what follows from its offset and length: 32 bytes at 0 are a new WAL header, 24 bytes a frame header, a page its data. SQL threads, WRITER held
// for every write.
#include <cstring>
#include <string>

#include "vfs/boundary.h"
#include "vfs/fork.h"
#include "vfs/last_error.h"
#include "vfs/rechecksum.h"
#include "vfs/shim_connection.h"

namespace vfs {
namespace {

ShimConnection& of(sqlite3_file* file) { return *reinterpret_cast<WalFile*>(file)->connection; }

base::Error unexpected(const ShimConnection& connection, int amount, sqlite3_int64 offset) {
  return base::make_error(base::Code::kInternal, "database " + connection.name + ": an unexpected WAL write of " +
                                                     std::to_string(amount) + " bytes at " + std::to_string(offset));
}

// R4: whatever the reason, IOERR makes SQLite roll back.
int doomed_code(ShimConnection& connection) {
  const base::Error reason = connection.doom_reason();
  return report(&connection, reason, SQLITE_IOERR | (base::code_info(reason.code).number << 8));
}

// A new WAL: its salts are recorded before its first frame, and the header is on the disk before it too (DESIGN section 7), whatever
// `synchronous` says. SQLite's own sync of the header then finds it done.
int write_wal_header(ShimConnection& connection, sqlite3_file* lower, const void* data, int amount) {
  const auto* const bytes = static_cast<const std::byte*>(data);
  if (auto recorded = connection.database->wal_restarted(base::load_be32(bytes + 16), base::load_be32(bytes + 20));
      !recorded)
    return report(&connection, recorded.error());
  if (const int rc = lower->pMethods->xWrite(lower, data, amount, 0); rc != SQLITE_OK) return rc;
  if (const int rc = lower->pMethods->xSync(lower, SQLITE_SYNC_NORMAL); rc != SQLITE_OK) return rc;
  connection.wal_header_synced = true;
  return SQLITE_OK;
}

int write_frame_header(ShimConnection& connection, sqlite3_file* lower, std::uint32_t frame, const void* data,
                       sqlite3_int64 offset) {
  Capture& capture = connection.capture;
  FrameHeader header;
  std::memcpy(header.data(), data, header.size());
  // After the commit frame only walRewriteChecksums() writes headers: of frames that are there.
  const bool rewrites = capture.committed_frame() != 0;
  if (rewrites && frame > capture.committed_frame())
    return report(&connection, unexpected(connection, kFrameHeaderSize, offset));
  if (!rewrites && base::load_be32(&header[4]) != 0) {
    capture.hold(frame, header);
    return SQLITE_OK;
  }
  if (!rewrites)
    if (auto added = capture.add_header(frame, base::load_be32(&header[0])); !added)
      return report(&connection, added.error());
  return lower->pMethods->xWrite(lower, data, static_cast<int>(header.size()), offset);
}

int write_page(ShimConnection& connection, sqlite3_file* lower, std::uint32_t frame, const void* data,
               sqlite3_int64 offset) {
  Capture& capture = connection.capture;
  const base::ByteView page(static_cast<const std::byte*>(data), connection.page_size);
  if (capture.holds() && frame == capture.held_frame()) return commit_held_frame(connection, lower, page);
  if (auto added = capture.add_page(frame, page); !added) return report(&connection, added.error());
  return lower->pMethods->xWrite(lower, data, static_cast<int>(page.size()), offset);
}

int write_wal(ShimConnection& connection, sqlite3_file* lower, const void* data, int amount, sqlite3_int64 offset) {
  const NodeUse use(*connection.node);
  if (!use) return report(&connection, connection.usable().error());
  if (connection.doomed()) return doomed_code(connection);
  if (connection.writer != WriterHold::kLeased) return report(&connection, unexpected(connection, amount, offset));
  if (offset == 0 && amount == kWalHeaderSize) return write_wal_header(connection, lower, data, amount);

  connection.wal_header_synced = false;
  const std::int64_t frame_size = std::int64_t{connection.page_size} + kFrameHeaderSize;
  const std::int64_t inside = (offset - kWalHeaderSize) % frame_size;
  const auto frame = static_cast<std::uint32_t>((offset - kWalHeaderSize) / frame_size + 1);
  if (offset >= kWalHeaderSize && inside == 0 && amount == kFrameHeaderSize)
    return write_frame_header(connection, lower, frame, data, offset);
  if (offset >= kWalHeaderSize && inside == kFrameHeaderSize && amount == static_cast<int>(connection.page_size))
    return write_page(connection, lower, frame, data, offset);
  return report(&connection, unexpected(connection, amount, offset));
}

int x_close(sqlite3_file* file) noexcept {
  sqlite3_file* const lower = lower_of(file);
  return lower->pMethods->xClose(lower);
}

int x_read(sqlite3_file* file, void* out, int amount, sqlite3_int64 offset) noexcept {
  return boundary(SQLITE_IOERR_NOMEM, [&] {
    ShimConnection& connection = of(file);
    if (connection.writer == WriterHold::kLeased) {
      if (connection.doomed()) return wal_code(connection, doomed_code(connection));
      const std::int64_t frame_size = std::int64_t{connection.page_size} + kFrameHeaderSize;
      const std::int64_t inside = (offset - kWalHeaderSize) % frame_size;
      if (amount == 8 && offset > kWalHeaderSize && inside == 16) {
        const auto frame = static_cast<std::uint32_t>((offset - kWalHeaderSize) / frame_size + 1);
        if (connection.capture.answers_checksum_of(frame)) {
          std::memcpy(out, connection.capture.committed_checksum().data(), 8);
          return SQLITE_OK;
        }
      }
    }
    sqlite3_file* const lower = lower_of(file);
    return wal_code(connection, lower->pMethods->xRead(lower, out, amount, offset));
  });
}

int x_write(sqlite3_file* file, const void* data, int amount, sqlite3_int64 offset) noexcept {
  return boundary(SQLITE_IOERR_NOMEM, [&] {
    const int rc = write_wal(of(file), lower_of(file), data, amount, offset);
    return wal_code(of(file), rc);
  });
}

// journal_size_limit, by the writer after a commit. SQLite ignores the answer of anybody else.
int x_truncate(sqlite3_file* file, sqlite3_int64 size) noexcept {
  return boundary(SQLITE_IOERR_NOMEM, [&] {
    ShimConnection& connection = of(file);
    const NodeUse use(*connection.node);
    const std::uint32_t committed = connection.capture.committed_frame();
    if (!use || connection.writer != WriterHold::kLeased || committed == 0) return SQLITE_BUSY;
    if (size < frame_offset(committed + 1, connection.page_size)) return SQLITE_BUSY;
    sqlite3_file* const lower = lower_of(file);
    connection.database->wal_truncated();
    return lower->pMethods->xTruncate(lower, size);
  });
}

// The sync of a commit is the Raft log's. Any other one happens.
int x_sync(sqlite3_file* file, int flags) noexcept {
  return boundary(SQLITE_IOERR_NOMEM, [&] {
    ShimConnection& connection = of(file);
    const bool commits = connection.writer == WriterHold::kLeased && connection.capture.committed_frame() != 0;
    if (commits || connection.wal_header_synced) return SQLITE_OK;
    sqlite3_file* const lower = lower_of(file);
    return lower->pMethods->xSync(lower, flags);
  });
}

int x_file_size(sqlite3_file* file, sqlite3_int64* size) noexcept {
  sqlite3_file* const lower = lower_of(file);
  return lower->pMethods->xFileSize(lower, size);
}

int x_lock(sqlite3_file*, int) noexcept { return SQLITE_OK; }  // SQLite locks no WAL file
int x_unlock(sqlite3_file*, int) noexcept { return SQLITE_OK; }
int x_check_reserved_lock(sqlite3_file*, int* reserved) noexcept {
  *reserved = 0;
  return SQLITE_OK;
}

int x_file_control(sqlite3_file* file, int operation, void* argument) noexcept {
  if (operation == SQLITE_FCNTL_SIZE_HINT || operation == SQLITE_FCNTL_CHUNK_SIZE) return SQLITE_OK;
  sqlite3_file* const lower = lower_of(file);
  return lower->pMethods->xFileControl(lower, operation, argument);
}

int x_sector_size(sqlite3_file* file) noexcept {
  sqlite3_file* const lower = lower_of(file);
  return lower->pMethods->xSectorSize(lower);
}

int x_device_characteristics(sqlite3_file* file) noexcept {
  sqlite3_file* const lower = lower_of(file);
  return lower->pMethods->xDeviceCharacteristics(lower) | SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

constexpr sqlite3_io_methods kMethods = {1,
                                         x_close,
                                         x_read,
                                         x_write,
                                         x_truncate,
                                         x_sync,
                                         x_file_size,
                                         x_lock,
                                         x_unlock,
                                         x_check_reserved_lock,
                                         x_file_control,
                                         x_sector_size,
                                         x_device_characteristics,
                                         nullptr,
                                         nullptr,
                                         nullptr,
                                         nullptr,
                                         nullptr,
                                         nullptr};

}  // namespace

int open_wal_file(sqlite3_vfs* lower, const char* filename, sqlite3_file* file, int flags, int* out_flags,
                  ShimConnection& connection) {
  file->pMethods = nullptr;
  // By name: of a dropped database it may be the next one's.
  if (auto usable = connection.usable(); !usable) return report(&connection, usable.error());
  sqlite3_file* const lower_file = lower_of(file);
  std::memset(lower_file, 0, static_cast<std::size_t>(lower->szOsFile));
  const int rc = lower->xOpen(lower, filename, lower_file, flags, out_flags);
  if (rc != SQLITE_OK) {
    if (lower_file->pMethods != nullptr) lower_file->pMethods->xClose(lower_file);
    return rc;
  }
  auto* const wal = reinterpret_cast<WalFile*>(file);
  wal->connection = &connection;
  wal->base.pMethods = &kMethods;
  return SQLITE_OK;
}

}  // namespace vfs
