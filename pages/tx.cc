// Codec of the database group's entries (docs/FORMATS.md, "Entries"). Every entry begins with
//
//   0       1         2       3
//   | type  | version | flags | page_size_log2 |     flags bit 0: body is one LZ4 block; page_size_log2: 9..16, or 0
//
// and goes on with its type's fields in the order written below, varints for what is usually small. The uncompressed metadata
// is all that the loop lane reads (R6).
#include "pages/tx.h"

#include <bit>

#include "pages/body.h"
#include "pages/sums.h"

namespace pages {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kFlagLz4 = 1;
constexpr std::size_t kNameMax = 64;

base::Error corrupt(const std::string& what) { return base::make_error(base::Code::kCorrupt, "entry: " + what); }

void put_lead(base::Writer& out, EntryType type, bool compressed, std::uint32_t page_size) {
  out.u8(static_cast<std::uint8_t>(type));
  out.u8(kVersion);
  out.u8(compressed ? kFlagLz4 : 0);
  out.u8(page_size == 0 ? std::uint8_t{0} : static_cast<std::uint8_t>(std::countr_zero(page_size)));
}

void put_origin(base::Writer& out, const Origin& origin) {
  out.u64(origin.incarnation.value);
  out.varint(origin.boot);
  out.varint(origin.sequence);
}

void put_body(base::Writer& out, const StoredBody& body) {
  out.varint(body.plain_size);
  out.raw(body.bytes);
}

Origin get_origin(base::Reader& in) {
  Origin origin;
  origin.incarnation = base::Incarnation(in.u64());
  origin.boot = in.varint();
  origin.sequence = in.varint();
  return origin;
}

// A varint that must fit 32 bits; else the reader turns bad.
std::uint32_t get_u32(base::Reader& in) {
  const std::uint64_t value = in.varint();
  if (value > UINT32_MAX) in.fail();
  return static_cast<std::uint32_t>(value);
}

struct Lead {
  bool compressed = false;
  std::uint32_t page_size = 0;
};

base::Result<Lead> get_lead(base::Reader& in, EntryType expected) {
  const std::uint8_t type = in.u8();
  const std::uint8_t version = in.u8();
  const std::uint8_t flags = in.u8();
  const std::uint8_t log2 = in.u8();
  if (!in.ok()) return corrupt("shorter than its first four bytes");
  if (type != static_cast<std::uint8_t>(expected))
    return corrupt("type " + std::to_string(type) + " is not the expected one");
  if (version != kVersion) return corrupt("version " + std::to_string(version) + " is unknown");
  if ((flags & ~kFlagLz4) != 0) return corrupt("unknown flags " + std::to_string(flags));
  const bool sized = expected == EntryType::kTx || expected == EntryType::kCreate;
  if (sized ? (log2 < 9 || log2 > 16) : log2 != 0) return corrupt("page size 2^" + std::to_string(log2));
  const bool has_body = sized || expected == EntryType::kTxPart;
  if (!has_body && flags != 0) return corrupt("flags on an entry without a body");
  return Lead{(flags & kFlagLz4) != 0, sized ? std::uint32_t{1} << log2 : 0};
}

// What stands behind the metadata.
struct Tail {
  bool compressed = false;
  std::uint64_t plain_size = 0;
  base::ByteView stored;
  base::Result<base::Bytes> load() const { return load_body(stored, compressed, plain_size); }
};

Tail get_tail(base::Reader& in, bool compressed) {
  Tail tail;
  tail.compressed = compressed;
  tail.plain_size = in.varint();
  tail.stored = in.raw(in.remaining());
  return tail;
}

struct TxFrame {
  TxHeader header;
  Tail tail;
};

base::Result<TxFrame> open_tx(base::ByteView payload) {
  base::Reader in(payload);
  HQL_ASSIGN(lead, get_lead(in, EntryType::kTx));
  TxFrame frame;
  TxHeader& header = frame.header;
  header.page_size = lead.page_size;
  header.db = DatabaseId(in.varint());
  header.parent.term = base::Term(in.varint());
  header.parent.index = base::Index(in.varint());
  header.digest_before = in.u64();
  header.digest_after = in.u64();
  header.origin = get_origin(in);
  header.lease_term = base::Term(in.varint());
  header.lease = base::LeaseId(in.varint());
  header.size_after = get_u32(in);
  header.request_count = get_u32(in);
  header.patch_count = get_u32(in);
  header.part_count = get_u32(in);
  frame.tail = get_tail(in, lead.compressed);
  if (!in.ok()) return corrupt("ends inside a transaction's header");
  if (header.size_after == 0) return corrupt("a transaction leaves no page");
  return frame;
}

base::Result<std::vector<Patch>> last_patches(base::Reader& in, std::uint32_t page_size, PageNo size_after) {
  auto patches = decode_body_patches(in, page_size);
  if (!patches) return patches;
  if (!in.at_end()) return corrupt("bytes behind the last patch");
  for (const Patch& patch : *patches) {
    if (patch.page > size_after)
      return corrupt("page " + std::to_string(patch.page) + " is beyond the end of the database");
    if (patch.page == lock_byte_page(page_size)) return corrupt("patch of the lock-byte page");
  }
  return patches;
}

struct PartFrame {
  TxPart part;
  Tail tail;
};

base::Result<PartFrame> open_part(base::ByteView payload) {
  base::Reader in(payload);
  HQL_ASSIGN(lead, get_lead(in, EntryType::kTxPart));
  PartFrame frame;
  frame.part.db = DatabaseId(in.varint());
  frame.part.origin = get_origin(in);
  frame.part.lease_term = base::Term(in.varint());
  frame.part.lease = base::LeaseId(in.varint());
  frame.part.number = get_u32(in);
  frame.tail = get_tail(in, lead.compressed);
  if (!in.ok()) return corrupt("ends inside a part's header");
  return frame;
}

}  // namespace

