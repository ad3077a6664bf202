// Env and File: the only way to files, clocks and random numbers for raft, wal, pages, cache and node (R1).
// Real: base/posix_env.h. Simulated: tests/sim. Paths are UTF-8, '/'-separated.
// Any thread; one File must not be used by two threads at once unless a caller's own rule allows it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace base {

enum class OpenMode : std::uint8_t {
  kReadOnly,   // kNotFound when it does not exist
  kReadWrite,  // kNotFound when it does not exist
  kCreate,     // created when missing; the caller syncs the directory
};

class File {
 public:
  virtual ~File() = default;
  // Fills `out` from `offset`; returns how many bytes there were before the end of the file.
  // Errors: kIo. `out` is then undefined.
  virtual Result<std::size_t> read(std::uint64_t offset, MutableByteView out) = 0;
  // Writes all of `bytes` at `offset`, growing the file. Not durable until sync().
  // Errors: kFull (ENOSPC, EDQUOT), kIo. Any part may have been written.
  virtual Status write(std::uint64_t offset, ByteView bytes) = 0;
  // fdatasync: everything written before is on the disk when it returns ok.
  // Errors: kIo. What was written since the last ok may be lost for ever; the caller must not try again (R13).
  virtual Status sync() = 0;
  virtual Status truncate(std::uint64_t size) = 0;
  virtual Result<std::uint64_t> size() = 0;
  // Drops clean cached pages (posix_fadvise DONTNEED), so that the next read comes from the disk. Best effort.
  virtual void drop_cache() = 0;
};

class Env {
 public:
  virtual ~Env() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  virtual Result<bool> exists(const std::string& path) = 0;
  virtual Status remove(const std::string& path) = 0;  // kNotFound when it does not exist
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  virtual Status make_dir(const std::string& path) = 0;  // ok when it exists; parents are not made
  virtual Status sync_dir(const std::string& path) = 0;
  virtual Result<std::vector<std::string>> list(const std::string& path) = 0;  // names, sorted, without . and ..
  virtual Result<std::uint64_t> free_bytes(const std::string& path) = 0;
  // Monotonic time of this process.
  virtual Micros now() = 0;
  // Wall clock, microseconds since 1970: for display and log lines only, never for a decision (R17).
  virtual Micros wall_clock() = 0;
  // Uniform. Real: the kernel's generator. Simulated: seeded.
  virtual std::uint64_t random() = 0;
};

// Writes the whole of `bytes` to `dir/name` atomically: temporary file `name.tmp`, sync, rename, sync of the directory.
// Errors: those of the steps. The file then holds the old bytes or all of the new ones, and which is not known to be durable.
Status write_file_atomic(Env& env, const std::string& dir, const std::string& name, ByteView bytes);
// The whole file; kTooLarge when longer than `size_max`.
Result<Bytes> read_file(Env& env, const std::string& path, std::size_t size_max);

}  // namespace base
