// Recovery: at start-up, joins what the log, the meta file and the databases say (DESIGN section 7): finds each database's position by digest
// and prepares the ledger and the applier from there. Blocking, before the lanes run.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "node/ahead.h"
#include "node/ledger.h"
#include "node/meta.h"
#include "pages/image.h"
#include "raft/core.h"
#include "wal/log.h"

namespace node {

struct OpenedDatabase {
  Ledger::Database database;
  std::unique_ptr<pages::DatabaseImage> image;  // null: `error` says why
  pages::ImageState state = pages::ImageState::kOk;
  base::LogId applied;
  base::Error error;
};

struct RecoveredNode {
  raft::Restored restored;  // for the core; restored.applied is everything known to be committed
  Ledger ledger;            // at restored.applied
  std::vector<OpenedDatabase> databases;
  std::vector<Decision> decisions;    // up to restored.applied, in order, for the applier
  std::vector<std::string> warnings;  // databases that were ahead of the log, and what was done with them
};

// R12: what damage has taken from the log counts for the votes of the core that goes on, or begins, with what is left.
void limit_votes(const wal::Opened& opened, raft::Restored& restored);

// Errors: kCorrupt, kIo of the log. A database that cannot be opened is in the result with its error; the node starts without it.
// A database that is ahead of the log is treated by `ahead`; adopting appends to the log.
base::Result<RecoveredNode> recover_node(wal::Opened& opened, const Meta& meta, pages::ImageFactory& images,
                                         const AheadRule& ahead);

}  // namespace node