base::Bytes encode(const Tx& tx) {
  const TxHeader& header = tx.header;
  CHECK(valid_page_size(header.page_size));
  CHECK(header.size_after > 0);
  CHECK(header.request_count == tx.requests.size());
  const StoredBody body = store_body(encode_body(tx.requests, tx.patches));
  base::Writer out;
  out.buffer().reserve(128 + body.bytes.size());
  put_lead(out, EntryType::kTx, body.compressed, header.page_size);
  out.varint(header.db.value);
  out.varint(header.parent.term.value);
  out.varint(header.parent.index.value);
  out.u64(header.digest_before);
  out.u64(header.digest_after);
  put_origin(out, header.origin);
  out.varint(header.lease_term.value);
  out.varint(header.lease.value);
  out.varint(header.size_after);
  out.varint(header.request_count);
  out.varint(header.patch_count);
  out.varint(header.part_count);
  put_body(out, body);
  return out.take();
}

base::Bytes encode(const TxPart& part) {
  const StoredBody body = store_body(encode_body({}, part.patches));
  base::Writer out;
  out.buffer().reserve(64 + body.bytes.size());
  put_lead(out, EntryType::kTxPart, body.compressed, 0);
  out.varint(part.db.value);
  put_origin(out, part.origin);
  out.varint(part.lease_term.value);
  out.varint(part.lease.value);
  out.varint(part.number);
  put_body(out, body);
  return out.take();
}

base::Bytes encode(const TxAbort& abort) {
  base::Writer out;
  put_lead(out, EntryType::kTxAbort, false, 0);
  out.varint(abort.db.value);
  put_origin(out, abort.origin);
  out.varint(abort.lease_term.value);
  out.varint(abort.lease.value);
  return out.take();
}

base::Bytes encode(const CreateDatabase& create) {
  CHECK(valid_page_size(create.page_size));
  CHECK(create.name.size() <= kNameMax);
  const StoredBody body = store_body(encode_body({}, create.initial));
  base::Writer out;
  put_lead(out, EntryType::kCreate, body.compressed, create.page_size);
  put_origin(out, create.origin);
  out.varint(create.size_after);
  out.u64(create.digest_after);
  out.varint(create.seen.value);
  out.varint(create.name.size());
  out.raw(base::view_of(create.name));
  put_body(out, body);
  return out.take();
}

base::Bytes encode(const DropDatabase& drop) {
  CHECK(drop.name.size() <= kNameMax);
  base::Writer out;
  put_lead(out, EntryType::kDrop, false, 0);
  out.varint(drop.db.value);
  put_origin(out, drop.origin);
  out.varint(drop.name.size());
  out.raw(base::view_of(drop.name));
  return out.take();
}

base::Result<EntryType> entry_type(base::ByteView payload) {
  base::Reader in(payload);
  const std::uint8_t type = in.u8();
  if (!in.ok() || type < 1 || type > 5) return corrupt("unknown type " + std::to_string(type));
  return static_cast<EntryType>(type);
}

