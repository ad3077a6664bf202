// See wal_writer.h.
#include "vfs/wal_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/fault.h"

namespace vfs {
namespace {

constexpr std::uint32_t kMagic = 0x377f0682;  // the lowest bit: checksums over big-endian words
constexpr std::uint32_t kWalVersion = 3007000;
constexpr std::size_t kWriteChunk = std::size_t{64} * 1024;

base::Error io_error(const char* what) {
  const base::Code code = errno == ENOSPC || errno == EDQUOT ? base::Code::kFull : base::Code::kIo;
  return base::make_error(code, std::string(what) + ": " + std::strerror(errno));
}

}  // namespace

std::optional<WalFileHeader> decode_wal_header(base::ByteView bytes) {
  if (bytes.size() < kWalHeaderSize) return std::nullopt;
  const std::uint32_t magic = base::load_be32(&bytes[0]);
  if ((magic & ~1u) != kMagic || base::load_be32(&bytes[4]) != kWalVersion) return std::nullopt;
  WalFileHeader header;
  header.big_endian_checksum = (magic & 1) != 0;
  header.page_size = base::load_be32(&bytes[8]);
  header.checkpoint = base::load_be32(&bytes[12]);
  header.salt1 = base::load_be32(&bytes[16]);
  header.salt2 = base::load_be32(&bytes[20]);
  wal_checksum(bytes.first(24), header.big_endian_checksum, header.checksum);
  if (header.checksum[0] != base::load_be32(&bytes[24]) || header.checksum[1] != base::load_be32(&bytes[28]))
    return std::nullopt;
  return header;
}

base::Bytes encode_wal_header(WalFileHeader& header) {
  base::Bytes bytes(kWalHeaderSize);
  base::store_be32(&bytes[0], kMagic | (header.big_endian_checksum ? 1u : 0u));
  base::store_be32(&bytes[4], kWalVersion);
  base::store_be32(&bytes[8], header.page_size);
  base::store_be32(&bytes[12], header.checkpoint);
  base::store_be32(&bytes[16], header.salt1);
  base::store_be32(&bytes[20], header.salt2);
  header.checksum[0] = 0;
  header.checksum[1] = 0;
  wal_checksum(base::ByteView(bytes).first(24), header.big_endian_checksum, header.checksum);
  base::store_be32(&bytes[24], header.checksum[0]);
  base::store_be32(&bytes[28], header.checksum[1]);
  return bytes;
}

std::uint64_t frame_offset(FrameNo frame, std::uint32_t page_size) {
  return kWalHeaderSize + std::uint64_t{frame - 1} * (kFrameHeaderSize + page_size);
}

base::Status read_exact(int fd, std::uint64_t offset, base::MutableByteView out, const char* what) {
  while (!out.empty()) {
    const ssize_t got = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error(what);
    if (got == 0)
      return base::make_error(base::Code::kCorrupt, std::string(what) + ": the file ends at " + std::to_string(offset));
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return base::ok();
}

base::Status write_exact(int fd, std::uint64_t offset, base::ByteView bytes, const char* what) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd, bytes.data(), std::min(bytes.size(), kWriteChunk), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return io_error(what);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  return base::ok();
}

WalAppender::WalAppender(int wal_fd, WalIndex& index, const WalIndexHeader& start, std::uint32_t page_size)
    : wal_fd_(wal_fd),
      index_(index),
      header_(start),
      page_size_(page_size),
      buffer_offset_(frame_offset(start.max_frame + 1, page_size)) {
  // Most transactions are small, and memory for a whole chunk is dear each time.
  buffer_.reserve(kFrameHeaderSize + page_size);
}

base::Status WalAppender::add(pages::PageNo page, base::ByteView image) {
  CHECK(image.size() == page_size_);
  if (last_unsealed_) {
    seal_last(0);
    if (buffer_.size() + kFrameHeaderSize + page_size_ > kWriteChunk) HQL_TRY(flush());
  }
  const std::size_t at = buffer_.size();
  buffer_.resize(at + kFrameHeaderSize);
  base::store_be32(&buffer_[at], page);
  std::memcpy(&buffer_[at + 8], header_.salt, sizeof header_.salt);
  buffer_.insert(buffer_.end(), image.begin(), image.end());
  pages_.push_back(page);
  last_unsealed_ = true;
  return base::ok();
}

void WalAppender::seal_last(pages::PageNo commit_size) {
  CHECK(last_unsealed_);
  std::byte* frame = buffer_.data() + buffer_.size() - page_size_ - kFrameHeaderSize;
  base::store_be32(frame + 4, commit_size);
  const bool big_endian = header_.big_endian_checksum != 0;
  wal_checksum({frame, 8}, big_endian, header_.frame_checksum);
  wal_checksum({frame + kFrameHeaderSize, page_size_}, big_endian, header_.frame_checksum);
  base::store_be32(frame + 16, header_.frame_checksum[0]);
  base::store_be32(frame + 20, header_.frame_checksum[1]);
  last_unsealed_ = false;
}

base::Status WalAppender::flush() {
  if (const auto fault = HQL_FAULT_POINT("image.wal_write")) return fault->error("write frames");
  HQL_TRY(write_exact(wal_fd_, buffer_offset_, buffer_, "write frames"));
  buffer_offset_ += buffer_.size();
  buffer_.clear();
  return base::ok();
}

base::Status WalAppender::commit(pages::PageNo size_after) {
  CHECK(!pages_.empty());
  const FrameNo first = header_.max_frame + 1;
  const FrameNo last = last_frame();
  // Whatever can fail comes before the commit mark is on its way.
  HQL_TRY(index_.reserve(last));
  seal_last(size_after);
  HQL_TRY(flush());
  for (FrameNo frame = first; frame <= last; ++frame) HQL_TRY(index_.append(frame, pages_[frame - first]));
  if (const auto fault = HQL_FAULT_POINT("image.publish")) return fault->error("publish");
  header_.max_frame = last;
  header_.page_count = size_after;
  header_.page_size_code = static_cast<std::uint16_t>((page_size_ & 0xff00) | (page_size_ >> 16));
  ++header_.change;
  index_.publish(header_);
  return base::ok();
}

}  // namespace vfs
