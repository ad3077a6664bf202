// Fault points: named places where a test makes the process die, a call fail, or time pass. Only in builds with HQL_FAULTS.
//   if (const auto fault = HQL_FAULT_POINT("wal.sync")) return fault->error("sync " + path);
// Armed by the environment, HQL_FAULT=<point>:<action>[:<nth>][,...], or by arm_faults():
//   action  kill          SIGKILL to this process, at once
//           eio, enospc   the point yields a Fault and its caller fails
//           delay_ms=N    the thread sleeps N ms, then goes on
//           oom           memory runs out there: std::bad_alloc leaves the point, and with it the task that passed it
//   nth     3             only the third time the point is passed (counted from arming)
//           3+            the third time and ever after; without nth: every time
// Every point stands in the one table of base/fault.cc: a new point is a row there. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace base {

enum class FaultKind : std::uint8_t { kEio, kEnospc };

struct Fault {
  FaultKind kind = FaultKind::kEio;
  // kIo or kFull; `what` is the operation that fails, such as "sync log/000001".
  [[nodiscard]] Error error(const std::string& what) const;
};

struct FaultPointInfo {
  std::string_view name;
  std::string_view meaning;
};
// The table, for docs, `hql_debug` and tests.
const std::vector<FaultPointInfo>& fault_points();
// Adds the faults of `spec`. Errors: kConfig naming the part that is wrong; nothing is then armed.
Status arm_faults(std::string_view spec);
void disarm_faults();
// How often a point was passed while any fault was armed; 0 for an unknown name. Arming and disarming set it to 0.
std::uint64_t fault_hits(std::string_view point);

// Says in the log that HQL_FAULT has no effect, where it is set and this build has no fault points: a test must not pass for want of them.
void warn_of_unused_faults();

// Behind the macro. May leave with std::bad_alloc. `point` comes from fault_position(), which CHECKs that the name is in the table.
int fault_position(std::string_view name);
std::optional<Fault> pass_fault_point(int point);

}  // namespace base

#if defined(HQL_FAULTS)
#define HQL_FAULT_POINT(name)                              \
  ([]() -> std::optional<::base::Fault> {                  \
    static const int point = ::base::fault_position(name); \
    return ::base::pass_fault_point(point);                \
  }())
#else
#define HQL_FAULT_POINT(name) (std::optional<::base::Fault>())
#endif
