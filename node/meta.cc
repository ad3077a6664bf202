// Encoding and slots of the meta file (docs/FORMATS.md, "Meta").
#include "node/meta.h"

#include "base/checksum.h"
#include "base/random.h"

namespace node {
namespace {

using base::Code;
using base::Reader;
using base::Result;
using base::Status;
using base::Writer;

constexpr std::string_view kMagic = "HQLMETA1";
constexpr std::size_t kHeaderSize = 24;
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kRowsMax = 1 << 16;

}  // namespace

std::uint64_t cluster_id(const Ballot& ballot) {
  if (!ballot) return 0;
  const std::uint64_t mixed = base::mix64(ballot.holder.value ^ base::mix64(ballot.number));
  return mixed != 0 ? mixed : 1;
}

void write_log_id(Writer& out, base::LogId id) {
  out.u64(id.term.value);
  out.u64(id.index.value);
}
base::LogId read_log_id(Reader& in) {
  const base::Term term{in.u64()};
  return {term, base::Index{in.u64()}};
}

void write_ballot(Writer& out, const Ballot& ballot) {
  out.u64(ballot.number);
  out.u64(ballot.holder.value);
}
Ballot read_ballot(Reader& in) {
  const std::uint64_t number = in.u64();
  return {number, base::Incarnation{in.u64()}};
}

base::Bytes encode(const Meta& meta) {
  Writer out;
  out.u8(kVersion);
  out.u64(meta.node.value);
  out.u64(meta.incarnation.value);
  out.u64(meta.boot);
  write_ballot(out, meta.cluster);
  write_ballot(out, meta.promise);
  for (const GroupFloor& group : meta.groups) {
    write_log_id(out, group.floor);
    out.blob(group.configuration ? base::ByteView(raft::encode(*group.configuration)) : base::ByteView());
  }
  write_log_id(out, meta.catalogue.at);
  out.u8(meta.catalogue.formed ? 1 : 0);
  out.u64(meta.catalogue.last_drop.value);
  out.u32(static_cast<std::uint32_t>(meta.catalogue.rows.size()));
  for (const CatalogueRow& row : meta.catalogue.rows) {
    out.u64(row.id.value);
    out.u64(row.created.value);
    out.text(row.name);
    out.u32(row.page_size);
    write_log_id(out, row.last);
    out.u64(row.digest);
    out.u32(row.size);
  }
  return out.take();
}

Result<Meta> decode_meta(base::ByteView body) {
  Reader in(body);
  if (const unsigned version = in.u8(); in.ok() && version != kVersion)
    return base::make_error(version > kVersion ? Code::kNewerFormat : Code::kCorrupt,
                            "meta: format version " + std::to_string(version) + " is not " + std::to_string(kVersion) +
                                ", the one this program knows");
  Meta meta;
  meta.node = base::NodeId{in.u64()};
  meta.incarnation = base::Incarnation{in.u64()};
  meta.boot = in.u64();
  meta.cluster = read_ballot(in);
  meta.promise = read_ballot(in);
  for (GroupFloor& group : meta.groups) {
    group.floor = read_log_id(in);
    const base::ByteView bytes = in.blob();
    if (bytes.empty()) continue;
    HQL_ASSIGN(configuration, raft::decode_configuration(bytes));
    group.configuration = std::move(configuration);
  }
  meta.catalogue.at = read_log_id(in);
  const std::uint8_t formed = in.u8();
  if (formed > 1) return base::make_error(Code::kCorrupt, "meta: neither formed nor not");
  meta.catalogue.formed = formed == 1;
  meta.catalogue.last_drop = base::Index{in.u64()};
  if (meta.catalogue.last_drop > meta.catalogue.at.index)
    return base::make_error(Code::kCorrupt, "meta: a drop behind what the catalogue decides");
  const std::uint32_t count = in.u32();
  if (count > kRowsMax) return base::make_error(Code::kCorrupt, "meta: too many databases");
  for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
    CatalogueRow row;
    row.id = base::DatabaseId{in.u64()};
    row.created = base::Term{in.u64()};
    row.name = in.text();
    row.page_size = in.u32();
    row.last = read_log_id(in);
    row.digest = in.u64();
    row.size = in.u32();
    if (in.ok()) HQL_TRY(pages::valid_database_name(row.name));
    meta.catalogue.rows.push_back(std::move(row));
  }
  if (!in.at_end()) return base::make_error(Code::kCorrupt, "meta: wrong length");
  return meta;
}

