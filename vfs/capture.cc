// The frames of a transaction (vfs/capture.h).
#include "vfs/capture.h"

#include <algorithm>
#include <string>

namespace vfs {

void Capture::reset() {
  first_ = 0;
  frames_.clear();
  image_bytes_ = 0;
  held_frame_ = 0;
  committed_frame_ = 0;
  re_encoded_ = false;
}

base::Status Capture::add_header(std::uint32_t frame, pages::PageNo page) {
  if (frames_.empty()) first_ = frame;
  if (frame < first_ || frame - first_ > frames_.size())
    return base::make_error(base::Code::kInternal, "WAL frame " + std::to_string(frame) + " does not follow frames " +
                                                       std::to_string(first_) + " to " +
                                                       std::to_string(first_ + frames_.size()) + " of its transaction");
  for (std::size_t at = frame - first_; at < frames_.size(); ++at) image_bytes_ -= frames_[at].image.size();
  frames_.resize(frame - first_);
  frames_.push_back({page, {}});
  return base::ok();
}

base::Status Capture::add_page(std::uint32_t frame, base::ByteView image) {
  if (frame < first_ || frame - first_ >= frames_.size())
    return base::make_error(base::Code::kInternal, "WAL frame " + std::to_string(frame) + " got a page but no header");
  Frame& target = frames_[frame - first_];
  image_bytes_ -= target.image.size();
  target.image.clear();
  if (image_bytes_ + image.size() > kImageBytesMax) {
    target.image.shrink_to_fit();
    return base::ok();
  }
  target.image.assign(image.begin(), image.end());
  image_bytes_ += image.size();
  return base::ok();
}

void Capture::hold(std::uint32_t frame, const FrameHeader& header) {
  if (frames_.empty()) first_ = frame;
  held_frame_ = frame;
  held_header_ = header;
}

std::vector<Capture::Page> Capture::last_frames(pages::PageNo held_page, pages::PageNo size_after) const {
  std::vector<Page> all;
  all.reserve(frames_.size() + 1);
  for (std::size_t at = 0; at < frames_.size(); ++at) {
    const auto frame = static_cast<std::uint32_t>(first_ + at);
    if (frame < held_frame_) all.push_back({frames_[at].page, frame});
  }
  all.push_back({held_page, held_frame_});
  std::sort(all.begin(), all.end(), [](const Page& a, const Page& b) {
    if (a.number != b.number) return a.number < b.number;
    return a.frame > b.frame;
  });
  all.erase(std::unique(all.begin(), all.end(), [](const Page& a, const Page& b) { return a.number == b.number; }),
            all.end());
  all.erase(std::remove_if(all.begin(), all.end(), [size_after](const Page& page) { return page.number > size_after; }),
            all.end());
  return all;
}

base::Result<base::ByteView> Capture::image(std::uint32_t frame, sqlite3_file* wal, base::Bytes& scratch,
                                            std::uint32_t page_size) const {
  CHECK(frame >= first_);
  CHECK(frame - first_ < frames_.size());
  const Frame& source = frames_[frame - first_];
  if (!source.image.empty()) return base::ByteView(source.image);
  scratch.resize(page_size);
  const int rc = wal->pMethods->xRead(wal, scratch.data(), static_cast<int>(page_size),
                                      frame_offset(frame, page_size) + kFrameHeaderSize);
  if (rc != SQLITE_OK)
    return base::make_error(base::Code::kIo, "WAL: read of frame " + std::to_string(frame) +
                                                 " failed with SQLite code " + std::to_string(rc));
  return base::ByteView(scratch);
}

void Capture::committed(bool re_encoded) {
  committed_frame_ = held_frame_;
  re_encoded_ = re_encoded;
  held_frame_ = 0;
  frames_.clear();
  image_bytes_ = 0;
}

}  // namespace vfs
