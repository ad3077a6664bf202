// The table of fault points and what is armed (base/fault.h).
#include "base/fault.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <new>

#include "base/log.h"
#include "base/mutex.h"

namespace base {
namespace {

// All points, by folder. One row each: name, what is about to happen when it is passed.
const std::vector<FaultPointInfo>& table() {
  static const auto* const points = new std::vector<FaultPointInfo>{
      {"env.open", "a file of the node is opened"},
      {"env.read", "a file of the node is read"},
      {"env.write", "a file of the node is written"},
      {"env.sync", "a file of the node is synced"},
      {"env.remove", "a file of the node is removed"},
      {"env.rename", "a file of the node is renamed"},
      {"env.sync_dir", "a directory of the node is synced"},
      {"wal.write", "a batch is written to the log"},
      {"wal.sync", "the log is synced"},
      {"wal.recycle", "a log segment below the floors is recycled"},
      {"wal.prepare", "a slice of a ready log segment is zero-filled"},
      {"image.wal_room", "the place of a commit frame in a database's -wal is made sure of"},
      {"image.wal_write", "frames of a published transaction are written to a database's -wal"},
      {"image.wal_sync", "a database's -wal is synced"},
      {"image.db_sync", "a database's own file is synced, at the end of a backfill"},
      {"image.publish", "the frames are written, the wal-index header is not yet"},
      {"driver.take",
       "what the consensus core wants done is being done: its messages are on their way, its entries are not"},
      {"exec.batch", "the requests of a batch have run, their transaction is open"},
      {"image.wal_restart", "the salts of a new WAL are recorded, its header is not yet written"},
  };
  return *points;
}

enum class Action : std::uint8_t { kKill, kEio, kEnospc, kDelay, kOutOfMemory };

struct Armed {
  int point = 0;
  Action action = Action::kKill;
  std::int64_t delay_ms = 0;
  std::uint64_t first = 1;  // fires at hits first..last
  std::uint64_t last = UINT64_MAX;
};

struct Registry {
  Mutex mutex;
  std::vector<Armed> armed GUARDED_BY(mutex);
  std::vector<std::uint64_t> hits GUARDED_BY(mutex);
};

// Lets a point that nobody armed pass without the mutex.
std::atomic<bool> g_any_armed{false};

Registry& registry() {
  static Registry* const the = new Registry;
  return *the;
}

std::optional<int> find_point(std::string_view name) {
  const auto& points = table();
  for (std::size_t i = 0; i < points.size(); ++i)
    if (points[i].name == name) return static_cast<int>(i);
  return std::nullopt;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Cuts the next part off `rest`, up to `separator`.
std::string_view next_part(std::string_view& rest, char separator) {
  const std::size_t end = rest.find(separator);
  const std::string_view part = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return part;
}

Error bad_spec(std::string_view spec, const std::string& reason) {
  return make_error(Code::kConfig, "HQL_FAULT: \"" + std::string(spec) + "\": " + reason +
                                       "; expected point:kill|eio|enospc|oom|delay_ms=N[:nth[+]]");
}

Result<Armed> parse_one(std::string_view spec) {
  std::string_view rest = spec;
  const std::string_view name = next_part(rest, ':');
  const std::string_view action = next_part(rest, ':');
  std::string_view nth = rest;
  Armed armed;
  const auto point = find_point(name);
  if (!point) return bad_spec(spec, "no point \"" + std::string(name) + "\"");
  armed.point = *point;
  constexpr std::string_view kDelay = "delay_ms=";
  if (action == "kill") {
    armed.action = Action::kKill;
  } else if (action == "eio") {
    armed.action = Action::kEio;
  } else if (action == "enospc") {
    armed.action = Action::kEnospc;
  } else if (action == "oom") {
    armed.action = Action::kOutOfMemory;
  } else if (action.substr(0, kDelay.size()) == kDelay) {
    constexpr std::uint64_t kDelayMsMax = std::uint64_t{3600} * 1000;  // an hour: more is a typing error
    const auto delay = parse_number(action.substr(kDelay.size()));
    if (!delay || *delay > kDelayMsMax) return bad_spec(spec, "no delay of 0 to 3600000 ms");
    armed.action = Action::kDelay;
    armed.delay_ms = static_cast<std::int64_t>(*delay);
  } else {
    return bad_spec(spec, "no action \"" + std::string(action) + "\"");
  }
  if (nth.empty()) return armed;
  const bool ever_after = nth.back() == '+';
  if (ever_after) nth.remove_suffix(1);
  const auto number = parse_number(nth);
  if (!number || *number == 0) return bad_spec(spec, "no number from 1 on");
  armed.first = *number;
  if (!ever_after) armed.last = *number;
  return armed;
}

// HQL_FAULT is read when the first point is passed, once.
void arm_from_environment() {
  const char* const spec = std::getenv("HQL_FAULT");
  if (spec == nullptr || *spec == '\0') return;
  if (const Status armed = arm_faults(spec); !armed) {
    // A test that misspells its fault must not pass for want of it.
    log_error(to_string(armed.error()));
    std::abort();
  }
}

void sleep_ms(std::int64_t delay_ms) {
  struct timespec left {};
  left.tv_sec = static_cast<time_t>(delay_ms / 1000);
  left.tv_nsec = static_cast<long>(delay_ms % 1000) * 1000000;
  while (::nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

}  // namespace

Error Fault::error(const std::string& what) const {
  return kind == FaultKind::kEnospc ? make_error(Code::kFull, what + ": No space left on device (injected)")
                                    : make_error(Code::kIo, what + ": Input/output error (injected)");
}

const std::vector<FaultPointInfo>& fault_points() { return table(); }

Status arm_faults(std::string_view spec) {
  std::vector<Armed> parsed;
  std::string_view rest = spec;
  while (!rest.empty()) {
    HQL_ASSIGN(one, parse_one(next_part(rest, ',')));
    parsed.push_back(one);
  }
  Registry& faults = registry();
  const MutexLock lock(faults.mutex);
  faults.armed.insert(faults.armed.end(), parsed.begin(), parsed.end());
  faults.hits.assign(table().size(), 0);
  g_any_armed.store(!faults.armed.empty());
  return ok();
}

void disarm_faults() {
  Registry& faults = registry();
  const MutexLock lock(faults.mutex);
  faults.armed.clear();
  faults.hits.assign(table().size(), 0);
  g_any_armed.store(false);
}

void warn_of_unused_faults() {
#if !defined(HQL_FAULTS)
  if (std::getenv("HQL_FAULT") != nullptr)
    log_warn("HQL_FAULT is set, but this build has no fault points; the dev and tsan presets have");
#endif
}

std::uint64_t fault_hits(std::string_view name) {
  const auto point = find_point(name);
  if (!point) return 0;
  Registry& faults = registry();
  const MutexLock lock(faults.mutex);
  return faults.hits.empty() ? 0 : faults.hits[static_cast<std::size_t>(*point)];
}

int fault_position(std::string_view name) {
  static const bool from_environment = [] {
    arm_from_environment();
    return true;
  }();
  static_cast<void>(from_environment);
  const auto point = find_point(name);
  CHECK(point.has_value());
  return *point;
}

std::optional<Fault> pass_fault_point(int point) {
  if (!g_any_armed.load(std::memory_order_relaxed)) return std::nullopt;
  std::optional<Fault> fault;
  std::int64_t delay_ms = 0;
  bool out_of_memory = false;
  {
    Registry& faults = registry();
    const MutexLock lock(faults.mutex);
    if (faults.armed.empty()) return std::nullopt;
    const std::uint64_t hit = ++faults.hits[static_cast<std::size_t>(point)];
    for (const Armed& armed : faults.armed) {
      if (armed.point != point || hit < armed.first || hit > armed.last) continue;
      if (armed.action == Action::kKill) ::kill(::getpid(), SIGKILL);
      if (armed.action == Action::kDelay) delay_ms += armed.delay_ms;
      if (armed.action == Action::kOutOfMemory) out_of_memory = true;
      if (armed.action == Action::kEio) fault = Fault{FaultKind::kEio};
      if (armed.action == Action::kEnospc) fault = Fault{FaultKind::kEnospc};
    }
  }
  if (delay_ms > 0) sleep_ms(delay_ms);
  if (out_of_memory) throw std::bad_alloc();  // tidy: allow(throw) what an allocation does
  return fault;
}

}  // namespace base
