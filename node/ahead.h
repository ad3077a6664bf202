// A database that holds more than the log of its own node: after a power cut, with log_sync = "interval_<ms>" (DESIGN section 7), or when
// the log was damaged where the node was killed (R12). Pure.
#pragma once

#include <cstdint>
#include <string>

#include "base/entry.h"
#include "node/ledger.h"
#include "pages/image.h"

namespace node {

enum class AheadPolicy : std::uint8_t {
  kImpossible,  // log_sync = "immediate", and the log is whole: what the log does not know was written by somebody else
  kRebuild,     // members of a cluster: the database is made again from the log, of which the leader has what is lost
  kAdopt,       // alone: nobody knows better than the file
};

// What recovery does with such a database.
struct AheadRule {
  AheadPolicy policy = AheadPolicy::kImpossible;
  base::Origin origin;       // of adopting transactions
  std::string aside_suffix;  // of the names under which files are kept that are made again
};

// The payload of the transaction at `at` that makes `content` the state of `database`. kTooLarge: more than one entry holds.
base::Result<base::SharedBytes> adopting_transaction(const Ledger::Database& database, const pages::AheadOfLog& content,
                                                     base::LogId at, const base::Origin& origin);

}  // namespace node
