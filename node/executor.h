// Executor: runs forwarded and local hql_* requests of one database in one transaction per batch (R1, DESIGN 5.3).
// Real: exec/ (SQLite through the shim). Simulated: small deterministic page edits (tests/sim).
// Requests and results are opaque here; exec/request.h is their format.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "vfs/gate.h"

namespace node {

struct ExecuteRequest {
  base::Origin origin;  // of the caller's node; unique (R7)
  base::Bytes body;     // exec/request.h
};

struct ExecuteResult {
  base::Origin origin;
  base::Result<base::Bytes> body = base::Bytes{};  // the answer (exec/request.h) or the request's own error
};

struct BatchResult {
  // kCommitted: one entry carried all; kNotApplied with no error and empty id: the batch changed nothing (no entry was made).
  vfs::Outcome outcome;
  bool changed = false;                // an entry was proposed
  base::LogId snapshot;                // last transaction of the database that the batch saw
  std::vector<ExecuteResult> results;  // one per request, same order; meaningful when committed or nothing changed
};

class Executor {
 public:
  virtual ~Executor() = default;
  // One batch at a time; takes the lease and WRITER by itself (through its gate). `done` on the loop lane.
  // The entry must carry a RequestRecord of at least one request of the batch: by it the node knows the proposal for a batch's, and lets
  // none through that was taken in an earlier term.
  virtual void run(std::vector<ExecuteRequest> batch, std::function<void(BatchResult)> done) = 0;
  // Between two batches, when requests wait already: passes through the executor's lane once, and calls `done` on the loop lane. No timer:
  // but callers who were just answered get to come back meanwhile, and the next batch has them too.
  virtual void pause(std::function<void()> done) = 0;
  // Rolls back a batch that has proposed nothing (a later term was seen, R7). A runaway statement is the executor's own to end.
  virtual void interrupt() = 0;
};

class ExecutorFactory {
 public:
  virtual ~ExecutorFactory() = default;
  // Called once per database on the loop lane; must not block (opening happens with the first batch).
  virtual std::unique_ptr<Executor> make(const std::string& database, base::DatabaseId id) = 0;
};

}  // namespace node
