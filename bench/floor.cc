// hiqlite_floor: how fast a commit on the disks of two processes of this machine can be at all, beside a commit of local SQLite. No Raft, no
// patches, no threads: each transaction is
//
//   leader                                                   follower
//   INSERT (WAL, synchronous=OFF: SQLite's own work)
//   send 512 bytes ----------------------------------------> receive
//   write 4 KiB, fdatasync                                    write 4 KiB, fdatasync
//   receive <------------------------------------------------ send 64 bytes
//
// Sizes are those of the benchmark's rows. What hiqlite_bench reaches is to be read against this.
//   hiqlite_floor [--seconds S] [--rounds N] [--dir D]
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sqlite3.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kBlock = 4096;
constexpr std::size_t kBlocks = 2048;  // of a log, written round and round
constexpr std::size_t kEntrySize = 512;
constexpr std::size_t kAnswerSize = 64;

[[noreturn]] void die(const std::string& text) {
  std::fprintf(stderr, "hiqlite_floor: %s: %s\n", text.c_str(), std::strerror(errno));
  std::exit(1);
}

// A preallocated file whose blocks are overwritten, as those of a log segment are.
class Log {
 public:
  explicit Log(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600)) {
    if (fd_ < 0) die(path);
    for (std::size_t i = 0; i < kBlocks; ++i) write_next();
    if (::fdatasync(fd_) != 0) die("fdatasync");
  }
  ~Log() { ::close(fd_); }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  void append() {
    write_next();
    if (::fdatasync(fd_) != 0) die("fdatasync");
  }

 private:
  void write_next() {
    const auto offset = static_cast<off_t>(kBlock * (next_++ % kBlocks));
    if (::pwrite(fd_, block_.data(), kBlock, offset) != static_cast<ssize_t>(kBlock)) die("pwrite");
  }

  const int fd_;
  std::size_t next_ = 0;
  std::array<char, kBlock> block_{};
};

void send_bytes(int fd, std::size_t size) {
  static const std::array<char, kEntrySize> bytes{};
  if (::send(fd, bytes.data(), size, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) die("send");
}

// False: the other end is closed.
bool receive_bytes(int fd, std::size_t size) {
  std::array<char, kEntrySize> bytes{};
  return ::recv(fd, bytes.data(), size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

int tcp() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  return fd;
}

void no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

[[noreturn]] void follow(const sockaddr_in& leader, const std::string& path) {
  const int fd = tcp();
  no_delay(fd);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&leader), sizeof leader) != 0) die("connect");
  Log log(path);
  while (receive_bytes(fd, kEntrySize)) {
    log.append();
    send_bytes(fd, kAnswerSize);
  }
  std::_Exit(0);
}

class Database {
 public:
  Database(const std::string& path, const char* synchronous) {
    const std::string setup = std::string("PRAGMA journal_mode=WAL; PRAGMA synchronous=") + synchronous +
                              "; CREATE TABLE b(id INTEGER PRIMARY KEY, k INTEGER, v TEXT)";
    check(sqlite3_open(path.c_str(), &db_));
    check(sqlite3_exec(db_, setup.c_str(), nullptr, nullptr, nullptr));
    check(sqlite3_prepare_v2(db_, "INSERT INTO b(k, v) VALUES (?1, 'a value of about forty characters, as rows are')",
                             -1, &insert_, nullptr));
  }
  void insert() {
    sqlite3_bind_int64(insert_, 1, ++key_);
    if (sqlite3_step(insert_) != SQLITE_DONE) check(sqlite3_errcode(db_));
    sqlite3_reset(insert_);
  }

 private:
  void check(int rc) const {
    if (rc == SQLITE_OK) return;
    std::fprintf(stderr, "hiqlite_floor: %s\n", sqlite3_errmsg(db_));
    std::exit(1);
  }
  sqlite3* db_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
  sqlite3_int64 key_ = 0;
};

// Microseconds of one `operation`, over about `seconds`.
double micros(double seconds, const std::function<void()>& operation) {
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  long count = 0;
  for (; Clock::now() < end; ++count) operation();
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count() / static_cast<double>(count);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int count, char** words) {
  double seconds = 0.5;
  int rounds = 9;
  std::string dir;
  for (int i = 1; i < count; i += 2) {
    const std::string word = words[i];
    if (word == "--help" || i + 1 >= count || (word != "--seconds" && word != "--rounds" && word != "--dir")) {
      std::printf("usage: hiqlite_floor [--seconds S] [--rounds N] [--dir D]\n");
      return word == "--help" ? 0 : 2;
    }
    if (word == "--seconds") seconds = std::atof(words[i + 1]);
    if (word == "--rounds") rounds = std::max(1, std::atoi(words[i + 1]));
    if (word == "--dir") dir = words[i + 1];
  }
  const bool own_dir = dir.empty();
  if (own_dir) {
    char path[] = "/var/tmp/hiqlite-floor.XXXXXX";  // a disk, where /tmp may be memory
    if (::mkdtemp(path) == nullptr) die(path);
    dir = path;
  }

  const int listener = tcp();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener, 1) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    die("listen");
  const pid_t follower = ::fork();
  if (follower < 0) die("fork");
  if (follower == 0) follow(address, dir + "/follower.log");
  const int fd = ::accept(listener, nullptr, nullptr);
  if (fd < 0) die("accept");
  no_delay(fd);

  Log log(dir + "/leader.log");
  Database local(dir + "/local.db", "FULL");
  Database unsynced(dir + "/unsynced.db", "OFF");
  std::vector<double> locals;
  std::vector<double> pairs;
  std::vector<double> syncs;
  for (int round = 0; round < rounds; ++round) {
    locals.push_back(micros(seconds, [&] { local.insert(); }));
    pairs.push_back(micros(seconds, [&] {
      unsynced.insert();
      send_bytes(fd, kEntrySize);
      log.append();
      if (!receive_bytes(fd, kAnswerSize)) die("the follower has gone");
    }));
    syncs.push_back(micros(seconds, [&] { log.append(); }));
  }
  ::close(fd);
  ::waitpid(follower, nullptr, 0);
  std::printf("local commit %4.0f us   write and sync %4.0f us   floor of two processes %4.0f us   ratio %.2f\n",
              median(locals), median(syncs), median(pairs), median(locals) / median(pairs));
  if (own_dir)
    for (const char* name : {"leader.log", "follower.log", "local.db", "local.db-wal", "local.db-shm", "unsynced.db",
                             "unsynced.db-wal", "unsynced.db-shm", ""})
      ::remove((dir + "/" + name).c_str());
  return 0;
}
