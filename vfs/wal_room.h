// WalRoom: how much of a -wal file is there already. Frames written into it need no space of the disk, so a commit that was allowed cannot meet
// a full one; and they change no file size, which some file systems would write with the next sync of another file, the log's.
// Used by whoever holds WRITER.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace vfs {

class WalRoom {
 public:
  // The file reaches to `end` (a byte offset) at least. It grows by more than is asked for, with zeros: a frame of zeros ends the WAL for
  // everybody (walDecodeFrame: its salts, or its page number). Errors: kFull, kIo; nothing is lost by them.
  base::Status reserve(int wal_fd, std::uint64_t end);
  // Somebody cut the file.
  void forget() { size_ = 0; }

 private:
  std::uint64_t size_ = 0;  // the file is at least that long
};

}  // namespace vfs
