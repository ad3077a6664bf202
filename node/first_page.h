// The CreateDatabase entry of an empty database, for databases that a forwarded statement names first. Pure.
#pragma once

#include <string>

#include "pages/tx.h"

namespace node {

inline constexpr std::uint32_t kDefaultPageSize = 4096;

// Page 1 of an empty SQLite database in WAL mode: the 100-byte header (SQLite file format, section 1.3) and an empty table leaf.
pages::CreateDatabase empty_database(const std::string& name, const base::Origin& origin, base::Index seen);

}  // namespace node
