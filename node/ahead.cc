// The adopting transaction (ahead.h): full images of all pages that the log may know otherwise.
#include "node/ahead.h"

namespace node {

base::Result<base::SharedBytes> adopting_transaction(const Ledger::Database& database, const pages::AheadOfLog& content,
                                                     base::LogId at, const base::Origin& origin) {
  constexpr std::size_t kPatchOverhead = 16;
  if (content.changed.size() > pages::kTxPatchBytesMax / (database.page_size + kPatchOverhead))
    return base::make_error(base::Code::kTooLarge, "database " + database.name + " is ahead of the log by " +
                                                       std::to_string(content.changed.size()) +
                                                       " pages, more than one entry holds; hql_import() adopts a copy "
                                                       "of the file under a new name");
  pages::Tx tx;
  tx.header.db = database.id;
  tx.header.parent = database.last;
  tx.header.digest_before = database.digest;
  tx.header.digest_after = content.digest;
  tx.header.origin = origin;
  tx.header.lease_term = at.term;
  tx.header.page_size = database.page_size;
  tx.header.size_after = content.size;
  tx.header.patch_count = static_cast<std::uint32_t>(content.changed.size());
  for (const pages::PageNo page : content.changed) {
    base::Bytes image(database.page_size);
    HQL_TRY(content.read(page, image));
    tx.patches.push_back({page, pages::PatchKind::kFull, std::move(image)});
  }
  return base::share(pages::encode(tx));
}

}  // namespace node