base::Result<TxHeader> decode_tx_header(base::ByteView payload) {
  auto frame = open_tx(payload);
  if (!frame) return frame.error();
  return frame->header;
}

base::Result<std::vector<RequestRecord>> decode_requests(base::ByteView payload) {
  HQL_ASSIGN(frame, open_tx(payload));
  if (frame.header.request_count == 0) return std::vector<RequestRecord>{};
  HQL_ASSIGN(body, frame.tail.load());
  base::Reader in(body);
  return decode_body_requests(in, frame.header.request_count);
}

base::Result<Tx> decode_tx(base::ByteView payload) {
  HQL_ASSIGN(frame, open_tx(payload));
  HQL_ASSIGN(body, frame.tail.load());
  base::Reader in(body);
  HQL_ASSIGN(requests, decode_body_requests(in, frame.header.request_count));
  HQL_ASSIGN(patches, last_patches(in, frame.header.page_size, frame.header.size_after));
  const bool counts = frame.header.part_count == 0 ? patches.size() == frame.header.patch_count
                                                   : patches.size() <= frame.header.patch_count;
  if (!counts) return corrupt("patch count does not match the header");
  Tx tx;
  tx.header = frame.header;
  tx.requests = std::move(requests);
  tx.patches = std::move(patches);
  return tx;
}

base::Result<TxPart> decode_tx_part(base::ByteView payload) {
  HQL_ASSIGN(frame, open_part(payload));
  HQL_ASSIGN(body, frame.tail.load());
  base::Reader in(body);
  HQL_ASSIGN(patches, decode_body_patches(in, 0));
  if (!in.at_end()) return corrupt("bytes behind the last patch");
  frame.part.patches = std::move(patches);
  return std::move(frame.part);
}

base::Result<TxPart> decode_tx_part_header(base::ByteView payload) {
  HQL_ASSIGN(frame, open_part(payload));
  return std::move(frame.part);
}

base::Result<TxAbort> decode_tx_abort(base::ByteView payload) {
  base::Reader in(payload);
  HQL_TRY(get_lead(in, EntryType::kTxAbort));
  TxAbort abort;
  abort.db = DatabaseId(in.varint());
  abort.origin = get_origin(in);
  abort.lease_term = base::Term(in.varint());
  abort.lease = base::LeaseId(in.varint());
  if (!in.at_end()) return corrupt("an abort is malformed");
  return abort;
}

base::Result<CreateDatabase> decode_create(base::ByteView payload) {
  base::Reader in(payload);
  HQL_ASSIGN(lead, get_lead(in, EntryType::kCreate));
  CreateDatabase create;
  create.page_size = lead.page_size;
  create.origin = get_origin(in);
  create.size_after = get_u32(in);
  create.digest_after = in.u64();
  create.seen = base::Index(in.varint());
  const std::uint64_t name_size = in.varint();
  if (name_size > kNameMax) return corrupt("a database name of " + std::to_string(name_size) + " bytes");
  create.name = std::string(base::text_of(in.raw(static_cast<std::size_t>(name_size))));
  const Tail tail = get_tail(in, lead.compressed);
  if (!in.ok()) return corrupt("ends inside the header of a creation");
  if (const auto valid = valid_database_name(create.name); !valid) return corrupt(valid.error().message);
  if (create.size_after == 0) return corrupt("a creation leaves no page");
  HQL_ASSIGN(body, tail.load());
  base::Reader body_in(body);
  HQL_ASSIGN(patches, last_patches(body_in, create.page_size, create.size_after));
  for (const Patch& patch : patches)
    if (patch.kind == PatchKind::kRuns) return corrupt("a creation patches a page that does not exist");
  create.initial = std::move(patches);
  return create;
}

base::Result<DropDatabase> decode_drop(base::ByteView payload) {
  base::Reader in(payload);
  HQL_TRY(get_lead(in, EntryType::kDrop));
  DropDatabase drop;
  drop.db = DatabaseId(in.varint());
  drop.origin = get_origin(in);
  const std::uint64_t name_size = in.varint();
  if (name_size > kNameMax) return corrupt("a database name of " + std::to_string(name_size) + " bytes");
  drop.name = std::string(base::text_of(in.raw(static_cast<std::size_t>(name_size))));
  if (!in.at_end()) return corrupt("a drop is malformed");
  if (const auto valid = valid_database_name(drop.name); !valid) return corrupt(valid.error().message);
  return drop;
}

}  // namespace pages
