// Fuzz target: the database group's entries (pages/tx.h). Whatever decodes keeps the limits of docs/FORMATS.md, "Entries", stays the same when
// it is encoded and decoded again, its metadata alone says the same, and its patches either apply or are refused.
#include <tuple>

#include "pages/sums.h"
#include "pages/tx.h"
#include "tests/fuzz/codec.h"

namespace {

using base::ByteView;

bool same(const std::vector<pages::Patch>& one, const std::vector<pages::Patch>& two) {
  return std::equal(one.begin(), one.end(), two.begin(), two.end(), [](const pages::Patch& a, const pages::Patch& b) {
    return a.page == b.page && a.kind == b.kind && a.body == b.body;
  });
}
bool same(const std::vector<pages::RequestRecord>& one, const std::vector<pages::RequestRecord>& two) {
  return std::equal(one.begin(), one.end(), two.begin(), two.end(),
                    [](const auto& a, const auto& b) { return a.origin == b.origin && a.result == b.result; });
}
auto fields(const pages::TxHeader& h) {
  return std::tie(h.db, h.parent, h.digest_before, h.digest_after, h.origin, h.lease_term, h.lease, h.page_size,
                  h.size_after, h.request_count, h.patch_count, h.part_count);
}
auto fields(const pages::TxPart& p) { return std::tie(p.db, p.origin, p.lease_term, p.lease, p.number); }
auto fields(const pages::TxAbort& a) { return std::tie(a.db, a.origin, a.lease_term, a.lease); }
auto fields(const pages::CreateDatabase& c) {
  return std::tie(c.name, c.page_size, c.origin, c.size_after, c.digest_after, c.seen);
}
auto fields(const pages::DropDatabase& d) { return std::tie(d.db, d.name, d.origin); }

// `page_size` 0: not known, any page takes the patch.
void check_patches(const std::vector<pages::Patch>& patches, std::uint32_t page_size, pages::PageNo size_after) {
  pages::PageNo previous = 0;
  for (const pages::Patch& patch : patches) {
    FUZZ_REQUIRE(patch.page > previous);
    previous = patch.page;
    if (page_size == 0) continue;
    FUZZ_REQUIRE(patch.page <= size_after);
    FUZZ_REQUIRE(patch.page != pages::lock_byte_page(page_size));
    base::Bytes image(page_size, std::byte{0xa5});
    const base::Status applied = pages::apply_patch(patch, image);
    FUZZ_REQUIRE(applied || applied.error().code == base::Code::kCorrupt);
  }
}

void check_tx(ByteView payload) {
  const auto tx = fuzz::check_stable(
      payload, pages::decode_tx, [](const pages::Tx& it) { return pages::encode(it); },
      [](const pages::Tx& one, const pages::Tx& two) {
        return fields(one.header) == fields(two.header) && same(one.requests, two.requests) &&
               same(one.patches, two.patches);
      });
  if (!tx) {
    FUZZ_REQUIRE(tx.error().code == base::Code::kCorrupt);
    return;
  }
  const auto header = pages::decode_tx_header(payload);
  FUZZ_REQUIRE(header && fields(*header) == fields(tx->header));
  const auto requests = pages::decode_requests(payload);
  FUZZ_REQUIRE(requests && same(*requests, tx->requests));
  FUZZ_REQUIRE(tx->requests.size() == tx->header.request_count);
  for (const auto& request : tx->requests) FUZZ_REQUIRE(request.result.size() <= pages::kRequestResultMax);
  if (tx->header.part_count == 0) FUZZ_REQUIRE(tx->patches.size() == tx->header.patch_count);
  check_patches(tx->patches, tx->header.page_size, tx->header.size_after);
  FUZZ_CANARY(tx->requests.size() == 1 && tx->requests[0].origin.sequence > 300);
}

}  // namespace

void fuzz::run(base::ByteView input) {
  check_tx(input);
  const auto part = check_stable(
      input, pages::decode_tx_part, [](const pages::TxPart& it) { return pages::encode(it); },
      [](const pages::TxPart& one, const pages::TxPart& two) {
        return fields(one) == fields(two) && same(one.patches, two.patches);
      });
  if (part) {
    const auto header = pages::decode_tx_part_header(input);
    FUZZ_REQUIRE(header && fields(*header) == fields(*part) && header->patches.empty());
    check_patches(part->patches, 0, 0);
  }
  const auto abort = check_stable(
      input, pages::decode_tx_abort, [](const pages::TxAbort& it) { return pages::encode(it); },
      [](const auto& one, const auto& two) { return fields(one) == fields(two); });
  const auto create = check_stable(
      input, pages::decode_create, [](const pages::CreateDatabase& it) { return pages::encode(it); },
      [](const auto& one, const auto& two) { return fields(one) == fields(two) && same(one.initial, two.initial); });
  if (create) {
    FUZZ_REQUIRE_OK(pages::valid_database_name(create->name));
    check_patches(create->initial, create->page_size, create->size_after);
  }
  const auto drop = check_stable(
      input, pages::decode_drop, [](const pages::DropDatabase& it) { return pages::encode(it); },
      [](const auto& one, const auto& two) { return fields(one) == fields(two); });
  if (drop) FUZZ_REQUIRE_OK(pages::valid_database_name(drop->name));
  const bool any = part || abort || create || drop;
  if (any) FUZZ_REQUIRE(static_cast<bool>(pages::entry_type(input)));
}

std::vector<fuzz::Seed> fuzz::seeds() {
  const base::Origin origin{base::Incarnation(0x1122334455667788), 3, 300};
  base::Bytes page(512);
  for (std::size_t i = 0; i < page.size(); ++i) page[i] = static_cast<std::byte>(i / 7);
  base::Bytes changed = page;
  changed[5] = std::byte{1};
  changed[400] = std::byte{2};
  pages::Tx tx;
  tx.header = {base::DatabaseId(2),
               {base::Term(5), base::Index(1000)},
               1,
               2,
               origin,
               base::Term(5),
               base::LeaseId(77),
               512,
               9,
               1,
               2,
               0};
  tx.requests = {{origin, base::copy_of(base::view_of("ok"))}};
  tx.patches = {pages::make_patch(3, page, changed), pages::make_patch(9, {}, changed)};
  pages::Tx small = tx;
  small.header.patch_count = 1;
  small.patches.pop_back();
  pages::Tx final_part = tx;
  final_part.header.part_count = 2;
  final_part.header.request_count = 0;
  final_part.requests.clear();
  final_part.header.patch_count = 5;
  const pages::TxPart part{base::DatabaseId(2), origin, base::Term(5), base::LeaseId(77), 1, tx.patches};
  const pages::TxAbort abort{base::DatabaseId(2), origin, base::Term(5), base::LeaseId(77)};
  const pages::CreateDatabase create{"app.db", 512, origin, {pages::make_patch(1, {}, page)}, 1, 42, base::Index{7}};
  const pages::DropDatabase drop{base::DatabaseId(2), "app.db", origin};
  return {{"valid-tx", pages::encode(tx)},
          {"valid-tx-small", pages::encode(small)},
          {"valid-tx-final", pages::encode(final_part)},
          {"valid-part", pages::encode(part)},
          {"valid-abort", pages::encode(abort)},
          {"valid-create", pages::encode(create)},
          {"valid-drop", pages::encode(drop)}};
}
