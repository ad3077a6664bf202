// SimExecutor: node::Executor of the simulator. A request is a kind and an operation id; a write appends the id to the database, a read
// answers how many there are. Loop lane.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "node/executor.h"
#include "tests/sim/sim_image.h"

namespace sim {

enum class RequestKind : std::uint8_t { kWrite = 1, kRead = 2 };
base::Bytes encode_request(RequestKind kind, std::uint64_t op);

class SimExecutors final : public node::ExecutorFactory {
 public:
  SimExecutors(SimImages& images, base::Env& env, base::Lane& loop, base::Lane& sql, base::Micros timeout)
      : images_(images), env_(env), loop_(loop), sql_(sql), timeout_(timeout) {}
  std::unique_ptr<node::Executor> make(const std::string& database, base::DatabaseId id) override;

 private:
  friend class SimExecutor;
  SimImages& images_;
  base::Env& env_;
  base::Lane& loop_;
  base::Lane& sql_;
  const base::Micros timeout_;
};

}  // namespace sim
