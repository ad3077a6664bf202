// Segment files of a log directory: the live ones, and the ready ones that are zero-filled ahead and recycled.
//   <sequence>.seg      live: named so only after its header is synced
//   <number>.free       ready: full length, zero-filled or recycled; its contents mean nothing
//   <number>.tmp        being filled; removed at the next start
// SegmentStore is shared by the log lane and the maintenance lane: its mutex guards the list of ready files and no I/O.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/mutex.h"
#include "wal/format.h"

namespace wal {

// A live segment as the log lane knows it.
struct Segment {
  SegmentHeader header;
  std::string path;
  std::unique_ptr<base::File> file;  // may be closed; SegmentStore::file() opens it
  std::uint64_t end = kDataStart;    // end of the batches that count, bytes
};

// Reads a file through a window, so that small batches cost no call each. A view lives until the next call.
class WindowReader {
 public:
  explicit WindowReader(base::File& file) : file_(file) {}
  // Up to `size` bytes at `offset`: fewer at the end of the file. Errors: kIo.
  base::Result<ByteView> view(std::uint64_t offset, std::size_t size);

 private:
  base::File& file_;
  Bytes window_;
  std::uint64_t start_ = 0;
  std::size_t filled_ = 0;
};

// How a segment that was asked for came to be.
struct NewSegment {
  std::unique_ptr<base::File> file;
  std::string path;
  std::uint64_t zeroed_to = 0;  // bytes that are allocated; the writer grows the file from there
};

class SegmentStore {
 public:
  SegmentStore(base::Env& env, std::string dir, std::uint64_t segment_size, int ready_wanted);

  // Takes over ready files found at start, removes half-filled ones. Before any other call. Errors: kIo.
  base::Status adopt(const std::vector<std::string>& names);
  // Makes `header` a live segment, from a ready file or a new short one, durable when it returns. Log lane.
  // Errors: kFull (nothing changed), kIo (the log must be poisoned: names and bytes are uncertain).
  base::Result<NewSegment> make_live(const SegmentHeader& header);
  // A live segment that is no longer needed becomes ready, or goes when there are enough. Log lane. Errors: kIo.
  base::Status recycle(const std::string& path);
  // A slice of zero-filling. True: nothing left to do. Maintenance lane. Errors: kFull, kIo; both harmless to the log.
  base::Result<bool> prepare_slice();
  // Opens a live segment's file when it is closed. Errors: kIo.
  base::Result<base::File*> file(Segment& segment);

  void note_full() { space_failed_ = true; }
  void note_space() { space_failed_ = false; }
  // The disk was full when last asked, and at most one ready segment is left.
  [[nodiscard]] bool full() const { return space_failed_ && ready_count_ <= 1; }

 private:
  std::string take_ready();
  void give_back(std::string path);
  std::string next_name(const char* suffix);

  base::Env& env_;
  const std::string dir_;
  const std::uint64_t segment_size_;
  const int ready_wanted_;
  std::atomic<bool> space_failed_{false};
  std::atomic<int> ready_count_{0};
  std::atomic<std::uint64_t> next_number_{1};
  base::Mutex mutex_;
  std::vector<std::string> ready_ GUARDED_BY(mutex_);  // paths
  // Of the maintenance lane alone:
  std::unique_ptr<base::File> filling_;
  std::string filling_path_;
  std::uint64_t filled_ = 0;
};

}  // namespace wal