base::Bytes encode(const MetaSlot& slot) {
  const base::Bytes body = encode(slot.meta);
  Writer out;
  out.raw(base::view_of(kMagic));
  out.u64(slot.generation);
  out.u32(static_cast<std::uint32_t>(body.size()));
  out.u32(base::crc32c(body, base::crc32c(out.view())));
  out.raw(body);
  return out.take();
}

Result<MetaSlot> decode_meta_slot(base::ByteView bytes) {
  Reader in(bytes);
  const bool magic = base::text_of(in.raw(kMagic.size())) == kMagic;
  const std::uint64_t generation = in.u64();
  const std::uint32_t length = in.u32();
  const std::uint32_t crc = in.u32();
  const base::ByteView body = in.raw(length);
  if (!in.ok() || !magic || crc != base::crc32c(body, base::crc32c(bytes.first(kHeaderSize - 4))))
    return base::make_error(Code::kCorrupt, "meta: not a whole slot");
  HQL_ASSIGN(meta, decode_meta(body));
  return MetaSlot{generation, std::move(meta)};
}

Result<std::unique_ptr<MetaFile>> MetaFile::open(base::Env& env, const std::string& dir) {
  HQL_ASSIGN(file, env.open(dir + "/meta", base::OpenMode::kReadWrite));
  std::unique_ptr<MetaFile> meta(new MetaFile(std::move(file)));
  std::optional<base::Error> unreadable;
  for (const std::uint64_t number : {std::uint64_t{0}, std::uint64_t{1}}) {
    base::Bytes bytes(kMetaSlotSize);
    const auto size = meta->file_->read(number * kMetaSlotSize, bytes);
    if (!size) {
      unreadable = size.error();
      continue;
    }
    auto slot = decode_meta_slot(base::ByteView(bytes).first(*size));
    if (!slot && slot.error().code == Code::kNewerFormat) return slot.error();
    if (!slot || (meta->loaded_ && slot->generation < meta->generation_)) continue;
    meta->generation_ = slot->generation;
    meta->newest_ = number;
    meta->loaded_ = std::move(slot->meta);
  }
  // One slot is enough; but a disk that gives neither now is not a meta file that is not there.
  if (unreadable && !meta->loaded_) return *unreadable;
  return meta;
}

Result<std::unique_ptr<MetaFile>> MetaFile::create(base::Env& env, const std::string& dir) {
  HQL_ASSIGN(file, env.open(dir + "/meta", base::OpenMode::kCreate));
  HQL_TRY(env.sync_dir(dir));
  return std::unique_ptr<MetaFile>(new MetaFile(std::move(file)));
}

Status MetaFile::write(const Meta& meta) {
  const std::uint64_t new_generation = generation_ + 1;
  const base::Bytes slot = encode(MetaSlot{new_generation, meta});
  if (slot.size() > kMetaSlotSize)
    return base::make_error(Code::kTooLarge, "meta: the catalogue of databases is over its limit");
  // The newest stays until the other slot has what is new; then it gets that too, so that rot in one slot costs nothing: an older
  // generation would repeat a boot number (R7) or forget a promise (R10).
  const std::uint64_t first = 1 - newest_;
  for (const std::uint64_t number : {first, 1 - first}) {
    HQL_TRY(file_->write(number * kMetaSlotSize, slot));
    HQL_TRY(file_->sync());
    newest_ = first;
    generation_ = new_generation;
  }
  return base::ok();
}

}  // namespace node
