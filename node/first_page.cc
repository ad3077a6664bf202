// Page 1 of an empty database.
#include "node/first_page.h"

#include "pages/sums.h"

namespace node {
namespace {

// An empty schema in the format that the oldest supported host understands; the number of the writing library is informative.
constexpr std::uint32_t kSchemaFormat = 4;
constexpr std::uint32_t kWriterVersion = 3035000;
constexpr std::byte kTableLeaf{0x0D};

}  // namespace

pages::CreateDatabase empty_database(const std::string& name, const base::Origin& origin, base::Index seen) {
  base::Bytes page(kDefaultPageSize);
  const std::string_view magic("SQLite format 3\0", 16);
  std::memcpy(page.data(), magic.data(), magic.size());
  page[16] = std::byte{kDefaultPageSize >> 8};
  page[18] = std::byte{2};   // write version: WAL
  page[19] = std::byte{2};   // read version: WAL
  page[21] = std::byte{64};  // payload fractions, fixed by the format
  page[22] = std::byte{32};
  page[23] = std::byte{32};
  base::store_be32(&page[24], 1);  // change counter
  base::store_be32(&page[28], 1);  // size in pages
  base::store_be32(&page[44], kSchemaFormat);
  base::store_be32(&page[56], 1);  // UTF-8
  base::store_be32(&page[92], 1);  // the change counter for which the size and the next field are valid
  base::store_be32(&page[96], kWriterVersion);
  page[100] = kTableLeaf;
  page[105] = std::byte{kDefaultPageSize >> 8};  // start of the cell content area: the end of the page

  pages::CreateDatabase create;
  create.name = name;
  create.page_size = kDefaultPageSize;
  create.origin = origin;
  create.seen = seen;
  create.size_after = 1;
  create.digest_after = pages::page_hash(1, page);
  create.initial.push_back(pages::make_patch(1, {}, page));
  return create;
}

}  // namespace node
