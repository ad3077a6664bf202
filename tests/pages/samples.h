// Entries and pages that the tests of pages/ share.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "pages/tx.h"

namespace pages_test {

inline base::Bytes bytes_of(const std::string& text) { return base::copy_of(base::view_of(text)); }

inline base::Bytes random_page(std::mt19937_64& random, std::size_t size) {
  base::Bytes page(size);
  for (std::byte& byte : page) byte = static_cast<std::byte>(random());
  return page;
}

inline base::Origin sample_origin() { return {base::Incarnation(0x1122334455667788ULL), 3, 300}; }

inline pages::Tx sample_tx() {
  pages::Tx tx;
  tx.header.db = base::DatabaseId(2);
  tx.header.parent = {base::Term(5), base::Index(1000)};
  tx.header.digest_before = 0x0102030405060708ULL;
  tx.header.digest_after = 0x8070605040302010ULL;
  tx.header.origin = sample_origin();
  tx.header.lease_term = base::Term(5);
  tx.header.lease = base::LeaseId(77);
  tx.header.page_size = 4096;
  tx.header.size_after = 9;
  tx.requests = {{sample_origin(), bytes_of("ok")}, {{base::Incarnation(9), 1, 2}, {}}};
  tx.header.request_count = 2;
  tx.patches.push_back({1, pages::PatchKind::kRuns, bytes_of(std::string("\x18\x02hi\x05\x01x", 7))});
  tx.patches.push_back({4, pages::PatchKind::kZeros,
                        bytes_of(std::string("\x00\x03"
                                             "abc",
                                             5))});
  tx.patches.push_back({9, pages::PatchKind::kFull, base::Bytes(4096, std::byte{0x5a})});
  tx.header.patch_count = 3;
  return tx;
}

inline pages::TxPart sample_part() {
  pages::TxPart part;
  part.db = base::DatabaseId(2);
  part.origin = sample_origin();
  part.lease_term = base::Term(5);
  part.lease = base::LeaseId(77);
  part.number = 12;
  part.patches = sample_tx().patches;
  return part;
}

inline pages::TxAbort sample_abort() {
  return {base::DatabaseId(2), sample_origin(), base::Term(5), base::LeaseId(77)};
}

inline pages::CreateDatabase sample_create() {
  pages::CreateDatabase create;
  create.name = "app.db";
  create.page_size = 4096;
  create.origin = sample_origin();
  create.initial.push_back({1, pages::PatchKind::kZeros, bytes_of(std::string("\x00\x06SQLite", 8))});
  create.size_after = 1;
  create.digest_after = 0xfeedfacecafebeefULL;
  create.seen = base::Index(300);
  return create;
}

inline pages::DropDatabase sample_drop() { return {base::DatabaseId(2), "app.db", sample_origin()}; }

inline bool same(const pages::Patch& a, const pages::Patch& b) {
  return a.page == b.page && a.kind == b.kind && a.body == b.body;
}
inline bool same(const std::vector<pages::Patch>& a, const std::vector<pages::Patch>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!same(a[i], b[i])) return false;
  return true;
}

}  // namespace pages_test
